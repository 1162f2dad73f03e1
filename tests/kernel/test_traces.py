"""The simulated board tells what the kernel tells: each scenario runs over both, and the two traces must be the same.

A trace has what a program sees, values and order: edges as they are delivered, levels as they are read, refusals by
their kind. Times are left out, for they differ. A scenario waits where the kernel needs time to see each change for
itself; what it makes of changes that come too fast is chance, on a Pi as well.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gpio_sim import GpioSim

import hwloop
from firmware_sim.board import SimBoard
from firmware_sim.trace import Trace
from hwloop import gpio
from hwloop.board import Board
from hwloop.boards.linux import LinuxBoard
from hwloop.errors import HardwareError
from hwloop.trace_events import LineChange

SETTLE = 0.1
"""Seconds in which an edge gets from the line to the handler, also in an emulated machine."""
DEBOUNCE = 0.25


class World(ABC):
    """The world outside the chip, and the trace of what the program notices of it."""

    def __init__(self) -> None:
        self.trace: list[object] = []

    @abstractmethod
    def drive(self, line: int, level: int) -> None:
        """Put a line to an electrical level."""

    @abstractmethod
    def electrical(self, line: int) -> int:
        """Its electrical level."""

    async def put(self, line: int, *levels: int, dwell: float = SETTLE) -> None:
        """Put a line to each of these levels, for `dwell` seconds each."""
        for level in levels:
            self.drive(line, level)
            await asyncio.sleep(dwell)

    async def carry(self, source: int, target: int) -> None:
        """Be a wire from one line to another for a moment."""
        await self.put(target, self.electrical(source))

    def tell(self, edge: gpio.Edge) -> None:
        self.trace.append((edge.line, edge.value, edge.lost))

    def note(self, *what: object) -> None:
        self.trace.append(what)


class KernelWorld(World):
    def __init__(self, chip: GpioSim) -> None:
        super().__init__()
        self._chip = chip

    def drive(self, line: int, level: int) -> None:
        self._chip.drive(line, level)

    def electrical(self, line: int) -> int:
        return self._chip.level(line)


class SimWorld(World):
    def __init__(self, board: SimBoard) -> None:
        super().__init__()
        self._board = board

    def drive(self, line: int, level: int) -> None:
        # As gpio-sim has it, where what is outside only pulls: a line that is an output keeps its own level.
        self._board.chip.line(line).pull("up" if level else "down")

    def electrical(self, line: int) -> int:
        return self._board.chip.line(line).level


Scenario = Callable[[World], Awaitable[None]]


def watched(**options: Any) -> Scenario:
    """One line under these options, put through every change."""

    async def scenario(world: World) -> None:
        await world.put(17, 0)
        async with gpio.watch(17, **options) as watch:
            watch.on_edge(world.tell)
            world.note("at first", watch.value)
            await world.put(17, 1, 0, 0, 1, 1, 0, 1)
            world.note("at last", watch.value)
            world.note("received", watch.statistics().received)

    return scenario


async def several_lines(world: World) -> None:
    """One watch of three lines keeps the order in which they changed, and names them as it was asked to."""
    for line in (5, 17, 27):
        await world.put(line, 0)
    async with gpio.watch(17, "GPIO5", 27) as watch:
        watch.on_edge(world.tell)
        for line, level in [(5, 1), (17, 1), (27, 1), (17, 0), (5, 0), (27, 0), (5, 1), (5, 0), (17, 1)]:
            await world.put(line, level)
        world.note([watch.level(line) for line in watch.lines])


async def two_watches(world: World) -> None:
    """Each of two watches reports the edges of its own line."""
    await world.put(17, 0)
    await world.put(27, 0)
    async with gpio.watch(17) as one, gpio.watch(27, active_low=True) as other:
        one.on_edge(world.tell)
        other.on_edge(world.tell)
        for line, level in [(17, 1), (27, 1), (17, 0), (27, 0)]:
            await world.put(line, level)


async def pulls(world: World) -> None:
    """The pull that is asked for sets the level of a line that nothing else drives."""
    for pull, active_low in [("up", False), ("down", False), ("up", True), ("down", True), ("up", False)]:
        async with gpio.watch(22, pull=pull, active_low=active_low) as watch:
            await asyncio.sleep(SETTLE)
            world.note(pull, active_low, watch.value, world.electrical(22))


async def initial_level(world: World) -> None:
    """A line's level before the watch is no edge, and what it was then is known."""
    for level in (1, 0, 1):
        await world.put(17, level)
        async with gpio.watch(17) as watch:
            watch.on_edge(world.tell)
            world.note(watch.value)
            await world.put(17, 1 - level)


async def debounced(world: World) -> None:
    """Bounces are not reported, and the settled level is, once; a glitch that ends where it began is ignored."""
    await world.put(17, 0)
    async with gpio.watch(17, debounce=DEBOUNCE) as watch:
        watch.on_edge(world.tell)
        for bounces in [(1, 0, 1, 0, 1), (0, 1, 0), (1, 0, 1), (0, 1), (1,), (0, 1, 0)]:
            for level in bounces:
                world.drive(17, level)
                await asyncio.sleep(0.001)
            await asyncio.sleep(4 * DEBOUNCE)
        world.note(watch.value)


async def outputs(world: World) -> None:
    """The level of an output shows on its line and on another one that is wired to it.

    The level of a line that was given back depends on the chip: a Pi's keeps it, gpio-sim's does not.
    """
    await world.put(22, 0)
    for active_low in (False, True):
        async with gpio.watch(22) as watch:
            watch.on_edge(world.tell)
            with gpio.output(27, initial=1, safe=0, active_low=active_low) as output:
                for action in (
                    lambda: None,
                    lambda: output.set(0),
                    output.toggle,
                    output.toggle,
                    lambda: output.set(1),
                ):
                    action()
                    world.note(output.value, world.electrical(27))
                    await world.carry(27, 22)


async def refusals(world: World) -> None:
    """Lines that are not available raise with the same reason, and are available afterwards."""

    async def attempt(*lines: gpio.LineName, **options: Any) -> None:
        try:
            async with gpio.watch(*lines, **options):
                world.note(*lines, "given")
        except HardwareError as error:
            world.note(*lines, error.reason.partition(" on /dev/")[0], error.errno)

    await attempt(99)
    await attempt("LAMP")
    await attempt(17, 99)
    async with gpio.watch(17, name="the door"):
        await attempt(17)
        await attempt(22, "GPIO17")
    await attempt(17, 22)


SCENARIOS: dict[str, Scenario] = {
    "both edges": watched(),
    "rising": watched(edges="rising"),
    "falling": watched(edges="falling"),
    "active low": watched(active_low=True),
    "rising, active low": watched(edges="rising", active_low=True),
    "falling, active low": watched(edges="falling", active_low=True),
    "several lines": several_lines,
    "two watches": two_watches,
    "pulls": pulls,
    "initial level": initial_level,
    "debounced": debounced,
    "outputs": outputs,
    "refusals": refusals,
}


def trace_of(scenario: Scenario, board: Board, world: World, **options: Any) -> list[object]:
    async def main() -> None:
        await scenario(world)

    hwloop.run(main(), board=board, **options)
    return world.trace


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_simulated_board_tells_what_the_kernel_tells(name: str, chip: GpioSim, board: LinuxBoard) -> None:
    kernel = trace_of(SCENARIOS[name], board, KernelWorld(chip))
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as sim:
        simulated = trace_of(SCENARIOS[name], sim, SimWorld(sim), clock=clock)
    assert len(kernel) >= 2
    assert kernel == simulated


async def inputs_and_outputs(world: World) -> None:
    """Two inputs that change and two outputs that are switched, one of them active low."""
    for line in (5, 17):
        await world.put(line, 0)
    async with (
        gpio.watch(17),
        gpio.watch(5, active_low=True),
        gpio.output(27) as lamp,
        gpio.output(22, active_low=True) as heater,
    ):
        for line, level in [(17, 1), (5, 1), (17, 0), (5, 0)]:
            await world.put(line, level)
            lamp.toggle()
            heater.set(1)


def test_the_recorded_trace_of_a_real_board_is_that_of_the_simulated_one(chip: GpioSim, board: LinuxBoard) -> None:
    kernel, simulated = Trace(), Trace()
    board.tracer = kernel
    trace_of(inputs_and_outputs, board, KernelWorld(chip))
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock, tracer=simulated) as sim:
        sim.line(5).pull("down")
        simulated.clear()
        trace_of(inputs_and_outputs, sim, SimWorld(sim), clock=clock)

    def changes(trace: Trace) -> list[tuple[int, int, str]]:
        return [(change.line, change.level, change.by) for change in trace.of(LineChange)]

    assert changes(kernel) == changes(simulated)
    assert len(changes(kernel)) >= 8
    times = [change.when_ns for change in kernel.of(LineChange)]
    assert times == sorted(times)
