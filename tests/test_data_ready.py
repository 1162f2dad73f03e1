"""A poll with a trigger reads while the data-ready line is active, whether an edge says so or not. In virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from hwloop.sources import Source, gpio, i2c

LINE, ADDRESS = 4, 0x20


class Expander(RegisterDevice):
    """Holds its interrupt line at `active` from a change of its inputs until they are read."""

    def __init__(self, board: SimBoard, active: int) -> None:
        super().__init__()
        self.line = board.chip.line(LINE)
        self.active = active
        self.inputs = self.reads = 0
        self.during: list[int] = []
        self.stuck = False
        self.line.drive(1 - active)

    def change(self, inputs: int) -> None:
        self.inputs = inputs
        self.line.drive(self.active)

    def read_register(self, register: int) -> int:
        self.reads += 1
        value = self.inputs
        if self.during:
            self.inputs = self.during.pop(0)
        elif not self.stuck:
            self.line.drive(1 - self.active)
        return value


# How the watch is made, and the level at which the device holds the line.
WIRINGS: dict[str, tuple[dict[str, Any], int]] = {
    "falling": ({"edges": "falling"}, 0),
    "rising": ({"edges": "rising"}, 1),
    "falling, active low": ({"edges": "falling", "active_low": True}, 1),
    "active low": ({"active_low": True}, 0),
    "pull up": ({"pull": "up"}, 0),
    "pull down": ({"pull": "down"}, 1),
    "low, learned": ({}, 0),
    "high, learned": ({}, 1),
}
wirings = pytest.mark.parametrize("wiring", WIRINGS)


def scene(
    wiring: str,
    act: Callable[[SimBoard, Expander, list[int]], Awaitable[Any]],
    *,
    during: tuple[int, ...] = (),
    begin_active: bool = False,
) -> Any:
    """Run `act(board, device, values seen)` while the device is polled; its inputs change to `during` as it is read."""
    options, active = WIRINGS[wiring]
    clock = hwloop.VirtualClock()

    async def main(board: SimBoard) -> Any:
        device, seen = Expander(board, active), []
        device.during = list(during)
        board.bus(1).attach(ADDRESS, device)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        if begin_active:
            device.change(1)
        async with i2c.open(1) as bus, gpio.watch(LINE, **options) as watch:
            chip = bus.device(ADDRESS)
            async with bus.poll(lambda: chip.read_register(0), trigger=watch) as poll:
                poll.add_callback(lambda reading: seen.append(reading.value))
                await asyncio.sleep(0.2)
                return await act(board, device, seen)

    with SimBoard(clock=clock) as board:
        return hwloop.run(main(board), board=board, clock=clock)


@wirings
@pytest.mark.parametrize("begin_active", [False, True])
def test_a_change_during_the_read_is_read_too(wiring, begin_active):
    async def act(board, device, seen):
        for inputs in (3, 5):
            device.during = [inputs, inputs + 1, inputs + 2]
            device.change(1)
            await asyncio.sleep(0.3)
            assert seen[-1] == inputs + 2
            assert device.line.level == 1 - device.active

    scene(wiring, act, begin_active=begin_active)


@wirings
def test_a_change_during_the_very_first_read_is_read_too(wiring):
    async def act(board, device, seen):
        assert seen[-1] == 7
        assert device.line.level == 1 - device.active
        device.during = [9]
        device.change(8)
        await asyncio.sleep(0.3)
        assert seen[-1] == 9

    scene(wiring, act, during=(7,), begin_active=True)


@wirings
@pytest.mark.parametrize("away", [0.2, 30.0])
def test_a_device_that_does_not_answer_is_read_once_it_does(wiring, away):
    async def act(board, device, seen):
        board.bus(1).detach(ADDRESS)
        device.change(3)
        await asyncio.sleep(away)
        board.bus(1).attach(ADDRESS, device)
        await asyncio.sleep(1.1)
        assert seen[-1] == 3
        assert device.line.level == 1 - device.active

    scene(wiring, act)


@wirings
def test_a_line_that_is_stuck_is_read_at_a_bounded_rate_and_said_to_be(wiring, caplog):
    async def act(board, device, seen):
        device.stuck = True
        device.change(1)
        await asyncio.sleep(2)
        reads = device.reads
        await asyncio.sleep(10)
        assert 90 <= device.reads - reads <= 101
        device.stuck = False
        await asyncio.sleep(0.3)
        reads = device.reads
        await asyncio.sleep(60)
        assert device.reads == reads  # idle is idle

    with caplog.at_level(logging.WARNING, "hwloop"):
        scene(wiring, act)
    assert caplog.text.count("stays active however often it is read") == 1


class Line(Source[Any]):
    """A trigger that loses every edge: only its level can be seen."""

    edges = "rising"
    active_level = 1

    def __init__(self) -> None:
        super().__init__(name="deaf")
        self.values = {LINE: 0}

    def connect(self) -> int:
        return -1

    def receive(self):
        return ()

    def disconnect(self) -> None:
        pass


@contextlib.asynccontextmanager
async def polled(line: Line) -> AsyncIterator[list[int]]:
    """Poll a device that has the line as its trigger and lets go of it when read; yields its reads."""
    reads: list[int] = []

    async def read() -> int:
        reads.append(1)
        line.values[LINE] = 0
        return len(reads)

    async with i2c.open(1) as bus, bus.poll(read, trigger=line):
        yield reads


def test_an_edge_that_was_lost_right_after_a_read_is_found():
    async def main():
        line = Line()
        async with polled(line) as reads:
            await asyncio.sleep(0.04)
            assert len(reads) == 1
            line.values[LINE] = 1
            await asyncio.sleep(0.02)
            assert len(reads) == 2
            await asyncio.sleep(1)
            assert len(reads) == 2

    hwloop.run(main(), board="sim", clock="virtual")


def test_a_trigger_that_comes_back_is_looked_at():
    async def main():
        line = Line()
        async with polled(line) as reads:
            await asyncio.sleep(1)
            line.values[LINE] = 1
            for hook in line.at_reopen:
                hook()
            await asyncio.sleep(0.01)
            assert len(reads) == 2

    hwloop.run(main(), board="sim", clock="virtual")


@pytest.mark.parametrize("values", ["missing", "raises"])
def test_a_trigger_without_a_level_is_a_hint_only(values):
    class Mute(Line):
        active_level = None

        def __init__(self) -> None:
            super().__init__()
            del self.__dict__["values"]

        @property
        def values(self):
            raise AttributeError if values == "missing" else GeneratorExit

        @values.setter
        def values(self, value):
            self.__dict__["values"] = value

    async def main():
        reads = []

        async def read():
            reads.append(1)
            raise OSError("no answer")

        async with i2c.open(1) as bus, bus.poll(read, trigger=Mute()):
            await asyncio.sleep(10)
        assert len(reads) == 1

    hwloop.run(main(), board="sim", clock="virtual")
