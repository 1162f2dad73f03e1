"""How long an edge takes from the kernel's time stamp to a handler, against the barest loop over the same descriptor.

    python3 tests/kernel/guest/run.py -- .venv/bin/python tests/kernel/latency.py [gpiod] [lgpio]

For each backend, in turn and in one process: a loop of ten lines that does nothing else, then hwloop's. The ratio is
what hwloop adds; the times are an emulated processor's. And how often eight idle lines wake the process.
"""

from __future__ import annotations

import asyncio
import os
import select
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.lgpio.module import load_lgpio
from hwloop.boards.linux import LinuxBoard

ROUNDS, EDGES, RATE = 5, 200, 200
IDLE_SECONDS = 3.0


def bare(chip: GpioSim, fd: int, take: Callable[[], list[int]]) -> float:
    """Median of kernel stamp to decoded event, in ns; `take` reads what waits and returns the stamps."""
    late: list[int] = []
    with select.epoll() as poll:
        poll.register(fd, select.EPOLLIN)
        train = chip.train(17, EDGES, RATE)
        while poll.poll(1 if late else 10):
            stamps = take()
            now_ns = time.monotonic_ns()
            late += [now_ns - stamp_ns for stamp_ns in stamps]
        train.wait()
    return statistics.median(late)


def bare_gpiod(chip: GpioSim) -> float:
    import gpiod
    from gpiod.line import Direction, Edge

    settings = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH)
    with gpiod.request_lines(chip.path, config={17: settings}, event_buffer_size=1024) as request:
        return bare(chip, request.fd, lambda: [event.timestamp_ns for event in request.read_edge_events()])


def bare_lgpio(chip: GpioSim) -> float:
    lgpio, directory = load_lgpio()
    handle, notify = lgpio.gpiochip_open(chip.number), lgpio.notify_open()
    fd = os.open(f"{directory}/.lgd-nfy{notify}", os.O_RDONLY | os.O_NONBLOCK)
    lgpio.gpio_claim_alert(handle, 17, lgpio.BOTH_EDGES, 0, notify)
    try:
        return bare(chip, fd, lambda: [report[0] for report in struct.iter_unpack("QBBBBI", os.read(fd, 4096))])
    finally:
        lgpio.gpio_free(handle, 17)
        os.close(fd)
        lgpio.notify_close(notify)
        lgpio.gpiochip_close(handle)


def through_hwloop(chip: GpioSim, board: LinuxBoard) -> float:
    late: list[int] = []

    async def main() -> None:
        async with gpio.watch(17) as watch:
            watch.on_edge(lambda edge: late.append(time.monotonic_ns() - edge.timestamp_ns))
            train = chip.train(17, EDGES, RATE)
            seen = -1
            while seen != len(late) or not late:
                seen = len(late)
                await asyncio.sleep(1)
            train.wait()

    hwloop.run(main(), board=board)
    return statistics.median(late)


def idle_wakeups(board: LinuxBoard) -> float:
    """Times a second that eight watched lines on which nothing happens wake this process."""

    def wakeups() -> int:
        statuses = (path.read_text() for path in Path("/proc/self/task").glob("*/status"))
        return sum(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for status in statuses)

    async def main() -> float:
        async with gpio.watch(list(range(8))):
            await asyncio.sleep(0.5)
            before = wakeups()
            await asyncio.sleep(IDLE_SECONDS)
            return (wakeups() - before - 1) / IDLE_SECONDS  # one ends the sleep

    return hwloop.run(main(), board=board)


def main() -> None:
    chip = GpioSim()
    print(f"Linux {os.uname().release}; {ROUNDS} rounds of {EDGES} edges, {RATE} a second; medians of their medians")
    for name in sys.argv[1:] or ("gpiod", "lgpio"):
        baseline = {"gpiod": bare_gpiod, "lgpio": bare_lgpio}[name]
        pairs = []
        for _ in range(ROUNDS):
            with LinuxBoard(backend=name) as board:
                pairs.append((baseline(chip), through_hwloop(chip, board)))
        barest, ours = (statistics.median(values) / 1000 for values in zip(*pairs, strict=True))
        ratio = statistics.median(ours / bare for bare, ours in pairs)
        with LinuxBoard(backend=name) as board:
            woken = idle_wakeups(board)
        print(
            f"{name}: stamp to handler {ours:.0f} µs, bare loop {barest:.0f} µs, ratio {ratio:.2f}; "
            f"eight idle lines: {woken:.1f} wakeups a second",
            flush=True,
        )
    chip.close()


if __name__ == "__main__":
    main()
