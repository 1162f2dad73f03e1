"""Benchmarks of edges: the latency from the kernel's timestamp to the handler, and edges per second of CPU time.

An edge here is what lgpio makes of one: a report of 16 bytes with its CLOCK_MONOTONIC timestamp, written into a FIFO by
another process. So a board without a free pin can be measured too, and the difference to a real edge (interrupt and
lgpio's own half millisecond) is the same for all loops. `wired` uses real lines instead. The floor is epoll and a read
in plain Python, without a loop.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator

import hwloop
from hwloop import board as boards
from hwloop.board import Edge
from hwloop.sources import gpio
from hwloop_bench.processes import FLOOR, Taken, new_loop, quantiles
from hwloop_bench.timers import burn, keep_busy

REPORT = struct.Struct("QBBBBI")
PAUSE = 0.005
"""Seconds between edges on average; each pause is between half and one and a half times as long."""
START = 0.1
"""Seconds before the first edge, for the loop to start."""
LAST_EDGE = 1.0
"""Seconds after the last change of the output within which its edge must arrive; later it counts as lost."""


def edge(loop: str, seconds: float, callbacks: int = 0, each: float = 0.0) -> Taken:
    """Measure FIFO edges to their handler, beside `callbacks` busy callbacks of `each` seconds."""
    count = _count(seconds)
    late: list[float] = []
    reader = _edges_from_another_process(count)
    if loop == FLOOR:
        epoll = select.epoll()
        epoll.register(reader, select.EPOLLIN)
        while len(late) < count:
            epoll.poll()
            late += _latencies(reader)
        return Taken(quantiles(late), late)
    events = new_loop(loop)

    def on_readable() -> None:
        late.extend(_latencies(reader))
        if len(late) == count:
            events.stop()

    events.add_reader(reader, on_readable)
    done = keep_busy(events, callbacks, each)
    start = time.monotonic()
    events.run_forever()
    work = {"work/s": done[0] / (time.monotonic() - start)} if callbacks else {}
    return Taken(quantiles(late) | work, late)


def to_task(loop: str, seconds: float, tasks: int, each: float) -> Taken:
    """Measure FIFO edges through a queue to a task of priority HIGH, beside `tasks` busy tasks of `each` seconds."""
    count = _count(seconds)
    late: list[float] = []
    done = 0

    async def busy() -> None:
        nonlocal done
        while True:
            burn(each)
            done += 1
            await asyncio.sleep(0)

    async def main() -> None:
        queue: asyncio.Queue[int] = hwloop.Queue() if loop.startswith("hwloop") else asyncio.Queue()
        work = [asyncio.create_task(busy()) for _ in range(tasks)]

        def on_readable() -> None:
            for report in REPORT.iter_unpack(os.read(reader, 65536)):
                queue.put_nowait(report[0])

        async def handle() -> None:
            for _ in range(count):
                stamp = await queue.get()
                late.append((time.monotonic_ns() - stamp) / 1e3)

        reader = _edges_from_another_process(count)
        asyncio.get_running_loop().add_reader(reader, on_readable)
        await hwloop.create_task(handle(), priority=hwloop.Priority.HIGH)
        for task in work:
            task.cancel()

    start = time.monotonic()
    new_loop(loop).run_until_complete(main())
    return Taken(quantiles(late) | {"work/s": done / (time.monotonic() - start)}, late)


def flood(loop: str, seconds: float, records: int) -> Taken:
    """Count the edges per second of CPU time, `records` to a read, while more than that always wait."""
    size = REPORT.size * records
    reader = _flood_from_another_process()
    number = 0
    start = time.process_time()
    if loop == FLOOR:
        number = _bare_flood(reader, seconds, size)
    else:
        events = new_loop(loop)

        def on_readable() -> None:
            nonlocal number
            for _ in REPORT.iter_unpack(os.read(reader, size)):
                number += 1

        events.add_reader(reader, on_readable)
        events.call_later(seconds, events.stop)
        events.run_forever()
    return Taken({"edges/CPU s": number / (time.process_time() - start)})


def _bare_flood(reader: int, seconds: float, size: int) -> int:
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    number = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        epoll.poll()
        for _ in REPORT.iter_unpack(os.read(reader, size)):
            number += 1
    return number


def wired(
    loop: str, seconds: float, lines: tuple[int | str, int | str], board: str, callbacks: int = 0, each: float = 0.0
) -> Taken:
    """Measure edges of a real line to their handler: `lines` are an input and an output that a wire connects.

    A thread drives the output, so that edges come at any time and not only between two callbacks of the loop.
    """
    watched, driven = lines
    count = _count(seconds)
    late: list[float] = []

    async def main() -> None:
        arrived = asyncio.Event()

        def on_edge(event: Edge) -> None:
            late.append((time.monotonic_ns() - event.timestamp_ns) / 1e3)
            if len(late) == count:
                arrived.set()

        with gpio.output(driven, initial=0, safe=0) as output:
            async with gpio.watch(watched) as watch:
                watch.on_edge(on_edge)
                events = asyncio.get_running_loop()
                drive_ended = asyncio.Event()

                def drive() -> None:
                    try:
                        _drive(output, count)
                    finally:
                        events.call_soon_threadsafe(drive_ended.set)

                thread = threading.Thread(target=drive)
                keep_busy(events, callbacks, each)
                thread.start()
                await drive_ended.wait()  # a busy loop may keep the thread from running for a while
                try:
                    await asyncio.wait_for(arrived.wait(), LAST_EDGE)
                except TimeoutError:
                    pass  # the figures count the edges that are missing
                thread.join()

    with boards.using(board or None):
        new_loop(loop).run_until_complete(main())
    if not late:
        raise SystemExit(f"no edge came from {watched} while {driven} was driven: are the two wired together?")
    return Taken(quantiles(late) | {"lost %": 100 * (1 - len(late) / count)}, late)


def _count(seconds: float) -> int:
    return max(1, round(seconds / PAUSE))


def _latencies(reader: int) -> list[float]:
    """Read the edges that wait in a FIFO and return their ages in microseconds."""
    data = os.read(reader, 65536)
    now = time.monotonic_ns()
    return [(now - report[0]) / 1e3 for report in REPORT.iter_unpack(data)]


def _pauses(count: int) -> Iterator[float]:
    """Yield the seconds before each edge: the same for every loop, and out of step with any load."""
    rng = random.Random(0)
    for _ in range(count):
        yield PAUSE * rng.uniform(0.5, 1.5)


def _drive(output: gpio.Output, count: int) -> None:
    time.sleep(START)
    for number, pause in enumerate(_pauses(count), 1):
        time.sleep(pause)
        output.set(number & 1)  # type: ignore[arg-type]


def _edges_from_another_process(count: int) -> int:
    """Return the reading end of a FIFO into which another process writes `count` edges."""

    def write(fd: int) -> None:
        time.sleep(START)
        for number, pause in enumerate(_pauses(count)):
            time.sleep(pause)
            os.write(fd, REPORT.pack(time.monotonic_ns(), 0, 17, number & 1, 0, 0))

    return _fed_by(write)


def _flood_from_another_process() -> int:
    """Return the reading end of a FIFO that another process keeps full."""
    block = REPORT.pack(time.monotonic_ns(), 0, 17, 1, 0, 0) * 4096

    def write(fd: int) -> None:
        while True:
            os.write(fd, block)

    reader = _fed_by(write)
    time.sleep(START)
    return reader


def _fed_by(write: Callable[[int], None]) -> int:
    """Return the non-blocking reading end of a FIFO; another process runs `write` on the other end."""
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        try:
            write(writer)
        except BrokenPipeError:
            pass  # the reader has enough
        finally:
            os._exit(0)
    os.close(writer)
    os.set_blocking(reader, False)
    return reader
