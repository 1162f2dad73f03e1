"""Steps that control the course of a scenario: wait, repeat, any_order, and stop, which ends the program."""

from __future__ import annotations

import functools
import signal
from dataclasses import dataclass, field
from typing import ClassVar

from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.step import Act, Begin, Expectation, Stage, Step
from hwloop.testing.scenario.times import Seconds, duration_text


@dataclass(frozen=True)
class Wait(Step):
    """Let time pass.

    Parameters:
        duration: seconds.
    """

    verb: ClassVar[str] = "wait"
    duration: Seconds

    def describe(self) -> str:
        return f"wait {duration_text(self.duration)}"


@dataclass(frozen=True)
class Repeat(Step):
    """Make steps several times. Their `at` counts from the beginning of each turn.

    Parameters:
        times: how often.
        steps: the steps.
        every: seconds from the beginning of one turn to that of the next; by default a turn begins when the one
            before has ended.
    """

    verb: ClassVar[str] = "repeat"
    times: int
    steps: list[Step] = field(kw_only=True)
    every: Seconds | None = field(default=None, kw_only=True)

    def check(self) -> None:
        if self.times < 1:
            raise KeyProblem("repeat", f"must be 1 or more, not {self.times}")
        _check_steps("steps", self.steps)

    def describe(self) -> str:
        return f"repeat {self.times} times"


@dataclass(frozen=True)
class AnyOrder(Step):
    """Expect several things in any order. (Expectations that follow each other must be met in their order.)

    Parameters:
        expectations: the expectations. Each has its own time.
    """

    verb: ClassVar[str] = "any_order"
    expectations: list[Step]

    def check(self) -> None:
        _check_steps("any_order", self.expectations)
        for each in self.expectations:
            if not isinstance(each, Expectation):
                raise KeyProblem("any_order", f"has expectations only, not {each.verb!r}")
            if each.at is not None or each.after is not None:
                raise KeyProblem("any_order", "all of them begin at once; 'at' and 'after' have no place here")
            if each.lasting():
                raise KeyProblem("any_order", "an expectation that lasts ('holds', 'during') has no place here")

    def describe(self) -> str:
        return "in any order: " + "; ".join(each.describe() for each in self.expectations)


@dataclass(frozen=True)
class Stop(Act):
    """End the program by a signal, as a service manager or Ctrl-C does.

    Parameters:
        signal: "SIGTERM", "SIGINT" or "SIGHUP".
    """

    verb: ClassVar[str] = "stop"
    signal: str

    def check(self) -> None:
        if self.signal not in ("SIGTERM", "SIGINT", "SIGHUP"):
            raise KeyProblem("stop", f"must be 'SIGTERM', 'SIGINT' or 'SIGHUP', not {self.signal!r}")

    def describe(self) -> str:
        return f"stop the program by {self.signal}"

    def prepare(self, stage: Stage) -> Begin:
        program = stage.program
        if program is None:
            raise KeyProblem("stop", "is for hwloop sim; here the program is a part of the test, which can end it")
        number = signal.Signals[self.signal]

        return functools.partial(program.send_signal, number)


def _check_steps(key: str, steps: list[Step]) -> None:
    if not steps:
        raise KeyProblem(key, "must have at least one step")
