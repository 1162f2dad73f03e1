"""SPI transfers of a recording, replayed."""

from __future__ import annotations

import asyncio

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.replay.board import ReplayBoard
from firmware_sim.replay.script import Script
from firmware_sim.trace import Trace
from firmware_sim.trace.wording import describe
from hwloop import HardwareError, spi
from hwloop.trace_events import SpiTransfer


async def read(times: int, command: bytes = b"\x01\x80\x00") -> list[bytes | str]:
    """Read an ADC again and again."""
    found: list[bytes | str] = []
    async with spi.open(0, 0, speed=1_000_000) as adc:
        for _ in range(times):
            try:
                found.append(await adc.transfer(command))
            except HardwareError as error:
                found.append(error.reason)
            await asyncio.sleep(0.5)
    return found


def recorded(times: int) -> tuple[list[SpiTransfer], list[bytes | str]]:
    trace = Trace()
    part = {"type": "mcp3008", "name": "adc"}
    with SimBoard({"device": [part]}, clock=hwloop.VirtualClock(), tracer=trace) as board:
        board["adc"].inputs[0] = lambda seconds: 0.5 + 0.25 * seconds
        board.faults.inject("spi-timeout", after=1.25, duration=0.5)
        found = hwloop.run(read(times), board=board, clock=board.clock)
    return trace.of(SpiTransfer), found


def replayed(events: list[SpiTransfer], program: object, tolerance: float | None = 0.0) -> tuple[object, list[object]]:
    clock = hwloop.VirtualClock()
    script = Script(enumerate(events, 1), start_ns=clock.now_ns())
    with ReplayBoard(script, clock=clock, tolerance=tolerance) as board:
        result = hwloop.run(program, board=board, clock=clock)  # type: ignore[arg-type]
        board.outputs.finish()
        return result, [(each.where, each.number, each.recorded, each.happened) for each in board.outputs.differences]


def test_transfers_have_their_recorded_answers_and_errors() -> None:
    events, found = recorded(5)
    assert len(set(found)) == 5
    assert [event.error for event in events] == ["", "", "", "ETIMEDOUT", ""]
    assert replayed(events, read(5)) == (found, [])


@pytest.mark.parametrize(
    ("times", "command", "number", "happened"),
    [
        (2, b"\x01\x80\x00", 3, "the program did not do it"),
        (1, b"\x01\x90\x00", 1, "the program made spi 0.0 w 01 90 00"),
    ],
)
def test_a_transfer_that_differs_is_named(times: int, command: bytes, number: int, happened: str) -> None:
    events, _ = recorded(3)
    recorded_as = f"the program made {describe(events[number - 1])}"
    assert replayed(events, read(times, command))[1] == [("spi 0.0", number, recorded_as, happened)]


def test_an_unknown_transfer_reads_zeros() -> None:
    events, _ = recorded(1)
    found, _ = replayed(events, read(1, b"\x01\x90\x00"))
    assert found == [b"\0\0\0"]
