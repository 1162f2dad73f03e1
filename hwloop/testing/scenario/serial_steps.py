"""Steps on serial ports: send bytes and frames to the program, and expect those that it sends."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.trace.wording import data_text
from firmware_sim.uart import Port
from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.payload import Framing, payload
from hwloop.testing.scenario.step import Act, Begin, Check, Expectation, Stage
from hwloop.testing.scenario.times import Seconds
from hwloop.testing.scenario.trail import Trail
from hwloop.trace_events import SerialData


@dataclass(frozen=True)
class Send(Act):
    """Send bytes to the program through a serial port.

    Parameters:
        port: the port, or a part on it.
        text: the bytes as text, in UTF-8.
        hex: the bytes as hexadecimal digits: "01 04 00".
        log: a file whose lines are sent, relative to the scenario. Blank lines, and those that begin with #, are not.
        frame: how the bytes, or each line of the log, are framed: "none", "line" (ended by CR LF), "nmea" (with `$` and
            checksum) or "modbus" (with its CRC).
        baudrate: bits a second at which they arrive; by default they arrive at once.
        every: seconds from one line of the log to the next.
    """

    verb: ClassVar[str] = "send"
    port: str
    text: str | None = field(default=None, kw_only=True)
    hex: str | None = field(default=None, kw_only=True)
    log: str | None = field(default=None, kw_only=True)
    frame: Framing = field(default="none", kw_only=True)
    baudrate: int | None = field(default=None, kw_only=True)
    every: Seconds = field(default=1.0, kw_only=True)

    def check(self) -> None:
        payload(self.text, self.hex, self.frame, self.log)
        if self.baudrate is not None and self.baudrate <= 0:
            raise KeyProblem("baudrate", f"must be more than 0, not {self.baudrate}")
        if self.log is not None and self.frame not in ("none", "line"):
            raise KeyProblem("frame", "the lines of a log are complete sentences; use 'none' or 'line'")

    def describe(self) -> str:
        if self.log is not None:
            return f"send the lines of {self.log} to {self.port}"
        return f"send {data_text(payload(self.text, self.hex, self.frame))} to {self.port}"

    def prepare(self, stage: Stage) -> Begin:
        port = _port(stage, "send", self.port)
        timeline = stage.board.timeline
        pieces = [payload(self.text, self.hex, self.frame)] if self.log is None else self._lines(stage)

        def begin() -> float:
            start_ns = timeline.moment_ns()
            port.send(pieces[0], self.baudrate)
            for number, piece in enumerate(pieces[1:], 1):
                when_ns = start_ns + round(number * self.every * 1e9)
                stage.at(self, when_ns, functools.partial(port.send, piece, self.baudrate))
            lasting = 0.0 if self.baudrate is None else len(pieces[-1]) * 10 / self.baudrate
            return (len(pieces) - 1) * self.every + lasting

        return begin

    def _lines(self, stage: Stage) -> list[bytes]:
        assert self.log is not None
        path = stage.directory / self.log
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise KeyProblem("log", f"{path}: {error.strerror}") from error
        found = [line + b"\r\n" for line in lines if line.strip() and not line.startswith(b"#")]
        if not found:
            raise KeyProblem("log", f"{self.log} has no lines to send")
        return found


@dataclass(frozen=True)
class ExpectSent(Expectation):
    """Expect that the program sends bytes through a serial port.

    Parameters:
        port: the port, or a part on it.
        text, hex, frame: the bytes, as for `send`. Other bytes may come before and after.
    """

    verb: ClassVar[str] = "expect_sent"
    port: str
    text: str | None = field(default=None, kw_only=True)
    hex: str | None = field(default=None, kw_only=True)
    frame: Framing = field(default="none", kw_only=True)

    def check(self) -> None:
        payload(self.text, self.hex, self.frame)

    def describe(self) -> str:
        return f"expect {data_text(payload(self.text, self.hex, self.frame))} on {self.port}"

    def prepare(self, stage: Stage) -> Check:
        port = _port(stage, "expect_sent", self.port)
        stage.trail.want(SerialData)
        return _SentCheck(stage.trail, port.name, payload(self.text, self.hex, self.frame))


class _SentCheck(Check):
    def __init__(self, trail: Trail, port: str, expected: bytes) -> None:
        self._trail = trail
        self._port = port
        self._expected = expected
        self._used: tuple[int, SerialData | None] = (0, None)
        self._seen = b""

    def begin(self, now_ns: int) -> None:
        self._seen = b""

    def is_met(self, until_ns: int) -> bool:
        data = bytearray()
        for number, event in self._trail.since():
            if not isinstance(event, SerialData) or event.port != self._port or event.direction != "sent":
                continue
            if event.when_ns > until_ns:
                break
            data += event.data
            place = data.find(self._expected)
            if place >= 0:
                left = bytes(data[place + len(self._expected) :])
                self._used = number, event._replace(data=left) if left else None
                return True
        self._seen = bytes(data)
        return False

    def settle(self) -> None:
        self._trail.use(*self._used)

    def instead(self) -> str:
        if not self._seen:
            return f"the program sent nothing on {self._port}"
        more = "… " if len(self._seen) > 200 else ""
        return f"the program sent {more}{data_text(self._seen[-200:])}"


def _port(stage: Stage, key: str, target: str) -> Port:
    try:
        return targets.find_port(stage.board, target)
    except ValueError as error:
        raise KeyProblem(key, str(error)) from error
