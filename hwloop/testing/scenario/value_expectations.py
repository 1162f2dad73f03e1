"""Expectations of values of parts, levels of lines, and edges."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.step import Check, Expectation, Stage
from hwloop.testing.scenario.times import Seconds, duration_text
from hwloop.testing.scenario.trail import Trail
from hwloop.trace_events import LineChange


@dataclass(frozen=True)
class Expect(Expectation):
    """Expect that a value of a part, or the level of a line, is or becomes right.

    Parameters:
        target: the value or line: "lamp.lit", "line 27".
        equals: its value; true by default for values that are true or false.
        above, below: limits of its value.
        holds: seconds for which it must then stay right.
    """

    verb: ClassVar[str] = "expect"
    target: str
    equals: bool | int | float | str | None = field(default=None, kw_only=True)
    above: float | None = field(default=None, kw_only=True)
    below: float | None = field(default=None, kw_only=True)
    holds: Seconds = field(default=0.0, kw_only=True)

    def check(self) -> None:
        if self.equals is not None and (self.above is not None or self.below is not None):
            raise KeyProblem("equals", "a value has 'equals', or limits ('above', 'below'), not both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise KeyProblem("above", f"must be less than 'below', which is {self.below:g}, not {self.above:g}")

    def lasting(self) -> float:
        return self.holds

    def describe(self) -> str:
        if self.above is None and self.below is None:
            right = f"is {targets.value_text(True if self.equals is None else self.equals)}"
        else:
            limits = (("above", self.above), ("below", self.below))
            right = "is " + " and ".join(f"{name} {limit:g}" for name, limit in limits if limit is not None)
        held = f" and stays so for {duration_text(self.holds)}" if self.holds else ""
        return f"expect {self.target} {right}{held}"

    def prepare(self, stage: Stage) -> Check:
        try:
            value = targets.find_value(stage.board, self.target)
        except ValueError as error:
            raise KeyProblem("expect", str(error)) from error
        now: object = None
        with contextlib.suppress(Exception):  # it may not be there yet
            now = value.read()
        if self.equals is None and self.above is None and self.below is None:
            if value.line is not None:
                raise KeyProblem("expect", f"{self.target} is 0 or 1; write equals = 1")
            if now is not None and not isinstance(now, bool):
                raise KeyProblem(
                    "expect",
                    f"{self.target} is {targets.value_text(now)} now; write equals = …, above = … or below = …",
                )
        if self.equals is not None and now is not None and not _comparable(now, self.equals):
            raise KeyProblem(
                "equals",
                f"{self.target} is like {targets.value_text(now)}, and can't be {targets.value_text(self.equals)}",
            )
        if (self.above is not None or self.below is not None) and now is not None and not _is_number(now):
            raise KeyProblem(
                "below" if self.above is None else "above", f"{self.target} is {targets.value_text(now)} and no number"
            )
        if value.line is not None:
            stage.trail.want(LineChange)
        return _ValueCheck(self, value)


class _ValueCheck(Check):
    def __init__(self, expected: Expect, value: targets.Value) -> None:
        self._expected = expected
        self._value = value
        self.polls = value.line is None

    def begin(self, now_ns: int) -> None:
        pass

    def is_met(self, until_ns: int) -> bool:
        found, wanted = self._value.read(), self._expected
        if wanted.above is None and wanted.below is None:
            equals = True if wanted.equals is None else wanted.equals
            if _is_number(found) and _is_number(equals):
                return math.isclose(found, equals, rel_tol=1e-9)  # type: ignore[arg-type]
            return found == equals and isinstance(found, bool) == isinstance(equals, bool)
        if not _is_number(found):
            return False
        return (wanted.above is None or found > wanted.above) and (wanted.below is None or found < wanted.below)  # type: ignore[operator]

    def instead(self) -> str:
        return f"{self._value.name} is {targets.read_text(self._value)}"


@dataclass(frozen=True)
class ExpectEdges(Expectation):
    """Expect edges of a line.

    Parameters:
        line: the line, or a part on it.
        count: how many; more may follow.
        edge: "rising", "falling" or "both".
    """

    verb: ClassVar[str] = "expect_edges"
    line: str
    count: int = field(default=1, kw_only=True)
    edge: Literal["rising", "falling", "both"] = field(default="both", kw_only=True)

    def check(self) -> None:
        if self.count < 1:
            raise KeyProblem("count", f"must be 1 or more, not {self.count}; for none use expect_quiet")

    def describe(self) -> str:
        kind = "" if self.edge == "both" else f"{self.edge} "
        return f"expect {self.count} {kind}edge{'s' if self.count != 1 else ''} of {self.line}"

    def prepare(self, stage: Stage) -> Check:
        try:
            line = targets.find_line(stage.board, self.line)
        except ValueError as error:
            raise KeyProblem("expect_edges", str(error)) from error
        stage.trail.want(LineChange)
        levels = {"rising": (1,), "falling": (0,), "both": (0, 1)}[self.edge]
        return _EdgeCheck(stage.trail, line.number, levels, self.count)


class _EdgeCheck(Check):
    def __init__(self, trail: Trail, line: int, levels: tuple[int, ...], count: int) -> None:
        self._trail = trail
        self._line = line
        self._levels = levels
        self._count = count
        self._found: list[tuple[int, LineChange]] = []

    def begin(self, now_ns: int) -> None:
        self._found = []

    def is_met(self, until_ns: int) -> bool:
        self._found = [
            (number, event)
            for number, event in self._trail.since()
            if isinstance(event, LineChange) and event.line == self._line and event.level in self._levels
            if event.when_ns <= until_ns
        ][: self._count]
        return len(self._found) == self._count

    def settle(self) -> None:
        self._trail.use(self._found[-1][0])

    def instead(self) -> str:
        return f"there were {len(self._found)} of {self._count}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparable(now: object, expected: object) -> bool:
    if _is_number(now):
        return _is_number(expected)
    return not isinstance(now, bool | str) or type(now) is type(expected)
