"""Simulated time that a test moves by hand, and a bench for parts in virtual time: no real time, no thread."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.board:
        yield bench
