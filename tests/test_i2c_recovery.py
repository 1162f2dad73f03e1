"""A device that holds the data line of an I2C bus is clocked until it lets go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus_lines import BusLines
from hwloop.board import using
from hwloop.sources import i2c

SCL, SDA = 22, 23


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard({"device": [{"type": "bme280"}]}, clock=hwloop.VirtualClock()) as board, using(board):
        yield board


@pytest.fixture
def wires(board: SimBoard) -> BusLines:
    return board.wire_bus(1, scl=SCL, sda=SDA)


def play(board: SimBoard, main: Coroutine[Any, Any, Any]) -> Any:
    return hwloop.run(main, board=board, clock=board.clock)


@pytest.mark.parametrize("clocks", [1, 4, 9])
def test_a_held_bus_is_free_after_the_clocks_that_the_device_needs(
    board: SimBoard, wires: BusLines, clocks: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with i2c.open(1, scl=SCL, sda=SDA, timeout=5) as bus:
            chip = bus.device(0x76)
            board.bus(1).hang(clocks=clocks)
            with pytest.raises(i2c.BusTimeoutError):
                await chip.read_register(0xD0)
            assert await chip.read_register(0xD0) == 0x60
            assert bus.statistics().recoveries == 1
            assert (wires.clocks, wires.stops) == (clocks + 1, 1)  # one clock more for the stop
            assert board.line(SCL).consumer is board.line(SDA).consumer is None
            board.bus(1).hang(clocks=clocks)
            await asyncio.gather(*(chip.read_register(0xD0) for _ in range(3)), return_exceptions=True)
            assert bus.statistics().recoveries == 2

    play(board, main())
    assert [record.message for record in caplog.records] == [
        "I2C bus 1: a device held the data line; clock pulses have freed the bus"
    ] * 2


def test_a_device_that_holds_on_is_reported_once(
    board: SimBoard, wires: BusLines, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with i2c.open(1, scl=SCL, sda=SDA, timeout=5) as bus:
            chip = bus.device(0x76)
            board.bus(1).hang()
            for _ in range(3):
                with pytest.raises(i2c.BusTimeoutError):
                    await chip.read_register(0xD0)
            assert wires.clocks == 27
            board.bus(1).release()
            await chip.read_register(0xD0)
            assert bus.statistics().recoveries == 0

    play(board, main())
    assert [record.message.partition(",")[0] for record in caplog.records] == ["I2C bus 1: a device holds the bus"]


def test_a_line_that_is_taken_is_reported_and_harms_nothing(
    board: SimBoard, wires: BusLines, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            hwloop.gpio.output(SCL, drive="open-drain", initial=1),
            i2c.open(1, scl=SCL, sda=SDA, timeout=5) as bus,
        ):
            board.bus(1).hang(clocks=3)
            with pytest.raises(i2c.BusTimeoutError):
                await bus.device(0x76).read_register(0xD0)
            board.bus(1).release()
            assert await bus.device(0x76).read_register(0xD0) == 0x60

    with caplog.at_level(logging.WARNING, "hwloop"):
        play(board, main())
    assert len(caplog.records) == 1
    assert "line 22" in caplog.records[0].message


def test_an_error_that_is_no_held_bus_sends_no_clocks(board: SimBoard, wires: BusLines) -> None:
    async def main() -> None:
        async with i2c.open(1, scl=SCL, sda=SDA) as bus:
            with pytest.raises(hwloop.HardwareError):
                await bus.device(0x50).read_register(0)
            assert (wires.clocks, bus.statistics().recoveries) == (0, 0)

    play(board, main())


def test_one_line_alone_raises_at_once() -> None:
    with pytest.raises(TypeError, match="scl and sda are given together"):
        i2c.open(1, scl=3)
    with pytest.raises((TypeError, ValueError), match="a line is a BCM number"):
        i2c.open(1, scl=3, sda=2.5)  # type: ignore[arg-type]
