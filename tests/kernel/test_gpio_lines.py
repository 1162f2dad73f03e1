"""Edges and outputs as the public API tells of them, on the kernel's own GPIO code."""

from __future__ import annotations

import asyncio
import time

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard


async def edges_of(watch: gpio.Watch, count: int) -> list[gpio.Edge]:
    """The next edges of an open watch; fails where they do not come."""
    edges = []
    async with asyncio.timeout(20):
        async for edge in watch:
            edges.append(edge)
            if len(edges) == count:
                return edges
    raise AssertionError("the watch ended")


def test_edges_carry_line_level_and_the_kernels_time(chip: GpioSim, board: LinuxBoard) -> None:
    async def main() -> None:
        async with gpio.watch(17, "GPIO18") as watch:
            before_ns = time.monotonic_ns()
            chip.drive(17, 1)
            edges = await edges_of(watch, 1)
            chip.drive(18, 1)
            edges += await edges_of(watch, 1)
            chip.drive(17, 0)
            edges += await edges_of(watch, 1)
            after_ns = time.monotonic_ns()
        assert [(edge.line, edge.value, edge.lost) for edge in edges] == [(17, 1, 0), ("GPIO18", 1, 0), (17, 0, 0)]
        times = [t for edge in edges for t in (edge.timestamp_ns, edge.received_ns)]
        assert [before_ns, *times, after_ns] == sorted([before_ns, *times, after_ns])

    hwloop.run(main(), board=board)


@pytest.mark.parametrize(("edges", "expected"), [("rising", [1, 1]), ("falling", [0, 0]), ("both", [1, 0, 1, 0])])
def test_only_the_requested_edges_are_reported(
    chip: GpioSim, board: LinuxBoard, edges: gpio.EdgeKind, expected: list[int]
) -> None:
    async def main() -> None:
        async with gpio.watch(17, edges=edges) as watch:
            for level in (1, 0, 1, 0):
                chip.drive(17, level)
                await asyncio.sleep(0.1)
            assert [edge.value for edge in await edges_of(watch, len(expected))] == expected
            assert watch.statistics().received == len(expected)

    hwloop.run(main(), board=board)


def test_an_active_low_line_reports_logical_levels(chip: GpioSim, board: LinuxBoard) -> None:
    chip.drive(17, 1)

    async def main() -> None:
        async with gpio.watch(17, active_low=True, edges="rising") as watch:
            assert watch.value == 0
            chip.drive(17, 0)
            (edge,) = await edges_of(watch, 1)
            assert (edge.value, watch.value) == (1, 1)

    hwloop.run(main(), board=board)


def test_an_output_drives_its_line_and_keeps_its_safe_level(chip: GpioSim, board: LinuxBoard) -> None:
    async def main() -> None:
        async with gpio.output(27, initial=1, safe=0) as lamp, gpio.output("GPIO22", active_low=True) as relay:
            assert (chip.level(27), lamp.value) == (1, 1)
            assert (chip.level(22), relay.value) == (1, 0)
            lamp.toggle()
            relay.set(1)
            assert (chip.level(27), lamp.value) == (0, 0)
            assert (chip.level(22), relay.value) == (0, 1)
            lamp.set(1)
            assert chip.level(27) == 1
        assert chip.level(27) == 0

    hwloop.run(main(), board=board)
