"""Edges that come faster than a program can take them: each is delivered or counted.

A probe in the kernel's function that makes events counts them, and every one of them must be accounted for. Events
don't show how many edges the line really had: changes that the interrupt thread finds together are one event, and when
it runs late it reads the level that a later change has left, so that two equal levels in a row may mean an edge without
an event, or one that was taken for the other kind.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard

TRACING = Path("/sys/kernel/tracing")
EDGES = int(os.environ.get("HWLOOP_KERNEL_EDGES", "5000"))
"""Length of the long train: 100,000 for the figure in docs/gpio.md, which takes two minutes or more."""


class Probe:
    """Counts the edges that the kernel's GPIO code has numbered (Documentation/trace/kprobetrace.rst)."""

    def __init__(self) -> None:
        if not (TRACING / "kprobe_events").exists():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True)
        (TRACING / "kprobe_events").write_text("p:hwloop/numbered edge_irq_thread")
        (TRACING / "events/hwloop/numbered/enable").write_text("1")

    def count(self) -> int:
        name, hits, missed = (TRACING / "kprobe_profile").read_text().split()
        assert (name, missed) == ("numbered", "0")
        return int(hits)

    def close(self) -> None:
        (TRACING / "events/hwloop/numbered/enable").write_text("0")
        (TRACING / "kprobe_events").write_text("")


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.close()


class Account:
    """The edges that a watch has delivered, and those that it counted as lost."""

    def __init__(self, watch: gpio.Watch) -> None:
        self.delivered = self.lost = 0
        self.level = watch.value
        self.watch = watch
        watch.on_edge(self.take)

    def take(self, edge: gpio.Edge) -> None:
        self.delivered += 1
        self.lost += edge.lost
        self.level = edge.value

    async def settled(self) -> None:
        """Wait until nothing has come for a while."""
        seen = -1
        while seen != self.delivered:
            seen = self.delivered
            await asyncio.sleep(0.3)

    def report(self, sent: int, numbered: int, seconds: float) -> str:
        return (
            f"{sent} edges at {sent / seconds:.0f}/s: the kernel numbered {numbered}, delivered {self.delivered}, "
            f"{self.watch.statistics()}"
        )


def check(account: Account, sent: int, numbered: int) -> None:
    """Every event that the kernel numbered is delivered or counted as lost, and the levels add up."""
    counted = account.watch.statistics()
    assert account.lost == counted.lost == counted.lost_kernel + counted.lost_fifo + counted.merged
    assert account.delivered - counted.reconciled + counted.lost_kernel == numbered
    assert (sent - account.delivered - counted.lost) % 2 == 0


@pytest.mark.parametrize("backend", ["gpiod"], indirect=True)
def test_a_long_train_of_edges_is_delivered_or_counted(
    chip: GpioSim, board: LinuxBoard, probe: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with gpio.watch(17) as watch:
            account = Account(watch)
            began = time.monotonic()
            train = chip.train(17, EDGES, rate=2000)
            while train.poll() is None:
                await asyncio.sleep(0.01)
            took = time.monotonic() - began
            await account.settled()
            with capsys.disabled():
                print(f"\n{account.report(EDGES, probe.count(), took)}")
            check(account, EDGES, probe.count())
            assert account.level == chip.level(17)

    hwloop.run(main(), board=board)


@pytest.mark.parametrize("backend", ["gpiod"], indirect=True)
@pytest.mark.parametrize("edges", [6000, 6001])
def test_events_that_overflow_the_kernels_buffer_are_counted_exactly(
    chip: GpioSim, board: LinuxBoard, probe: Probe, edges: int
) -> None:
    async def main() -> None:
        async with gpio.watch(17) as watch:
            account = Account(watch)
            chip.train(17, edges, rate=5000).wait()  # and nobody reads
            await account.settled()
            check(account, edges, probe.count())
            assert watch.statistics().lost_kernel == probe.count() - 1024 > 0
            assert account.level == chip.level(17) == edges % 2

    hwloop.run(main(), board=board)


@pytest.mark.parametrize("edges", [10000, 10001])
def test_soon_after_a_flood_the_level_that_is_known_is_the_lines(
    chip: GpioSim, board: LinuxBoard, backend: str, edges: int
) -> None:
    async def main() -> None:
        async with gpio.watch(17) as watch:
            account = Account(watch)
            chip.train(17, edges).wait()  # and nobody reads
            async with asyncio.timeout(2):
                while account.level != edges % 2 or account.watch.value != account.level:
                    await asyncio.sleep(0.01)
            await account.settled()
            assert account.level == chip.level(17) == edges % 2
            assert (edges - account.delivered - account.lost) % 2 == 0

            # And the way is free again.
            chip.drive(17, 1 - edges % 2)
            async with asyncio.timeout(2):
                while account.level == edges % 2:
                    await asyncio.sleep(0.01)

    hwloop.run(main(), board=board)
