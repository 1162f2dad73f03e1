"""The result of playing a scenario."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

from firmware_sim.trace import Trace
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.step import Step

KEPT = 1000
"""The last steps that a result lists."""


@dataclass(frozen=True)
class Played:
    """A step that was played.

    Attributes:
        step: the step.
        begun_ns, ended_ns: when it began, and when it was met or failed (the board's clock).
        problem: why it failed; empty if it did not.
        done: whether it had ended when the scenario did.
        instead: what happened instead of what was expected.
    """

    step: Step
    begun_ns: int
    ended_ns: int
    problem: str = ""
    instead: str = ""
    done: bool = True


@dataclass
class Result:
    """The result of playing a scenario.

    Attributes:
        scenario: the scenario.
        played: the last steps that were played, at most 1000.
        steps, expectations: how many were played.
        start_ns, end_ns: when it began and ended (the board's clock).
        failure: the step that failed; None if none did.
        complete: whether all steps were played.
        recent: the events of the last seconds.
    """

    scenario: Scenario
    played: collections.deque[Played] = field(default_factory=lambda: collections.deque(maxlen=KEPT))
    steps: int = 0
    expectations: int = 0
    start_ns: int = 0
    end_ns: int = 0
    failure: Played | None = None
    complete: bool = False
    recent: Trace = field(default_factory=Trace)

    @property
    def passed(self) -> bool:
        """Whether all steps were played, and all expectations met."""
        return self.complete and self.failure is None

    def note(self, played: Played) -> None:
        """Add a step."""
        self.steps += 1
        self.played.append(played)
        if played.problem:
            self.failure = played
