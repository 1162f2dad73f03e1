"""Expectations of events: text, I2C transfers, and silence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.trace import describe
from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.payload import parse_hex
from hwloop.testing.scenario.step import Check, Expectation, Stage
from hwloop.testing.scenario.times import Seconds, duration_text
from hwloop.testing.scenario.trail import Trail
from hwloop.trace_events import I2cTransfer, LineChange, Printed, SerialData, TraceEvent


@dataclass(frozen=True)
class ExpectOutput(Expectation):
    """Expect a line of text from the program, on its standard output or error.

    Parameters:
        text: what the line contains.
        regex: whether the text is a regular expression.
    """

    verb: ClassVar[str] = "expect_output"
    text: str
    regex: bool = field(default=False, kw_only=True)

    def check(self) -> None:
        _pattern("expect_output", self.text, self.regex)

    def describe(self) -> str:
        return f"expect output {self.text!r}" + (" (a regular expression)" if self.regex else "")

    def prepare(self, stage: Stage) -> Check:
        stage.trail.want(Printed)
        return _OutputCheck(stage.trail, _pattern("expect_output", self.text, self.regex))


class _OutputCheck(Check):
    def __init__(self, trail: Trail, pattern: re.Pattern[str]) -> None:
        self._trail = trail
        self._pattern = pattern
        self._used = 0
        self._lines: list[str] = []

    def begin(self, now_ns: int) -> None:
        self._lines = []

    def is_met(self, until_ns: int) -> bool:
        self._lines = []
        for number, event in self._trail.since():
            if isinstance(event, Printed) and event.when_ns <= until_ns:
                if self._pattern.search(event.text):
                    self._used = number
                    return True
                self._lines.append(event.text)
        return False

    def settle(self) -> None:
        self._trail.use(self._used)

    def instead(self) -> str:
        if not self._lines:
            return "the program printed nothing"
        return "the program printed" + "".join(f"\n    {line}" for line in self._lines[-5:])


@dataclass(frozen=True)
class ExpectTransfer(Expectation):
    """Expect an I2C transfer with a device.

    Parameters:
        device: the bus and address ("i2c 1 0x76"), or a part there.
        writes: the first bytes of a message to it, as hexadecimal digits.
        reads: the first bytes of a message from it.
        error: the errno's name with which it fails: "EREMOTEIO". Without this, it succeeds.
    """

    verb: ClassVar[str] = "expect_transfer"
    device: str
    writes: str | None = field(default=None, kw_only=True)
    reads: str | None = field(default=None, kw_only=True)
    error: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        for key, digits in (("writes", self.writes), ("reads", self.reads)):
            if digits is not None:
                parse_hex(key, digits)

    def describe(self) -> str:
        parts = (("writes", self.writes), ("reads", self.reads), ("fails with", self.error))
        details = " and ".join(f"{word} {value}" for word, value in parts if value is not None)
        return f"expect a transfer with {self.device}" + (f" that {details}" if details else "")

    def prepare(self, stage: Stage) -> Check:
        try:
            place = targets.find_address(stage.board, self.device)
        except ValueError as error:
            raise KeyProblem("expect_transfer", str(error)) from error
        stage.trail.want(I2cTransfer)
        return _TransferCheck(stage.trail, place, self)


class _TransferCheck(Check):
    def __init__(self, trail: Trail, place: targets.Address, expected: ExpectTransfer) -> None:
        self._trail = trail
        self._place = place
        self._error = expected.error or ""
        self._beginnings = [
            (direction, parse_hex("", digits))
            for direction, digits in (("sent", expected.writes), ("received", expected.reads))
            if digits is not None
        ]
        self._used = 0
        self._others: list[I2cTransfer] = []

    def begin(self, now_ns: int) -> None:
        self._others = []

    def is_met(self, until_ns: int) -> bool:
        self._others = []
        for number, event in self._trail.since():
            if not isinstance(event, I2cTransfer) or event.bus != self._place.bus or event.end_ns > until_ns:
                continue
            messages = [message for message in event.messages if message.address == self._place.address]
            if messages and event.error == self._error and all(
                any(message.direction == direction and message.data.startswith(beginning) for message in messages)
                for direction, beginning in self._beginnings
            ):  # fmt: skip
                self._used = number
                return True
            if messages:
                self._others.append(event)
        return False

    def settle(self) -> None:
        self._trail.use(self._used)

    def instead(self) -> str:
        if not self._others:
            return f"there was no transfer with {self._place}"
        shown = "".join(f"\n    {describe(each)}" for each in self._others[-5:])
        return f"there were {len(self._others)} other transfers with it" + shown


@dataclass(frozen=True)
class ExpectQuiet(Expectation):
    """Expect that nothing happens for a time.

    Parameters:
        target: "output", a line, a serial port (bytes that the program sends), an I2C device, or a part at one of them.
        during: seconds.
        text: with "output": only lines with this text count.
        regex: whether the text is a regular expression.
    """

    verb: ClassVar[str] = "expect_quiet"
    target: str
    during: Seconds = field(kw_only=True)
    text: str | None = field(default=None, kw_only=True)
    regex: bool = field(default=False, kw_only=True)

    def check(self) -> None:
        if self.within is not None:
            raise KeyProblem("within", "silence begins at once; give its length by 'during'")
        if self.text is not None and self.target != "output":
            raise KeyProblem("text", "is for expect_quiet = 'output' only")
        _pattern("text", self.text or "", self.regex)

    def lasting(self) -> float:
        return self.during

    def describe(self) -> str:
        what = f"output {self.text!r}" if self.text is not None else f"event of {self.target}"
        return f"expect no {what} for {duration_text(self.during)}"

    def prepare(self, stage: Stage) -> Check:
        trail = stage.trail
        if self.target == "output":
            trail.want(Printed)
            return _QuietCheck(trail, self.target, _pattern("text", self.text or "", self.regex))
        problems = []
        for kind, find in (
            (LineChange, lambda: targets.find_line(stage.board, self.target).number),
            (SerialData, lambda: targets.find_port(stage.board, self.target).name),
            (I2cTransfer, lambda: targets.find_address(stage.board, self.target)),
        ):
            try:
                place = find()
            except ValueError as error:
                problems.append(error)
            else:
                trail.want(kind)
                return _QuietCheck(trail, place)
        likely = 1 if self.target.startswith("/") else 2 if self.target.startswith("i2c ") else 0
        raise KeyProblem("expect_quiet", str(problems[likely]))


class _QuietCheck(Check):
    def __init__(self, trail: Trail, place: object, pattern: re.Pattern[str] | None = None) -> None:
        self._trail = trail
        self._place = place
        self._pattern = pattern
        self._first = 0
        self._event: TraceEvent | None = None

    def begin(self, now_ns: int) -> None:
        self._first = self._trail.end
        self._event = None

    def is_met(self, until_ns: int) -> bool:
        for _, event in self._trail.since(self._first):
            if self._concerns(event) and event.when_ns <= until_ns:
                self._event = event
                return False
        return True

    def _concerns(self, event: TraceEvent) -> bool:
        if isinstance(event, Printed):
            return self._pattern is not None and bool(self._pattern.search(event.text))
        if isinstance(event, LineChange):
            return event.line == self._place
        if isinstance(event, SerialData):
            return event.port == self._place and event.direction == "sent"
        if isinstance(event, I2cTransfer):
            return any((event.bus, message.address) == self._place for message in event.messages)
        return False

    def instead(self) -> str:
        return f"there was one: {describe(self._event)}" if self._event is not None else "there was one"


def _pattern(key: str, text: str, regex: bool) -> re.Pattern[str]:
    try:
        return re.compile(text if regex else re.escape(text))
    except re.error as error:
        raise KeyProblem(key, f"not a regular expression: {error}") from None
