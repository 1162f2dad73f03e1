"""The course of a scenario: which step begins when, and when an expectation is met or has failed.

A course is a generator. It yields each pause that it makes, with the time at which it goes on, and is resumed then, or
earlier by a change on the board if it waits for one. So it knows no thread and no loop, and reads from top to bottom.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from firmware_sim.timeline import Timeline
from hwloop.testing.scenario.control_steps import AnyOrder, Repeat, Wait
from hwloop.testing.scenario.errors import KeyProblem, ScenarioError
from hwloop.testing.scenario.result import Played, Result
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.step import Act, Begin, Check, Expectation, Stage, Step
from hwloop.testing.scenario.times import duration_text

_POLLS = 50
_SHORTEST_POLL_NS, _LONGEST_POLL_NS = 1_000_000, 100_000_000
"""Between two looks at a part's value, which may change without an event: a part of the time, within these bounds."""


_PATIENCE_NS = 1_000_000_000
"""For so long a failed expectation is watched, in case that it is met late."""


class Pause(NamedTuple):
    """A pause of the course."""

    until_ns: int
    """The time at which it ends (the board's clock)."""
    for_change: bool = False
    """Whether a change on the board ends it too."""


class StepFailed(Exception):
    """Ends the course: a step has failed, which the result says."""


@dataclass(frozen=True)
class Prepared:
    """A step for which everything is looked up on a board."""

    step: Step
    begin: Begin | None = None
    checks: Sequence[tuple[Expectation, Check]] = ()
    inner: Sequence[Prepared] = ()


def prepare(scenario: Scenario, stage: Stage) -> list[Prepared]:
    """Look up everything that the steps of a scenario name. Raises `ScenarioError`."""
    return [_prepare(step, stage, f"{scenario.title}: step {number}") for number, step in enumerate(scenario.steps, 1)]


def _prepare(step: Step, stage: Stage, name: str) -> Prepared:
    try:
        if isinstance(step, Act):
            return Prepared(step, begin=step.prepare(stage))
        if isinstance(step, Expectation):
            return Prepared(step, checks=[(step, step.prepare(stage))])
    except KeyProblem as problem:
        if step.place is not None:
            raise step.place.error(problem.key, problem.message) from problem
        raise ScenarioError(f"{name} ({step.describe()}): {problem}") from problem
    if isinstance(step, AnyOrder):
        each = [_prepare(inner, stage, name) for inner in step.expectations]
        return Prepared(step, checks=[check for prepared in each for check in prepared.checks])
    if isinstance(step, Repeat):
        return Prepared(
            step, inner=[_prepare(inner, stage, f"{name}.{number}") for number, inner in enumerate(step.steps, 1)]
        )
    return Prepared(step)


class Course:
    """The course of one scenario.

    Attributes:
        under_way: the step that is under way; None between two.
        lasts_until_ns: when everything that the steps have begun is over.
    """

    def __init__(self, scenario: Scenario, stage: Stage, result: Result) -> None:
        self.under_way: Step | None = None
        self.lasts_until_ns: int = 0
        self._scenario = scenario
        self._stage = stage
        self._timeline: Timeline = stage.board.timeline
        self._result = result
        self._steps = prepare(scenario, stage)
        self._begun_ns = 0

    def play(self) -> Generator[Pause, None, None]:
        """Play all steps. Raises `StepFailed`."""
        yield from self._play_steps(self._steps, self._timeline.moment_ns())
        if self.lasts_until_ns >= self._timeline.moment_ns():
            yield Pause(self.lasts_until_ns)
            yield Pause(self.lasts_until_ns)  # after everything else that is planned for this moment
        self._result.complete = True

    def fail(self, step: Step, problem: str, instead: str = "", when_ns: int | None = None) -> StepFailed:
        """Note that a step has failed, now or at `when_ns`, and return the exception that ends the course."""
        now_ns = self._timeline.moment_ns() if when_ns is None else when_ns
        begun_ns = self._begun_ns if step is self.under_way else now_ns
        self._result.note(Played(step, begun_ns, now_ns, problem, instead))
        return StepFailed(problem)

    def abandon(self) -> None:
        """Note that the scenario ends in the middle of the step that is under way."""
        if self.under_way is not None:
            now_ns = self._timeline.moment_ns()
            self._result.note(Played(self.under_way, self._begun_ns, now_ns, done=False))

    def _play_steps(self, steps: Sequence[Prepared], origin_ns: int) -> Generator[Pause, None, None]:
        before_ns = origin_ns
        for prepared in steps:
            step, now_ns = prepared.step, self._timeline.moment_ns()
            when_ns = now_ns
            if step.at is not None:
                when_ns = origin_ns + round(step.at * 1e9)
            elif step.after is not None:
                when_ns = max(now_ns, before_ns + round(step.after * 1e9))
            if when_ns < now_ns:
                self.under_way, self._begun_ns = step, when_ns
                late = duration_text((now_ns - when_ns) / 1e9)
                raise self.fail(step, f"due {late} ago, but the step before it has ended only now; 'after' counts from "
                                "then")  # fmt: skip
            if when_ns > now_ns:
                yield Pause(when_ns)
            before_ns = yield from self._play_step(prepared, when_ns)

    def _play_step(self, prepared: Prepared, now_ns: int) -> Generator[Pause, None, int]:
        """Play a step, and return the time from which the next one counts."""
        step = prepared.step
        self.under_way, self._begun_ns = step, now_ns
        after_ns = now_ns
        if isinstance(step, Repeat):
            yield from self._repeat(step, prepared.inner, now_ns)
            return self._timeline.moment_ns()
        if isinstance(step, Wait):
            yield Pause(now_ns + round(step.duration * 1e9))
            after_ns = self._timeline.moment_ns()
        elif prepared.begin is not None:
            self._stage.trail.begin_anew()
            lasting_ns = round((prepared.begin() or 0.0) * 1e9)
            self.lasts_until_ns = max(self.lasts_until_ns, now_ns + lasting_ns)
        else:
            yield from self._expect(step, prepared.checks, now_ns)
            after_ns = self._timeline.moment_ns()
        self._result.note(Played(step, now_ns, after_ns))
        self.under_way = None
        return after_ns

    def _repeat(self, step: Repeat, steps: Sequence[Prepared], now_ns: int) -> Generator[Pause, None, None]:
        start_ns = now_ns
        for turn in range(step.times):
            if turn:
                start_ns = self._timeline.moment_ns()
                if step.every is not None:
                    due_ns = now_ns + round(turn * step.every * 1e9)
                    if due_ns < start_ns:
                        late = duration_text((start_ns - due_ns) / 1e9)
                        raise self.fail(
                            step, f"turn {turn + 1} was due {late} ago, but the one before has ended only now"
                        )
                    start_ns = due_ns
                    yield Pause(start_ns)
            yield from self._play_steps(steps, start_ns)

    def _expect(
        self, step: Step, checks: Sequence[tuple[Expectation, Check]], now_ns: int
    ) -> Generator[Pause, None, None]:
        left = [(check, now_ns + self._within_ns(expected), expected) for expected, check in checks]
        self._result.expectations += len(left)
        for check, _, _ in left:
            check.begin(now_ns)
        while left := [entry for entry in left if not entry[0].is_met(entry[1])]:
            moment_ns = self._timeline.moment_ns()
            check, deadline_ns, expected = min(left, key=lambda entry: entry[1])
            if moment_ns > deadline_ns:
                yield from self._fail_late(step if len(checks) == 1 else expected, expected, check, deadline_ns)
            # The deadline itself is in time, and at each moment the program's turn comes after the board's.
            yield self._look(deadline_ns + 1, moment_ns, [check for check, _, _ in left])
        met_ns = self._timeline.moment_ns()
        for expected, check in checks:
            check.settle()
            if lasting := expected.lasting():
                yield from self._hold(step, check, met_ns, met_ns + round(lasting * 1e9))

    def _fail_late(
        self, step: Step, expected: Expectation, check: Check, deadline_ns: int
    ) -> Generator[Pause, None, None]:
        """Fail, but look for a little longer: how late an expectation is met explains more than that it was not."""
        instead, end_ns = check.instead(), deadline_ns + _PATIENCE_NS
        while (moment_ns := self._timeline.moment_ns()) <= end_ns:
            if check.is_met(end_ns):
                instead += f"; it was met {duration_text((moment_ns - deadline_ns) / 1e9)} too late"
                break
            yield self._look(end_ns + 1, moment_ns, [check])
        problem = f"not met within {duration_text(self._within_ns(expected) / 1e9)}"
        raise self.fail(step, problem, instead, deadline_ns)

    def _hold(self, step: Step, check: Check, met_ns: int, end_ns: int) -> Generator[Pause, None, None]:
        """Wait until the end of the time for which an expectation must stay met."""
        while (moment_ns := self._timeline.moment_ns()) <= end_ns:
            if not check.is_met(end_ns):
                held = duration_text((moment_ns - met_ns) / 1e9)
                raise self.fail(step, f"not so any more after {held}", check.instead())
            yield self._look(end_ns + 1, moment_ns, [check])

    def _look(self, until_ns: int, moment_ns: int, checks: Sequence[Check]) -> Pause:
        """Return the pause until the next look at the board."""
        if any(check.polls for check in checks):
            pause_ns = min(max((until_ns - moment_ns) // _POLLS, _SHORTEST_POLL_NS), _LONGEST_POLL_NS)
            until_ns = min(until_ns, moment_ns + pause_ns)
        return Pause(until_ns, for_change=True)

    def _within_ns(self, expected: Expectation) -> int:
        return round((self._scenario.within if expected.within is None else expected.within) * 1e9)
