"""Widths, frequencies, encoders and clicks, from edges of the simulated board in virtual time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from unittest.mock import ANY

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.pin_parts import Button
from hwloop import HardwareError, gpio
from hwloop.board import Edge
from hwloop.sources import Backoff, EventStream
from hwloop.sources.gpio.button_clicks import LATENCY


class Stage:
    """A board in virtual time."""

    def __init__(self) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard(clock=self.clock)

    @property
    def now(self) -> float:
        """Seconds since time began."""
        return self.clock.now_ns() / 1e9 - 1

    def plan(self, line: int, *changes: tuple[float, int]) -> None:
        """Have a part drive a line to levels, each at its time in seconds."""
        for when, level in changes:
            drive = functools.partial(self.board.chip.line(line).drive, level)
            self.board.timeline.at(round((1 + when) * 1e9), drive)


def play(main: Callable[[Stage], Awaitable[Any]]) -> None:
    stage = Stage()

    async def run() -> None:
        await main(stage)

    with stage.board:
        hwloop.run(run(), board=stage.board, clock=stage.clock)
        assert all(stage.board.chip.line(number).consumer is None for number in range(28))


async def gather(source: Any, count: int) -> list[Any]:
    return [await anext(source) for _ in range(count)]


# Pulses.


def test_pulse_widths_are_those_of_the_edges_however_late_they_are_read() -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, (0.1, 1), (0.3, 0), (0.5, 1), (0.500_002, 0), (1.0, 1))
        async with gpio.pulse_width(17) as meter:
            assert (meter.last, meter.count) == (None, 0)
            stage.clock.sleep(0.9)  # the loop hangs
            assert await gather(meter, 2) == [(0.2, 1_100_000_000), (0.000_002, 1_500_000_000)]
            assert (meter.last, meter.count) == ((0.000_002, 1_500_000_000), 2)
            await asyncio.sleep(1)
            assert meter.count == 2  # the third has not ended

    play(main)


def test_pulses_may_be_low_and_of_a_watch_that_exists() -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, (0.1, 1), (0.3, 0), (0.6, 1))
        async with gpio.watch(17) as watch, gpio.pulse_width(watch, value=0) as meter:
            assert (await anext(meter)).seconds == 0.3
            meter.close()
            assert not watch.closed
        unopened = gpio.watch(17, active_low=True)
        async with gpio.pulse_width(unopened):
            assert unopened.fileno() >= 0
        assert unopened.closed

    play(main)


def test_a_pulse_with_a_lost_edge_in_it_is_not_reported() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.pulse_width(watch) as meter:
            for level, lost, when in ((1, 0, 10), (0, 1, 20), (1, 1, 30), (0, 0, 37), (0, 0, 40)):
                watch.deliver(Edge(17, level, when * 10**9, 0, lost))
            assert (await gather(meter, 1), meter.count, meter.lost) == ([(7.0, 30 * 10**9)], 1, 2)

    play(main)


def test_pulses_that_nobody_takes_give_way_and_are_counted() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.pulse_width(watch) as meter:
            for number in range(1030):
                watch.deliver(Edge(17, 1, number * 10**9, 0, 0))
                watch.deliver(Edge(17, 0, number * 10**9 + 1000, 0, 0))
            assert (meter.count, meter.dropped) == (1030, 6)
            assert (await anext(meter)).timestamp_ns == 6 * 10**9

    play(main)


# Frequency.


def test_a_frequency_is_the_mean_of_the_last_window() -> None:
    async def main(stage: Stage) -> None:
        times = itertools.count(0.1, 0.02)
        stage.plan(17, *((when, level) for level, when in zip([1, 0] * 50, times, strict=False)))  # 25 Hz until 2.1
        async with gpio.frequency(17, window=0.5) as meter:
            assert meter.hz == 0
            values = []
            async for hz in meter:
                values.append(round(hz, 6))
                if stage.now >= 3:
                    break
            assert values == [25.0, 25.0, 25.0, 25.0, 25.0, 0.0]
            assert meter.count == 50
            assert [round(when, 6) for when in (stage.now, 3.0)] == [3.0, 3.0]

    play(main)


def test_a_frequency_begins_anew_after_a_loss() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.frequency(watch, window=60) as meter:
            for when, lost in ((1.0, 0), (1.1, 0), (1.9, 1), (2.0, 0), (2.2, 0)):
                watch.deliver(Edge(17, 1, round(when * 1e9), 0, lost))
                watch.deliver(Edge(17, 0, round(when * 1e9) + 1000, 0, 0))
            assert (round(meter.hz, 6), meter.lost, meter.count) == (6.666667, 1, 5)

    play(main)


# Encoders.

FORWARD = ((1, 0), (1, 1), (0, 1), (0, 0))


class Wheel:
    """An encoder on lines 5 and 6, both pulled down by it, at rest at 00."""

    def __init__(self, stage: Stage) -> None:
        self.place = 0
        self._lines = [stage.board.chip.line(number) for number in (5, 6)]
        for line in self._lines:
            line.drive(0)

    def turn(self, by: int) -> None:
        for _ in range(abs(by)):
            self.place += 1 if by > 0 else -1
            for line, level in zip(self._lines, FORWARD[(self.place - 1) % 4], strict=True):
                if line.level != level:
                    line.drive(level)


def turned(stage: Stage, wheel: Wheel, turns: Iterable[int], period: float) -> float:
    """Plan one transition each `period`; the time after the last."""
    when = 0.1
    for by in turns:
        stage.board.timeline.at(round((1 + when) * 1e9), functools.partial(wheel.turn, by))
        when += period
    return when


@pytest.mark.parametrize(
    ("resolution", "steps"),
    [
        (4, [1, 2, 3, 4, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5]),
        (2, [1, 2, 3, 2, 1, 0, -1, -2]),
        (1, [1, 2, 1, 0, -1]),
    ],
)
def test_an_encoder_counts_forth_and_back(resolution: Any, steps: list[int]) -> None:
    async def main(stage: Stage) -> None:
        wheel = Wheel(stage)
        until = turned(stage, wheel, [1] * 5 + [-1] * 10, 0.01)
        async with gpio.encoder(5, 6, resolution=resolution) as knob:
            seen = []
            while stage.now < until:
                try:
                    async with asyncio.timeout(until + 0.1 - stage.now):
                        seen.append(await anext(knob))
                        assert knob.direction == (1 if seen[-1] > ([0, *seen])[-2] else -1)
                except TimeoutError:
                    break
            assert seen == steps
            assert (knob.invalid, knob.lost) == (0, 0)

    play(main)


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("resolution", [1, 2, 4])
def test_an_encoder_may_begin_anywhere_and_a_full_turn_is_as_many_steps_as_its_resolution(
    start: int, resolution: Any
) -> None:
    async def main(stage: Stage) -> None:
        wheel = Wheel(stage)
        wheel.turn(start)
        async with gpio.encoder(5, 6, resolution=resolution) as knob:
            for by, expected in ((4, resolution), (-8, -resolution), (4, 0), (40, 10 * resolution)):
                wheel.turn(by)
                await asyncio.sleep(0.1)
                assert knob.steps == expected

    play(main)


def test_an_encoder_whose_lines_are_swapped_turns_the_other_way() -> None:
    async def main(stage: Stage) -> None:
        wheel = Wheel(stage)
        async with gpio.encoder(6, 5) as knob:
            wheel.turn(7)
            assert await anext(knob) == -7
            knob.steps = 0
            wheel.turn(-2)
            await asyncio.sleep(0.1)
            assert (await anext(knob), knob.direction) == (2, 1)

    play(main)


def test_an_encoder_misses_nothing_at_2000_edges_a_second() -> None:
    async def main(stage: Stage) -> None:
        wheel = Wheel(stage)
        lines = [stage.board.chip.line(number) for number in (5, 6)]
        changes = sum(line.changes for line in lines)
        chance = random.Random(1)
        turns = [by for _ in range(400) for by in [chance.choice((1, -1))] * chance.randint(1, 99)][:10_000]
        until = turned(stage, wheel, turns, 0.0005)
        async with gpio.encoder(5, 6) as knob:
            seen = 0
            while stage.now < until:
                stage.clock.sleep(chance.random() * 0.2)  # what else the program does
                await asyncio.sleep(0.001)
                seen += 1
            assert (knob.steps, wheel.place) == (sum(turns), sum(turns))
            assert (knob.invalid, knob.lost) == (0, 0)
            assert sum(line.changes for line in lines) - changes == 10_000
            assert 10 < seen < 1000

    play(main)


def test_an_encoder_counts_what_it_can_not_know_and_finds_back() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17, 18) as watch, gpio.encoder(watch) as knob:
            await asyncio.sleep(0.001)
            now_ns = stage.clock.now_ns() + 1
            watch.deliver(Edge(17, 1, now_ns, now_ns, 0))
            watch.deliver(Edge(17, 1, now_ns, now_ns, 1))  # to 0 and back, or once round
            watch.deliver(Edge(18, 1, now_ns, now_ns, 0))
            watch.deliver(Edge(17, 0, now_ns, now_ns, 0))
            assert (knob.steps, knob.invalid, knob.lost) == (3, 1, 1)

    play(main)


def test_edges_from_before_the_beginning_are_in_the_levels_already() -> None:
    async def main(stage: Stage) -> None:
        wheel = Wheel(stage)
        async with gpio.watch(5, 6) as watch:
            wheel.turn(6)  # not read by the loop yet
            stage.clock.sleep(0.001)
            async with gpio.encoder(watch) as knob:
                wheel.turn(1)
                assert (await anext(knob), knob.invalid) == (1, 0)

    play(main)


# Clicks.

GAP, LONG = 0.3, 0.8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Pressed and released at these seconds; then the time of each report, its kind, the press, the certainty.
        ([0.5, 0.6], [(0.9 + LATENCY, "single", 0.5, 0.9)]),
        ([0.5, 0.6, 0.8, 0.9], [(0.8, "double", 0.5, 0.8)]),
        ([0.5, 0.6, 0.9, 1.0], [(0.9, "double", 0.5, 0.9)]),  # exactly the gap
        (
            [0.5, 0.6, 0.901, 1.0],
            [(0.901, "single", 0.5, 0.9), (1.3 + LATENCY, "single", 0.901, 1.3)],
        ),
        (
            [0.5, 0.6, 0.91, 1.0],
            [(0.9 + LATENCY, "single", 0.5, 0.9), (1.3 + LATENCY, "single", 0.91, 1.3)],
        ),
        ([0.5, 2.0], [(1.3 + LATENCY, "long", 0.5, 1.3)]),
        ([0.5, 1.299], [(1.599 + LATENCY, "single", 0.5, 1.599)]),
        ([0.5, 1.3], [(1.3, "long", 0.5, 1.3)]),  # exactly long enough
        ([0.5, 1.301], [(1.301, "long", 0.5, 1.3)]),
        ([0.5, 0.6, 0.7, 3.0], [(0.7, "double", 0.5, 0.7)]),  # held the second time: reported already
        (
            [0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            [(0.7, "double", 0.5, 0.7), (1.3 + LATENCY, "single", 0.9, 1.3)],
        ),
        (
            [0.5, 1.4, 1.5, 1.6],
            [(1.3 + LATENCY, "long", 0.5, 1.3), (1.9 + LATENCY, "single", 1.5, 1.9)],
        ),
    ],
)
def test_presses_make_clicks(changes: list[float], expected: list[tuple[float, str, float, float]]) -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, *zip(changes, itertools.cycle((1, 0)), strict=False))
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=GAP, long=LONG) as button:
            assert await reported(stage, button) == [(round(now, 9), *rest) for now, *rest in expected]

    play(main)


def test_without_a_gap_a_release_is_a_click() -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, (0.5, 1), (0.6, 0), (0.7, 1), (0.8, 0))
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=0) as button:
            assert await reported(stage, button) == [(0.6, "single", 0.5, 0.6), (0.8, "single", 0.7, 0.8)]

    play(main)


@pytest.mark.parametrize("seed", range(5))
def test_a_bouncing_button_clicks_as_one_that_does_not(seed: int) -> None:
    async def main(stage: Stage) -> None:
        button = Button(17, bounce=0.008, seed=seed)
        button.attach(stage.board)
        for when, pressed in ((0.5, 1), (0.6, 0), (0.75, 1), (0.9, 0), (2, 1), (2.1, 0), (3, 1), (4.5, 0)):
            stage.board.timeline.at(round((1 + when) * 1e9), button.press if pressed else button.release)
        async with gpio.clicks(17, pull="up", active_low=True, gap=GAP, long=LONG) as clicks:
            seen = await reported(stage, clicks)
            assert [kind for _, kind, _, _ in seen] == ["double", "single", "long"]
            for (_, _, pressed_at, _), truth in zip(seen, (0.5, 2, 3), strict=True):
                assert truth + 0.01 <= pressed_at <= truth + 0.018  # the contact was quiet for 10 ms
            assert clicks.watch.statistics().received == 8

    play(main)


def test_a_busy_program_hears_of_the_same_clicks_later() -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, (0.5, 1), (0.6, 0), (2.0, 1), (2.1, 0), (2.2, 1), (2.3, 0))
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=GAP, long=LONG) as button:
            await asyncio.sleep(0.55)
            stage.clock.sleep(1.0)  # longer than a long click
            assert await reported(stage, button) == [(1.55, "single", 0.5, 0.9), (2.2, "double", 2.0, 2.2)]

    play(main)


def test_a_lost_release_is_noticed_at_the_next_press_and_a_button_held_at_the_beginning_tells_nothing() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=0) as button:
            for when, level, lost in ((1.0, 0, 0), (1.1, 1, 0), (1.2, 1, 1), (1.3, 0, 0)):
                watch.deliver(Edge(17, level, round(when * 1e9), 0, lost))
            assert await reported(stage, button) == [(0.0, "single", 0.2, 0.3)]
            assert button.lost == 1

    play(main)


def test_a_lone_lost_edge_is_found_by_the_level() -> None:
    async def main(stage: Stage) -> None:
        line = stage.board.chip.line(17)
        for debounce in (0.0, 0.01):
            for level in (1, 0):
                async with gpio.watch(17, debounce=debounce) as watch:
                    line.drive(level)
                    await anext(watch)
                    await asyncio.sleep(3)
                    line.drive(1 - level)
                    stage.clock.sleep(0.02)  # it has settled, and the report is written
                    assert len(os.read(watch.fileno(), 64)) == 16  # and lost
                    async with asyncio.timeout(3.2):
                        edge = await anext(watch)
                    assert (edge.value, edge.lost, watch.value) == (1 - level, 0, 1 - level)
                    line.drive(level)
                    assert await anext(watch) == (17, level, ANY, ANY, 0)
                    assert watch.statistics().reconciled == 1
                    await asyncio.sleep(60)
                    assert watch.statistics().queued == 0

    play(main)


def test_an_idle_line_is_looked_at_ever_more_seldom_and_then_not_at_all() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch:
            stream = watch._stream
            assert stream is not None
            looks: list[float] = []
            recheck = stream.recheck
            stream.recheck = lambda: looks.append(stage.now) or recheck()  # type: ignore[func-returns-value,method-assign]
            stage.board.chip.line(17).drive(1)
            await anext(watch)
            since = stage.now
            await asyncio.sleep(60)
            assert [round(look - since, 3) for look in looks] == [round(0.04 * 2**n, 3) for n in range(9)]

    play(main)


@pytest.mark.parametrize("gap", [0, GAP])
@pytest.mark.parametrize("released", [0.05, LONG - 0.001, LONG + 0.001])
def test_a_press_whose_release_was_lost_is_a_click_and_no_long_one(gap: float, released: float) -> None:
    async def main(stage: Stage) -> None:
        line = stage.board.chip.line(17)
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=gap, long=LONG) as button:
            kinds: list[str] = []
            for _ in range(2):
                line.drive(1)
                await asyncio.sleep(released)
                line.drive(0)
                os.read(watch.fileno(), 64)
                await asyncio.sleep(2)
                kinds += [click.kind for click in await taken(button)]
            assert kinds == (["single"] * 2 if released <= LONG else [kinds[0]] * 2)

    play(main)


def test_an_edge_lost_in_a_press_spoils_that_press_only() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.clicks(watch, gap=0) as button:
            for when, level, lost in ((1.0, 1, 0), (9.0, 0, 2), (10.0, 1, 0), (10.1, 0, 0)):
                watch.deliver(Edge(17, level, round(when * 1e9), 0, lost))
            assert await reported(stage, button) == [(0.0, "single", 9.0, 9.1)]

    play(main)


def test_an_outage_spoils_what_was_under_way_and_the_encoder_reads_its_levels_anew() -> None:
    async def main(stage: Stage) -> None:
        lines = [stage.board.chip.line(number) for number in (5, 6, 17)]
        for line in lines:
            line.drive(0)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        reopen = Backoff(0.5)
        async with (
            gpio.watch(5, 6, reopen=reopen) as turning,
            gpio.watch(17, reopen=reopen) as pulsing,
            gpio.encoder(turning) as knob,
            gpio.pulse_width(pulsing) as meter,
            gpio.frequency(pulsing) as counter,
            gpio.clicks(pulsing, gap=0) as button,
        ):
            lines[0].drive(1)
            lines[2].drive(1)
            await asyncio.sleep(0.1)
            assert knob.steps == 1
            for watch in (turning, pulsing):
                watch.fail(OSError("gone"))
            lines[1].drive(1)
            lines[2].drive(0)
            await asyncio.sleep(1)
            assert counter.hz == 0
            assert meter.count == button.statistics().queued == 0
            lines[0].drive(0)
            lines[2].drive(1)
            await asyncio.sleep(0.1)
            lines[2].drive(0)
            await asyncio.sleep(0.1)
            assert (knob.steps, knob.invalid) == (2, 0)
            assert [round(pulse.seconds, 3) for pulse in await taken(meter)] == [0.1]
            assert [click.kind for click in await taken(button)] == ["single"]
            assert counter.hz == 0

    play(main)


# Cancellation.


def test_a_frequency_that_was_due_is_not_lost_with_the_wait_that_is_cancelled() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.frequency(17, window=1.0) as meter:
            taken = []
            for _ in range(100):
                try:
                    async with asyncio.timeout(0.4):
                        await anext(meter)
                except TimeoutError:
                    continue
                taken.append(round(stage.now, 6))
            assert taken == list(range(1, len(taken) + 1))
            assert len(taken) > 25

    play(main)


def test_closing_wakes_whoever_waits_for_a_frequency() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.frequency(17, window=60.0) as meter:
            waiting = asyncio.create_task(anext(meter, "ended"))
            await asyncio.sleep(0.1)
        assert await waiting == "ended"
        assert stage.now < 1

    play(main)


async def taken(results: EventStream[Any]) -> list[Any]:
    """The results that are queued."""
    return [await anext(results) for _ in range(results.statistics().queued)]


async def reported(stage: Stage, clicks: gpio.Clicks) -> list[tuple[float, str, float, float]]:
    """Clicks of the next five seconds, with times in seconds: (reported, kind, pressed, certain)."""
    seen = []
    try:
        async with asyncio.timeout(5):
            async for click in clicks:
                seen.append((stage.now, click.kind, click.pressed_ns, click.timestamp_ns))
    except TimeoutError:
        pass
    return [
        (round(now, 9), kind, round(pressed_ns / 1e9 - 1, 9), round(certain_ns / 1e9 - 1, 9))
        for now, kind, pressed_ns, certain_ns in seen
    ]


# Common to all.


def test_iterating_ends_with_the_watch() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.watch(17) as watch, gpio.pulse_width(watch) as meter:
            asyncio.get_running_loop().call_later(1, watch.close)
            assert [pulse async for pulse in meter] == []
            assert stage.now == 1
        async with gpio.frequency(18) as frequency:
            asyncio.get_running_loop().call_later(1.5, frequency.close)
            assert [hz async for hz in frequency] == [0.0]

    play(main)


def test_iterating_raises_what_the_watch_failed_with() -> None:
    async def main(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with gpio.watch(17, 18) as watch, gpio.encoder(watch) as knob:
            asyncio.get_running_loop().call_later(1, watch.fail, HardwareError("line 17", "gone"))
            with pytest.raises(HardwareError, match="line 17: gone"):
                await anext(knob)

    play(main)


def test_several_may_be_made_of_one_watch() -> None:
    async def main(stage: Stage) -> None:
        stage.plan(17, (0.1, 1), (0.2, 0))
        async with (
            gpio.watch(17) as watch,
            gpio.pulse_width(watch) as high,
            gpio.frequency(watch) as frequency,
            gpio.clicks(watch) as clicks,
        ):
            assert (await anext(clicks)).kind == "single"
            assert (high.count, frequency.count) == (1, 1)

    play(main)


def test_a_measurement_that_can_not_be_opened_leaves_nothing() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(17):
            with pytest.raises(HardwareError, match="line 17: in use"):
                gpio.clicks(17).open()
        async with gpio.clicks(17) as button:
            with pytest.raises(RuntimeError, match="Clicks of gpio:17 is open already"):
                button.open()
        with pytest.raises(StopAsyncIteration):
            await anext(button)

    play(main)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gpio.encoder(5, 6, 7), ValueError, "Encoder needs 2 lines, not 3"),
        (lambda: gpio.encoder(gpio.watch(5)), ValueError, "Encoder needs 2 lines, not 1"),
        (lambda: gpio.encoder(5, 5), ValueError, "the same line twice"),
        (lambda: gpio.encoder(5, 6, resolution=3), ValueError, "resolution must be 1, 2 or 4, not 3"),
        (lambda: gpio.encoder(gpio.watch(5), 6), TypeError, "lines, or one Watch, not"),
        (lambda: gpio.encoder(gpio.watch(5, 6), pull="up"), TypeError, "pull, active_low and debounce are those of"),
        (
            lambda: gpio.pulse_width(gpio.watch(5, edges="rising")),
            ValueError,
            "needs edges='both', not a Watch of rising",
        ),
        (lambda: gpio.pulse_width(5, value=2), ValueError, "value must be 0 or 1, not 2"),
        (lambda: gpio.pulse_width(-1), ValueError, "a line is a BCM number"),
        (lambda: gpio.frequency(5, window=0), ValueError, "a period in seconds must be from"),
        (lambda: gpio.clicks(5, gap=-1), ValueError, "gap in seconds must be from 0 to 60, not -1"),
        (lambda: gpio.clicks(5, long=float("nan")), ValueError, "long in seconds must be from"),
        (lambda: gpio.clicks(gpio.watch(5), debounce=0.1), TypeError, "pull, active_low and debounce are those of"),
    ],
)
def test_wrong_arguments_raise(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_unknown_names_of_gpio_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'klicks'"):
        gpio.klicks  # noqa: B018
