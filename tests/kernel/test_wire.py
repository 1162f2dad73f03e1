"""A line that is driven and let go of in turn, on the kernel's own GPIO: what others do with it is heard each time.

A line of gpio-sim keeps the level that an output gave it when the output becomes an input; only the next change of its
pull shows again. So these tests pull the line themselves where a resistor would have.
"""

from __future__ import annotations

import asyncio
import time

from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard

LINE = 4


def test_the_edges_of_others_arrive_each_time_the_line_is_released(board: LinuxBoard, chip: GpioSim) -> None:
    chip.drive(LINE, 1)  # the resistor of a one-wire bus

    async def main() -> None:
        async with gpio.output(LINE, initial=1, drive="open-drain") as wire:
            edges: list[gpio.Edge] = []
            wire.on_edge(edges.append)
            for _ in range(5):
                wire.set(0)
                assert wire.value == 0
                await asyncio.sleep(0.002)
                wire.set(1)
                chip.drive(LINE, 1)
                await asyncio.sleep(0.1)
                assert wire.value == 1
                edges.clear()
                for count, level in enumerate((0, 1, 0, 1), 1):
                    chip.drive(LINE, level)
                    async with asyncio.timeout(5):
                        while len(edges) < count:
                            await asyncio.sleep(0.001)
                assert [edge.value for edge in edges] == [0, 1] * 2
                stamps = [edge.timestamp_ns for edge in edges]
                assert stamps == sorted(stamps)
            assert wire.edges.statistics().lost == 0
            wire.set(0)
        async with gpio.watch(LINE) as watch:
            assert watch.value == 1

    hwloop.run(main(), board=board)


def test_an_open_source_line_is_heard_while_it_is_low(board: LinuxBoard, chip: GpioSim) -> None:
    chip.drive(LINE, 0)

    async def main() -> None:
        async with gpio.output(LINE, initial=1, drive="open-source", active_low=True) as wire:
            edges = wire.edges
            chip.drive(LINE, 1)
            async with asyncio.timeout(5):
                assert (await anext(edges)).value == 0
                chip.drive(LINE, 0)
                assert (await anext(edges)).value == 1

    hwloop.run(main(), board=board)


def test_edges_that_wait_when_the_line_is_driven_again_are_not_lost(board: LinuxBoard, chip: GpioSim) -> None:
    chip.drive(LINE, 1)

    async def main() -> None:
        async with gpio.output(LINE, initial=1, drive="open-drain") as wire:
            edges: list[int] = []
            wire.on_edge(lambda edge: edges.append(edge.value))
            for level in (0, 1):
                chip.drive(LINE, level)
                time.sleep(0.1)  # the loop sees nothing of it; for the kernel they are two, and lgpio has reported them
            wire.set(0)
            wire.set(1)
            async with asyncio.timeout(5):
                while len(edges) < 2:
                    await asyncio.sleep(0.001)
            assert edges == [0, 1]

    hwloop.run(main(), board=board)
