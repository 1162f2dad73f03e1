"""A port that is unplugged and plugged in again a thousand times: nothing grows, comes twice or is lost silently."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import tracemalloc
from typing import Any, NamedTuple

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop.sources import Backoff, serial

ADAPTER = {"port": [{"name": "/dev/ttyUSB0", "serial_number": "A50285BI"}]}


class Held(NamedTuple):
    """Descriptors, threads and memory of this process."""

    descriptors: int
    threads: int
    memory: int


def held() -> Held:
    gc.collect()
    return Held(len(os.listdir("/proc/self/fd")), threading.active_count(), tracemalloc.get_traced_memory()[0])


@pytest.mark.parametrize("cycles", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_grows_nothing_comes_twice_and_each_loss_is_counted(
    cycles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cycle brings a whole frame, and every second one half a frame, on which the port is pulled out.

    The adapter comes back as ttyUSB1 and as ttyUSB0 in turn, now and then only after some attempts.
    """
    clock = hwloop.VirtualClock()
    reports = returns = 0
    samples: list[Held] = []

    def count_report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal reports
        reports += "failed; it is reopened" in context["message"]

    def count_return(record: logging.LogRecord) -> bool:
        nonlocal returns
        returns += "is back after" in record.getMessage()
        return False  # pytest would keep it

    monkeypatch.setattr(logging.getLogger("hwloop"), "filters", [count_return])

    async def main() -> None:
        loop, port = asyncio.get_running_loop(), board.serial("/dev/ttyUSB0")
        loop.set_exception_handler(count_report)
        received = lost = 0

        def take(frame: serial.Frame) -> None:
            nonlocal received, lost
            assert frame.data == b"%d" % received
            received += 1
            lost += frame.lost

        adapter = serial.find(serial_number="A50285BI")
        async with serial.open(adapter, framing=serial.Lines(), reopen=Backoff(0.01, 2, 1)) as source:
            source.add_callback(take)
            for cycle in range(cycles):
                port.send(b"%d\n" % cycle + (b"half" if cycle % 2 else b""))
                source.write(b"ping\n")
                await asyncio.sleep(0.05)
                port.unplug()
                await asyncio.sleep(0.1 if cycle % 10 == 0 else 0.001)
                board.rename_port(port.name, f"/dev/ttyUSB{1 - cycle % 2}")
                port.replug()
                await asyncio.sleep(1.5)
                if cycle in (cycles // 2, cycles - 1):
                    samples.append(held())
            port.send(b"%d\n" % cycles)
            await asyncio.sleep(0.05)
            found = source.statistics()
        assert lost == found.lost == cycles // 2
        assert (found.reopened, found.queued, found.dropped) == (cycles, 0, 0)
        assert found.received == found.delivered == received == cycles + 1

    tracemalloc.start()
    try:
        with SimBoard(ADAPTER, clock=clock) as board:
            hwloop.run(main(), board=board, clock=clock)
    finally:
        tracemalloc.stop()
    assert reports == returns == cycles
    first, last = samples
    assert last.descriptors == first.descriptors
    assert last.threads == first.threads
    # Caches of the interpreter and histograms fill up to their bounds. A kept object would be a hundred bytes a cycle.
    assert last.memory - first.memory < 40_000
