"""Steps that move parts and lines: press, release, click, set, call, pulses, turn."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from firmware_sim.pins import Line
from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.step import Act, Begin, Stage
from hwloop.testing.scenario.times import Seconds, duration_text

_FORWARD = ((0, 0), (1, 0), (1, 1), (0, 1))
"""The levels of an encoder's A and B, as it turns forward."""


@dataclass(frozen=True)
class Press(Act):
    """Press a part, such as a button, and hold it until `release`."""

    verb: ClassVar[str] = "press"
    part: str

    def describe(self) -> str:
        return f"press {self.part}"

    def prepare(self, stage: Stage) -> Begin:
        return _method(stage, "press", self.part, "press")


@dataclass(frozen=True)
class Release(Act):
    """Release a part that was pressed, or a line that `set` drives."""

    verb: ClassVar[str] = "release"
    target: str

    def describe(self) -> str:
        return f"release {self.target}"

    def prepare(self, stage: Stage) -> Begin:
        if not self.target.startswith("line "):
            return _method(stage, "release", self.target, "release")
        try:
            line = targets.find_line(stage.board, self.target)
        except ValueError as error:
            raise KeyProblem("release", str(error)) from error
        return functools.partial(line.drive, None)


@dataclass(frozen=True)
class Click(Act):
    """Press a part and release it again.

    Parameters:
        part: its name.
        hold: seconds between the two; by default the part's own.
    """

    verb: ClassVar[str] = "click"
    part: str
    hold: Seconds | None = field(default=None, kw_only=True)

    def describe(self) -> str:
        return f"click {self.part}" + (f" for {duration_text(self.hold)}" if self.hold is not None else "")

    def prepare(self, stage: Stage) -> Begin:
        if self.hold is None:
            return _method(stage, "click", self.part, "click")
        hold, press = self.hold, _method(stage, "click", self.part, "press")
        release = _method(stage, "click", self.part, "release")

        def click() -> float:
            press()
            timeline = stage.board.timeline
            stage.at(self, timeline.moment_ns() + round(hold * 1e9), release)
            return hold

        return click


@dataclass(frozen=True)
class Set(Act):
    """Set a value of a part ("air.temperature"), or drive a line ("line 17") from outside until `release`.

    Parameters:
        target: the value or line.
        to: the new value; for a line 0 or 1.
    """

    verb: ClassVar[str] = "set"
    target: str
    to: bool | int | float | str = field(kw_only=True)

    def describe(self) -> str:
        return f"set {self.target} to {targets.value_text(self.to)}"

    def prepare(self, stage: Stage) -> Begin:
        try:
            value = targets.find_value(stage.board, self.target)
        except ValueError as error:
            raise KeyProblem("set", str(error)) from error
        try:
            targets.check_writable(stage.board, value, self.to)
        except ValueError as error:
            raise KeyProblem("to", str(error)) from error
        return functools.partial(value.write, self.to)


@dataclass(frozen=True)
class Call(Act):
    """Call a method of a part: "door.slam".

    Parameters:
        method: the part's name, and that of its method.
        arguments: the method's arguments.
    """

    verb: ClassVar[str] = "call"
    method: str
    arguments: list[bool | int | float | str] = field(default_factory=list, kw_only=True)

    def check(self) -> None:
        if self.method.count(".") != 1:
            raise KeyProblem("call", f"must be a part and its method like 'door.press', not {self.method!r}")

    def describe(self) -> str:
        return f"call {self.method}({', '.join(map(targets.value_text, self.arguments))})"

    def prepare(self, stage: Stage) -> Begin:
        part, _, name = self.method.partition(".")
        return _method(stage, "call", part, name, *self.arguments)


@dataclass(frozen=True)
class Pulses(Act):
    """Give pulses on a line, from outside.

    Parameters:
        line: the line, or a part on it.
        count: how many.
        period: seconds from pulse to pulse.
        width: seconds that a pulse lasts; by default half of the period.
        level: the level during a pulse; the line is driven to the other one in between, and released afterwards.
    """

    verb: ClassVar[str] = "pulses"
    line: str
    count: int = field(kw_only=True)
    period: Seconds = field(kw_only=True)
    width: Seconds | None = field(default=None, kw_only=True)
    level: Literal[0, 1] = field(default=1, kw_only=True)

    def check(self) -> None:
        if self.count < 1:
            raise KeyProblem("count", f"must be 1 or more, not {self.count}")
        if self.period < 1e-6:
            raise KeyProblem("period", f"must be 1 µs or more, not {duration_text(self.period)}")
        if self.width is not None and not 0 < self.width < self.period:
            raise KeyProblem(
                "width", f"must be more than 0 and less than the period of {duration_text(self.period)}, "
                f"not {duration_text(self.width)}"
            )  # fmt: skip

    def describe(self) -> str:
        return f"{self.count} pulses on {self.line}, one each {duration_text(self.period)}"

    def prepare(self, stage: Stage) -> Begin:
        line = _line(stage, "pulses", self.line)
        width = self.period / 2 if self.width is None else self.width
        timeline = stage.board.timeline

        def pulse(number: int, start_ns: int) -> None:
            line.drive(self.level)
            end_ns = start_ns + round((number * self.period + width) * 1e9)
            stage.at(self, end_ns, functools.partial(line.drive, 1 - self.level))
            following = number + 1
            when_ns = start_ns + round(following * self.period * 1e9)
            if following < self.count:
                stage.at(self, when_ns, functools.partial(pulse, following, start_ns))
            else:
                stage.at(self, when_ns, functools.partial(line.drive, None))

        def begin() -> float:
            pulse(0, timeline.moment_ns())
            return self.count * self.period

        return begin


@dataclass(frozen=True)
class Turn(Act):
    """Turn a quadrature encoder that is on two lines.

    Parameters:
        lines: its lines A and B. Turning forward, A leads.
        steps: whole cycles of four transitions, a detent of most encoders; a negative number turns it back.
        period: seconds for one of them.
    """

    verb: ClassVar[str] = "turn"
    lines: list[str]
    steps: int = field(kw_only=True)
    period: Seconds = field(default=0.02, kw_only=True)

    def check(self) -> None:
        if len(self.lines) != 2 or self.lines[0] == self.lines[1]:
            raise KeyProblem("turn", f"must be two lines, A and B, like ['line 5', 'line 6'], not {self.lines}")
        if self.steps == 0:
            raise KeyProblem("steps", "must not be 0; a negative number turns it back")
        if self.period < 4e-6:
            raise KeyProblem("period", f"must be 4 µs or more, not {duration_text(self.period)}")

    def describe(self) -> str:
        return f"turn {' and '.join(self.lines)} by {self.steps} steps"

    def prepare(self, stage: Stage) -> Begin:
        a, b = (_line(stage, "turn", each) for each in self.lines)
        timeline = stage.board.timeline
        transitions = 4 * abs(self.steps)

        def move(number: int, start_ns: int, phase: int) -> None:
            phase = (phase + (1 if self.steps > 0 else -1)) % 4
            for line, level in zip((a, b), _FORWARD[phase], strict=True):
                line.drive(level)
            if number + 1 < transitions:
                when_ns = start_ns + round((number + 1) * self.period / 4 * 1e9)
                stage.at(self, when_ns, functools.partial(move, number + 1, start_ns, phase))

        def begin() -> float:
            phase = _FORWARD.index((a.level, b.level))
            move(0, timeline.moment_ns(), phase)
            return (transitions - 1) * self.period / 4

        return begin


def _line(stage: Stage, key: str, target: str) -> Line:
    try:
        return targets.find_line(stage.board, target)
    except ValueError as error:
        raise KeyProblem(key, str(error)) from error


def _method(stage: Stage, key: str, part: str, name: str, *arguments: object) -> Begin:
    try:
        method = targets.find_method(stage.board, part, name)
    except ValueError as error:
        raise KeyProblem(key, str(error)) from error

    def call() -> None:
        method(*arguments)

    return call
