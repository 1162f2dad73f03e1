"""Outputs that let go of their line and hear what others do with it, as a DHT22's one wire needs it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop import SimLoop, VirtualClock, gpio
from hwloop.board import Edge, using
from hwloop.errors import HardwareError

Run = Callable[[Coroutine[Any, Any, None]], None]
BITS = [int(bit) for bit in "0000001010001100000000010101111111101110"]


class Dht22:
    """A humidity sensor with its 10 kΩ resistor: it answers 30 µs after a start signal of at least 1 ms ends."""

    def __init__(self, board: SimBoard, number: int, bits: list[int]) -> None:
        self.line, self.bits = board.chip.line(number), bits
        self.asked = 0
        self._at, self._fell = board.timeline.at, 0
        self._busy_until = 0
        self.line.pull("up")
        self.line.observe(self._on_change)

    def _on_change(self, level: int, when_ns: int) -> None:
        if when_ns < self._busy_until:
            return
        if level == 0:
            self._fell = when_ns
        elif when_ns - self._fell >= 1_000_000:
            self.asked += 1
            self._answer(when_ns + 30_000)

    def _answer(self, at: int) -> None:
        changes: list[tuple[int, int | None]] = [(at, 0), (at + 80_000, None)]
        at += 160_000
        for bit in self.bits:
            changes += [(at, 0), (at + 50_000, None)]
            at += 120_000 if bit else 76_000
        changes += [(at, 0), (at + 50_000, None)]
        self._busy_until = at + 60_000
        for when, level in changes:
            self._at(when, lambda level=level: self.line.drive(level))


def decoded(edges: list[Edge]) -> list[int]:
    """The bits of an answer, by the widths of the high pulses: the last of them is the line's rest."""
    highs = [b.timestamp_ns - a.timestamp_ns for a, b in itertools.pairwise(edges) if a.value > b.value]
    return [int(width > 48_000) for width in highs][-40:]


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, using(board):
        yield board


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class TestDht22:
    def test_all_bits_arrive_in_each_of_several_readings(self, run: Run, board: SimBoard) -> None:
        """In real time, at the sensor's own speed: the edges carry the times at which it made them."""
        sensor = Dht22(board, 4, BITS)

        async def main() -> None:
            edges: list[Edge] = []
            async with gpio.output(4, initial=1, drive="open-drain") as wire:
                wire.on_edge(edges.append)
                for count in (1, 2, 3):
                    edges.clear()
                    wire.set(0)
                    await asyncio.sleep(0.002)
                    wire.set(1)
                    await until(lambda: len(edges) == 84)
                    assert decoded(edges) == BITS
                    assert sensor.asked == count
                    await asyncio.sleep(0.001)
                assert wire.edges.statistics().lost == 0
                assert wire.value == 1

        run(main())

    @pytest.mark.parametrize("seed", range(3))
    def test_in_virtual_time_with_a_pulse_and_async_for(self, seed: int) -> None:
        clock = VirtualClock()

        async def main() -> None:
            async with gpio.output(4, initial=1, drive="open-drain") as wire:
                edges = aiter(wire.edges)
                for _ in range(2):
                    await wire.pulse(0.0011, value=0)
                    answer = [await anext(edges) for _ in range(84)]
                    assert decoded(answer) == BITS
                    assert [edge.value for edge in answer] == [0, 1] * 42  # our own pulse is not among them
                    await asyncio.sleep(2)

        with SimBoard(clock=clock) as board, using(board):
            Dht22(board, 4, BITS)
            with asyncio.Runner(loop_factory=lambda: SimLoop(seed=seed, clock=clock)) as runner:
                runner.run(main())


class TestEdges:
    @pytest.mark.parametrize(
        ("drive", "active_low", "released"),
        [("open-drain", False, 1), ("open-drain", True, 0), ("open-source", False, 0), ("open-source", True, 1)],
    )
    def test_the_edges_of_others_are_reported_while_the_line_is_let_go_of(
        self, run: Run, board: SimBoard, drive: Any, active_low: bool, released: int
    ) -> None:
        line = board.chip.line(17)
        line.pull("up" if drive == "open-drain" else "down")
        other = 0 if drive == "open-drain" else 1

        async def main() -> None:
            edges: list[int] = []
            async with gpio.output(17, drive=drive, active_low=active_low, initial=1 - released) as wire:
                wire.on_edge(lambda edge: edges.append(edge.value))
                for count in (2, 4):
                    line.drive(other)  # unheard, for we drive it there ourselves
                    line.drive(None)
                    wire.set(released)
                    assert wire.value == released
                    line.drive(other)
                    assert wire.value == 1 - released
                    line.drive(None)
                    await until(lambda: len(edges) == count)  # noqa: B023
                    wire.set(1 - released)
                    assert wire.value == 1 - released
                await asyncio.sleep(0.05)  # time enough for the line to be looked at
                assert edges == [1 - released, released] * 2

        run(main())

    def test_the_line_stays_ours_and_is_given_back_at_the_end(self, run: Run, board: SimBoard) -> None:
        async def main() -> None:
            for _ in range(3):
                async with gpio.output(17, drive="open-drain", initial=1) as wire:
                    wire.on_edge(lambda edge: None)
                    with pytest.raises(HardwareError, match="in use by this program already"):
                        gpio.watch(17).open()
                    wire.off()
                    wire.on()
                assert board.chip.line(17).consumer is None
            async with gpio.watch(17):
                pass

        run(main())

    def test_edges_that_wait_when_the_line_is_driven_again_are_delivered(self, run: Run, board: SimBoard) -> None:
        line = board.chip.line(17)
        line.pull("up")

        async def main() -> None:
            edges: list[int] = []
            async with gpio.output(17, drive="open-drain", initial=1) as wire:
                wire.on_edge(lambda edge: edges.append(edge.value))
                for _ in range(3):  # the loop sees nothing of this before it is over
                    line.drive(0)
                    line.drive(None)
                    wire.set(0)
                    wire.set(1)
                await until(lambda: len(edges) == 6)
                assert edges == [0, 1] * 3
                assert wire.edges.statistics().lost == 0

        run(main())

    def test_a_callback_may_drive_the_line(self, run: Run, board: SimBoard) -> None:
        line = board.chip.line(17)
        line.pull("up")
        levels: list[int] = []
        line.observe(lambda level, when_ns: levels.append(level))

        async def main() -> None:
            async with gpio.output(17, drive="open-drain", initial=1) as wire:

                def acknowledge(edge: Edge) -> None:
                    if edge.value:
                        wire.set(0)
                        wire.set(1)

                wire.on_edge(acknowledge)
                line.drive(0)
                line.drive(None)
                await until(lambda: len(levels) == 4)
                assert levels == [0, 1, 0, 1]

        run(main())

    def test_a_callback_that_raises_is_reported_and_the_rest_goes_on(self, run: Run, board: SimBoard) -> None:
        line = board.chip.line(17)
        line.pull("up")

        async def main() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

            def spoil(edge: Edge) -> None:
                raise asyncio.CancelledError

            edges: list[int] = []
            wire = gpio.output(17, drive="open-drain", initial=1)
            wire.on_edge(spoil)  # before it is opened, too
            wire.on_edge(lambda edge: edges.append(edge.value))
            async with wire:
                line.drive(0)
                await until(lambda: edges == [0])
            assert [type(context["exception"]) for context in told] == [asyncio.CancelledError]

        run(main())

    def test_it_ends_at_its_safe_level(self, run: Run, board: SimBoard) -> None:
        line = board.chip.line(17)
        line.pull("up")

        async def main() -> None:
            async with gpio.output(17, drive="open-drain", initial=1, safe=0) as wire:
                wire.on_edge(lambda edge: None)
                assert line.level == 1
            assert line.level == 0

        run(main())

    def test_closing_the_edges_leaves_an_output(self, run: Run, board: SimBoard) -> None:
        line = board.chip.line(17)
        line.pull("up")

        async def main() -> None:
            async with gpio.output(17, drive="open-drain", initial=1) as wire:
                wire.edges.close()
                wire.edges.close()
                for level in (0, 1, 0):
                    wire.set(level)
                    assert line.level == level

        run(main())

    def test_an_output_that_drives_both_levels_says_what_to_do(self) -> None:
        with pytest.raises(ValueError, match=r"gpio:17 drives both levels.*drive='open-drain'"):
            gpio.output(17).on_edge(print)

    def test_without_a_running_loop_it_says_so_and_goes_on_as_an_output(self, board: SimBoard) -> None:
        with gpio.output(17, drive="open-drain", initial=1) as wire:
            with pytest.raises(RuntimeError, match="no running event loop"):
                wire.on_edge(print)
            wire.set(0)
            assert wire.value == 0
