"""A board with a part of each kind, and scenarios played beside a program on it in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop.recording import Recorder
from hwloop.testing.scenario import Result, Scenario, parse, play

START_NS = 1_000_000_000
"""The time of a virtual clock when its loop begins."""

BOARD = {
    "label": "bench",
    "device": [
        {"type": "button", "name": "door", "line": 17},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "bme280", "name": "air"},
        {"type": "modbus-temperature", "name": "boiler", "port": "/dev/ttyUSB0"},
    ],
}


class Bench:
    """Calling it plays a scenario, or the steps of one in TOML, beside a program, each time on a new board.

    Attributes:
        board: the board of the last scenario. It is closed.
        trace: its trace.
    """

    board: SimBoard
    trace: Trace

    def __call__(
        self,
        scenario: Scenario | str,
        program: Coroutine[Any, Any, object] | None = None,
        *,
        recorder: Recorder | None = None,
    ) -> Result:
        if isinstance(scenario, str):
            scenario = parse(f"steps = [\n{scenario}\n]", "test.toml")
        clock = hwloop.VirtualClock()
        self.trace = Trace()
        with SimBoard(BOARD, clock=clock, tracer=self.trace) as self.board:
            if recorder is not None:
                recorder.attach(self.board)

            async def main() -> Result:
                task = asyncio.create_task(program) if program is not None else None
                try:
                    await asyncio.sleep(0)
                    return await play(self.board, scenario)
                finally:
                    if task is not None:
                        task.cancel()
                        await asyncio.wait([task])

            return hwloop.run(main(), board=self.board, clock=clock)

    def edges(self, line: int, by: str = "") -> list[tuple[float, int]]:
        """Return the edges of a line, by the part of that name: seconds since the scenario began, and the level."""
        return [((edge.when_ns - START_NS) / 1e9, edge.level) for edge in self.trace.edges(line) if by in edge.by]

    def times(self, kind: type[Any]) -> list[tuple[float, Any]]:
        """Return the events of a kind, with the seconds since the scenario began."""
        return [((event.when_ns - START_NS) / 1e9, event) for event in self.trace.of(kind)]


@pytest.fixture
def bench() -> Bench:
    return Bench()
