"""`Step`: the base of everything that a scenario does, and the interfaces between steps and the player.

A step is a frozen dataclass. In a scenario file its verb names its kind and carries its first field, and its other
fields are its keys: `{ press = "door", at = 1.0 }` is `Press("door", at=1.0)`. Before a scenario begins, each step is
prepared for the board: names are looked up then, so that a misspelt one is an error at once and not after an hour.
"""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from firmware_sim import SimBoard
from hwloop.testing.scenario.errors import KeyProblem, Place
from hwloop.testing.scenario.times import Seconds, check_duration, is_duration
from hwloop.testing.scenario.trail import Trail

Begin = Callable[[], float | None]
"""Makes a step, with the board's lock held. Returns the seconds for which it goes on beside the next ones, if any."""


class Program(Protocol):
    """The program under test, as far as a scenario acts on it."""

    def send_signal(self, number: int) -> None:
        """Send it a signal."""


@dataclass
class Stage:
    """Everything that steps act on.

    Attributes:
        board: the simulated board.
        trail: what has happened on it, for expectations.
        directory: where the relative paths of the scenario begin.
        program: the program, where the scenario may end it.
        ended: whether the scenario has ended, and with it everything that its steps have planned.
        failed: called where a planned action fails.
    """

    board: SimBoard
    trail: Trail
    directory: Path
    program: Program | None = None
    ended: bool = False
    failed: Callable[[Step, BaseException], object] | None = None

    def at(self, step: Step, when_ns: int, action: Callable[[], object]) -> None:
        """Plan an action of a step that has begun. Nothing happens if the scenario has ended by then."""

        def act() -> None:
            if self.ended:
                return
            try:
                action()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                if self.failed is None:
                    raise
                self.failed(step, error)

        self.board.timeline.at(when_ns, act)


class Check(ABC):
    """A prepared expectation, which the player asks again and again.

    Attributes:
        polls: whether it may be met without an event on the board.
    """

    polls: bool = False

    @abstractmethod
    def begin(self, now_ns: int) -> None:
        """Begin to look at the board, at this time."""

    @abstractmethod
    def is_met(self, until_ns: int) -> bool:
        """Return whether the expectation is met by what happened until then (ns, the board's clock)."""

    def settle(self) -> None:
        """Take the events by which it was met away from the expectations that follow."""

    @abstractmethod
    def instead(self) -> str:
        """Return what happened instead."""


@dataclass(frozen=True)
class Step(ABC):
    """One entry of a scenario.

    Parameters:
        at: the time at which it begins, in seconds since the scenario began.
        after: seconds from the step before, which has begun then, or was met if it is an expectation.
    """

    verb: ClassVar[str] = ""
    """Its name in scenario files."""

    at: Seconds | None = field(default=None, kw_only=True)
    after: Seconds | None = field(default=None, kw_only=True)
    place: Place | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for name in keys_of(type(self)).values():
            value = getattr(self, name.name)
            if value is not None and is_duration(hints[name.name]):
                try:
                    check_duration(value)
                except ValueError as error:
                    raise KeyProblem(name.name, str(error)) from None
        if self.at is not None and self.after is not None:
            raise KeyProblem("after", "a step has 'at' or 'after', not both")
        self.check()

    def check(self) -> None:
        """Raise `KeyProblem` for fields that make no sense together."""

    @abstractmethod
    def describe(self) -> str:
        """Return the step in words, for reports: "press door"."""


@dataclass(frozen=True)
class Act(Step):
    """A step that acts on the board or the program."""

    @abstractmethod
    def prepare(self, stage: Stage) -> Begin:
        """Look up names, and return the function that makes the step. Raises `KeyProblem`."""


@dataclass(frozen=True)
class Expectation(Step):
    """A step that compares what happens with what should.

    Parameters:
        within: seconds that it leaves for that; by default those of the scenario.
    """

    within: Seconds | None = field(default=None, kw_only=True)

    @abstractmethod
    def prepare(self, stage: Stage) -> Check:
        """Look up names, and return the check. Raises `KeyProblem`."""

    def lasting(self) -> float:
        """Return the seconds for which it must stay met."""
        return 0.0


def keys_of(kind: type[Step]) -> dict[str, dataclasses.Field[typing.Any]]:
    """Return the fields of a kind of step by their keys in a scenario file: that of the first field is the verb."""
    fields = [each for each in dataclasses.fields(kind) if each.name != "place"]
    subject = next(each for each in fields if not each.kw_only)
    return {kind.verb: subject, **{each.name: each for each in fields if each is not subject}}
