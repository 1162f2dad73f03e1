"""Simulated time that a test moves by hand, and a bench for parts in virtual time: no real time, no thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard, wiring
from firmware_sim.timeline import Timeline
from hwloop.board import Pull


class HandTimeline(Timeline):
    """A timeline that stands still until `advance()`, and runs what is due in the caller's thread."""

    def __init__(self) -> None:
        self.time_ns = 0
        super().__init__()
        self.now_ns = lambda: self.time_ns

    def _wake(self) -> None:
        pass  # no thread: a test advances it

    def advance(self, seconds: float) -> None:
        """Move on, stopping at each event on the way."""
        end_ns = self.time_ns + round(seconds * 1e9)
        while (next_ns := self.next_ns()) is not None and next_ns <= end_ns:
            self.time_ns = max(self.time_ns, next_ns)
            self.run_due()
        self.time_ns = end_ns


@pytest.fixture
def timeline() -> Iterator[HandTimeline]:
    """A timeline moved by `timeline.advance(seconds)`."""
    hand = HandTimeline()
    yield hand
    hand.stop()


class Bench:
    """A board in virtual time, for tests of parts: `bench.put("led", line=17)` returns the part."""

    def __init__(self) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard({}, clock=self.clock)
        self.start_ns = self.clock.now_ns()

    def put(self, name: str, **keys: Any) -> Any:
        """Return a new part on the board, made as a board file makes it."""
        [part] = wiring.parse({"device": [{"type": name, **keys}]}).devices
        part.attach(self.board)
        self.board.devices.append(part)
        return part

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.sleep(seconds)

    def record(self, line: int) -> list[tuple[float, int]]:
        """Return the changes of a line from now on: seconds since the beginning, and the level."""
        seen: list[tuple[float, int]] = []
        self.board.line(line).observe(
            lambda level, when_ns: seen.append((round((when_ns - self.start_ns) / 1e9, 9), level))
        )
        return seen

    def output(self, *lines: int, level: int = 0) -> None:
        """Claim lines as the program's outputs."""
        for line in lines:
            self.board.line(line).claim("test", output=level)

    def input(self, *lines: int, bias: Pull = "none") -> None:
        """Claim lines as the program's inputs."""
        for line in lines:
            self.board.line(line).claim("test", bias=bias)

    def set(self, line: int, *levels: int, hold: float = 1e-6) -> None:
        """Drive a line to each of these levels as the program, and hold it for some seconds."""
        for level in levels:
            self.board.line(line).set_output(level)
            self.wait(hold)


class Terminal:
    """The program's side of a serial port of a bench."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self._fd = os.open(bench.board.serial(name).path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def ask(self, data: bytes, seconds: float = 1.0) -> bytes:
        """Write to the port, let time pass, and return all that arrived."""
        if data:
            os.write(self._fd, data)
        self._bench.board.timeline.run_readable()
        return self.read(seconds)

    def read(self, seconds: float = 1.0) -> bytes:
        """Let time pass, and return all that arrived."""
        self._bench.wait(seconds)
        received = b""
        try:
            while True:
                received += os.read(self._fd, 65536)
        except BlockingIOError:
            return received

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminal(bench: Bench) -> Iterator[Callable[..., tuple[Any, Terminal]]]:
    """`part, terminal = terminal("gps")` puts a part on a port of the bench, and opens that as a program does."""
    opened: list[Terminal] = []

    def put(name: str, **keys: Any) -> tuple[Any, Terminal]:
        port = f"/dev/ttyUSB{len(opened)}"
        part = bench.put(name, port=port, **keys)
        opened.append(Terminal(bench, port))
        return part, opened[-1]

    yield put
    for each in opened:
        each.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.board:
        yield bench
