"""`asyncio.timeout` around `anext(source)`, by which a program notices that nothing comes, loses no event."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c, serial

EVERY = 0.1
EVENTS = 40
PORT = "/dev/ttyUSB0"


async def readings(board: SimBoard) -> AsyncIterator[AsyncIterator[object]]:
    numbers = itertools.count()

    async def read() -> int:
        return next(numbers)

    async with i2c.open(1) as bus, bus.poll(read, every=EVERY) as poll:
        yield poll


async def edges(board: SimBoard) -> AsyncIterator[AsyncIterator[object]]:
    async with gpio.watch(17, pull="down") as watch:
        for number in range(EVENTS):
            board.timeline.after(number * EVERY, lambda level=1 - number % 2: board.line(17).drive(level))
        yield watch


async def frames(board: SimBoard) -> AsyncIterator[AsyncIterator[object]]:
    async with serial.open(PORT, framing=serial.Lines()) as port:
        for number in range(EVENTS):
            board.timeline.after(number * EVERY, lambda text=b"%d\n" % number: board.serial(PORT).send(text))
        yield port


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("opened", [readings, edges, frames])
def test_a_timeout_around_anext_loses_no_event(
    opened: Callable[[SimBoard], AsyncIterator[AsyncIterator[object]]], seed: int
) -> None:
    clock = hwloop.VirtualClock()
    delays = itertools.cycle([EVERY, EVERY / 3, EVERY, 0.0, EVERY - 1e-3, EVERY - 1e-9])
    timeouts = 0

    async def main(board: SimBoard) -> list[object]:
        nonlocal timeouts
        got: list[object] = []
        async for source in opened(board):
            while len(got) < EVENTS:
                try:
                    async with asyncio.timeout(next(delays)):
                        got.append(await anext(source))
                except TimeoutError:
                    timeouts += 1
                    await asyncio.sleep(0)
        return got

    with SimBoard({"port": [{"name": PORT}]}, clock=clock) as board:
        got = hwloop.run(main(board), board=board, clock=clock, seed=seed)
    assert timeouts > EVENTS / 4
    if opened is readings:
        assert [event.value for event in got] == list(range(EVENTS))
    elif opened is edges:
        assert [event.value for event in got] == [1, 0] * (EVENTS // 2)
    else:
        assert [event.data for event in got] == [b"%d" % number for number in range(EVENTS)]
    assert not any(event.lost for event in got)
