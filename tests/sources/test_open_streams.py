"""The streams that are open on a loop, for reports about all of them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c, serial
from hwloop.sources.event_stream import open_streams

BOARD = {"device": [{"type": "bme280"}, {"type": "gps", "port": "/dev/ttyAMA0"}]}


def names() -> list[str]:
    return [stream.name for stream in open_streams(asyncio.get_running_loop())]


def test_sources_polls_and_measurements_are_listed_while_they_are_open() -> None:
    async def main() -> None:
        assert names() == []
        async with gpio.watch(17) as watch, i2c.open(1) as bus, gpio.frequency(23):
            async with bus.poll(lambda: bus.device(0x76).read_register(0xD0), every=1, name="chip"):
                assert names() == ["gpio:17", "i2c:1", "gpio:23", "Frequency of gpio:23", "chip"]
            watch.close()
            assert names() == ["i2c:1", "gpio:23", "Frequency of gpio:23"]
        assert names() == []

    hwloop.run(main(), board=BOARD, clock="virtual")


def test_a_source_whose_device_is_away_is_listed_and_one_that_failed_is_not() -> None:
    async def main(board: SimBoard) -> None:
        async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines(), reopen=hwloop.Backoff()) as port:
            other = gpio.watch(17).open()
            other.fail(OSError("gone"))
            port.fail(OSError("unplugged"))
            assert port not in asyncio.get_running_loop().sources()  # type: ignore[attr-defined]
            assert names() == ["/dev/ttyAMA0"]
            await asyncio.sleep(1)
            assert port.fileno() >= 0
            assert names() == ["/dev/ttyAMA0"]

    clock = hwloop.VirtualClock()
    with SimBoard(BOARD, clock=clock) as board:
        hwloop.run(main(board), board=board, clock=clock)


def test_the_list_keeps_no_source_alive_and_takes_any_class() -> None:
    class Odd(gpio.Watch):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    def opened(line: int) -> weakref.ref[Any]:
        watch = Odd(line).open()
        watch.close()
        return weakref.ref(watch)

    async def main() -> None:
        async with Odd(5) as first, Odd(6) as second:
            assert len(names()) == 2, (first, second)
        reference = opened(17)
        gc.collect()
        assert reference() is None

    hwloop.run(main(), board=BOARD)
