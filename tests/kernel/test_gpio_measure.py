"""An encoder and a frequency from the kernel's own edges; through gpiod, for lgpio loses some without a sign."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.board import Edge
from hwloop.boards.linux import LinuxBoard

FORTH, BACK, RATE = 300, 100, 2000
TURN = """
import os, sys, time
pulls = [os.open(path, os.O_WRONLY) for path in sys.argv[1:3]]
forth, back, rate = map(int, sys.argv[3:6])
place, levels = 0, [0, 0]
for step in [1] * forth + [-1] * back:
    due = time.monotonic() + 1 / rate
    place += step
    for line, level in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))[place % 4]):
        if levels[line] != level:
            levels[line] = level
            os.pwrite(pulls[line], b"pull-up" if level else b"pull-down", 0)
    if (pause := due - time.monotonic()) > 0:
        time.sleep(pause)
"""


@pytest.fixture
def gpiod_board(chip: GpioSim) -> Iterator[LinuxBoard]:
    with LinuxBoard("gpiod") as board:
        yield board


def test_an_encoder_misses_nothing_at_up_to_2000_edges_a_second(chip: GpioSim, gpiod_board: LinuxBoard) -> None:
    """Where the emulated machine stalls, the kernel merges events or reads levels late; the test tries again then."""
    pulls = [str(chip._sysfs / f"sim_gpio{line}/pull") for line in (5, 6)]

    async def turn() -> tuple[int, int, bool, int]:
        """Steps, invalid transitions, whether the kernel reported all edges, edges lost later; a process turns it."""
        async with gpio.encoder(5, 6) as knob:
            command = [sys.executable, "-SEc", TURN, *pulls, str(FORTH), str(BACK), str(RATE)]
            process = await asyncio.to_thread(subprocess.run, command)
            assert process.returncode == 0
            await asyncio.sleep(0.2)  # a quiet line that is not where its last event left it is read
            statistics = knob.watch.statistics()
            whole = statistics.received == FORTH + BACK and not statistics.merged
            return knob.steps, knob.invalid, whole, statistics.lost_kernel + statistics.dropped

    async def main() -> None:
        give_up = time.monotonic() + 400
        whole = False
        while not whole:
            assert time.monotonic() < give_up, "the machine stalled each time"
            steps, invalid, whole, lost = await turn()
            if whole:
                assert (steps, invalid) == (FORTH - BACK, 0)
            # An event that the kernel did not make, or whose level it read late, puts off the count but not the phase.
            assert ((FORTH - BACK - steps) % 4, lost) == (0, 0)

    hwloop.run(main(), board=gpiod_board)


def test_a_frequency_is_that_of_the_kernels_stamps(chip: GpioSim, gpiod_board: LinuxBoard) -> None:
    """Where the emulated machine stalls, the kernel merges events, and the mean begins after the loss."""

    async def main() -> None:
        edges: list[Edge] = []
        async with gpio.watch(17) as watch, gpio.frequency(watch, window=60) as meter:
            watch.on_edge(edges.append)
            train = await asyncio.to_thread(chip.train, 17, 100, 50)
            await asyncio.to_thread(train.wait)
            await asyncio.sleep(0.1)
            first = max((place for place, edge in enumerate(edges) if edge.lost), default=0)
            stamps = [edge.timestamp_ns for edge in edges[first:] if edge.value]
            assert meter.hz == (1e9 * (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 0)
            assert meter.count == len([edge for edge in edges if edge.value]) > 2

    hwloop.run(main(), board=gpiod_board)
