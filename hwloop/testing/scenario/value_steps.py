"""Steps in which a value changes over time: ramp, sine, follow (a CSV file or a recorded log).

A part has no notion of a course, so these steps set its value again and again while the scenario goes on.
"""

from __future__ import annotations

import csv
import datetime
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem, meant
from hwloop.testing.scenario.step import Act, Begin, Stage
from hwloop.testing.scenario.times import Seconds, duration_text

_EVERY = 0.1


@dataclass(frozen=True)
class Ramp(Act):
    """Change a value evenly from what it is to another one.

    Parameters:
        target: the value: "air.temperature".
        to: the value at the end.
        over: seconds that it takes.
        every: seconds from one new value to the next.
    """

    verb: ClassVar[str] = "ramp"
    target: str
    to: float = field(kw_only=True)
    over: Seconds = field(kw_only=True)
    every: Seconds = field(default=_EVERY, kw_only=True)

    def check(self) -> None:
        _check_interval(self.every)

    def describe(self) -> str:
        return f"ramp {self.target} to {self.to:g} over {duration_text(self.over)}"

    def prepare(self, stage: Stage) -> Begin:
        value = _number(stage, "ramp", self.target)

        def begin() -> float:
            start = float(value.read())  # type: ignore[arg-type]

            def course(seconds: float) -> float:
                return self.to if seconds >= self.over else start + (self.to - start) * seconds / self.over

            return _run(self, stage, value, course, self.every, self.over)

        return begin


@dataclass(frozen=True)
class Sine(Act):
    """Let a value swing around what it is.

    Parameters:
        target: the value: "air.temperature".
        amplitude: its greatest distance from the middle.
        period: seconds of one swing.
        over: seconds for which it swings, until the end of the scenario by default. Then it is what it was before.
        every: seconds from one new value to the next.
    """

    verb: ClassVar[str] = "sine"
    target: str
    amplitude: float = field(kw_only=True)
    period: Seconds = field(kw_only=True)
    over: Seconds | None = field(default=None, kw_only=True)
    every: Seconds = field(default=_EVERY, kw_only=True)

    def check(self) -> None:
        _check_interval(self.every)
        if self.period <= 0:
            raise KeyProblem("period", "must be more than 0")

    def describe(self) -> str:
        return f"sine of {self.target} by {self.amplitude:g} each {duration_text(self.period)}"

    def prepare(self, stage: Stage) -> Begin:
        value = _number(stage, "sine", self.target)

        def begin() -> float:
            middle = float(value.read())  # type: ignore[arg-type]

            def course(seconds: float) -> float:
                if self.over is not None and seconds >= self.over:
                    return middle
                return middle + self.amplitude * math.sin(2 * math.pi * seconds / self.period)

            return _run(self, stage, value, course, self.every, self.over)

        return begin


@dataclass(frozen=True)
class Follow(Act):
    """Let a value follow a column of a CSV file, such as the log of a real sensor.

    Parameters:
        target: the value: "air.temperature".
        csv: the file, relative to the scenario. Its first line names the columns.
        column: the column of the values; by default the one with the name of the value.
        time: the column of the times, in seconds or as dates of ISO 8601; by default the first column. The first row
            is now.
        speed: how many of its seconds pass in one second.
    """

    verb: ClassVar[str] = "follow"
    target: str
    csv: str = field(kw_only=True)
    column: str | None = field(default=None, kw_only=True)
    time: str | None = field(default=None, kw_only=True)
    speed: float = field(default=1.0, kw_only=True)

    def check(self) -> None:
        if not 0 < self.speed < math.inf:
            raise KeyProblem("speed", f"must be more than 0, not {self.speed!r}")

    def describe(self) -> str:
        return f"follow {self.csv} with {self.target}"

    def prepare(self, stage: Stage) -> Begin:
        value = _number(stage, "follow", self.target)
        rows = self._rows(stage.directory / self.csv)
        times = [time for time, _ in rows]

        def begin() -> float:
            start_ns = stage.board.timeline.moment_ns()
            for time, number in rows:
                when_ns = start_ns + round(time * 1e9)
                stage.at(self, when_ns, functools.partial(value.write, number))
            return times[-1]

        return begin

    def _rows(self, path: Path) -> list[tuple[float, float]]:
        """Return the file's times, from 0 on, and values."""
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                names = list(reader.fieldnames or ())
                column = self.column or self.target.partition(".")[2]
                if column not in names:
                    raise KeyProblem("column", f"{self.csv} has no column {column!r}; it has {', '.join(names)}"
                                     f"{meant(column, names)}")  # fmt: skip
                time = self.time or names[0]
                if time not in names:
                    raise KeyProblem("time", f"{self.csv} has no column {time!r}; it has {', '.join(names)}")
                rows = list[tuple[float, float]]()
                for row in reader:
                    try:
                        rows.append((_seconds(row[time]), _finite(row[column])))
                    except (TypeError, ValueError):
                        raise KeyProblem(
                            "csv", f"{self.csv}, line {reader.line_num}: no number, or no time: "
                            f"{row[time]!r}, {row[column]!r}"
                        ) from None  # fmt: skip
        except OSError as error:
            raise KeyProblem("csv", f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise KeyProblem("csv", f"{path}: not a CSV file: {error}") from error
        if not rows:
            raise KeyProblem("csv", f"{self.csv} has no rows")
        if any(earlier > later for (earlier, _), (later, _) in itertools.pairwise(rows)):
            raise KeyProblem("csv", f"the times of {self.csv} go back")
        return [((seconds - rows[0][0]) / self.speed, number) for seconds, number in rows]


def _seconds(text: str) -> float:
    """Return the time of a row: a number, or a date."""
    try:
        return _finite(text)
    except ValueError:
        moment = datetime.datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _number(stage: Stage, key: str, target: str) -> targets.Value:
    """Return a value that can be set to any number. Raises `KeyProblem`."""
    try:
        value = targets.find_value(stage.board, target)
        if value.line is not None:
            raise ValueError(f"{target} is 0 or 1 and has no course; use set, or pulses")
        targets.check_writable(stage.board, value, 0.0)
    except ValueError as error:
        raise KeyProblem(key, str(error)) from error
    return value


def _check_interval(every: float) -> None:
    if every < 1e-4:
        raise KeyProblem("every", f"must be 0.1 ms or more, not {duration_text(every)}")


def _run(
    step: Act, stage: Stage, value: targets.Value, course: Callable[[float], float], every: float, over: float | None
) -> float:
    """Set a value along a course from now on, and return how long that lasts."""
    start_ns = stage.board.timeline.moment_ns()

    def move(number: int) -> None:
        seconds = number * every
        last = over is not None and seconds >= over
        value.write(course(over if last and over is not None else seconds))
        if not last:
            following = (number + 1) * every
            when_ns = start_ns + round((following if over is None else min(following, over)) * 1e9)
            stage.at(step, when_ns, lambda: move(number + 1))

    move(0)
    return over or 0.0
