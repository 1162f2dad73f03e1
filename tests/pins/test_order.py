"""Edges of several lines reach handlers in the order of their time stamps, whatever was read when."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import random
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import gpiozero
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pins_bench import Bench

from firmware_sim.libraries.lgpio.alerts import Notifications
from hwloop.board import Edge, EdgeStream, Losses
from hwloop.core.clock import Clock
from hwloop.core.priority_queues import AGEING
from hwloop.pins.edge_merger import EdgeMerger

PHASES = ((0, 0), (1, 0), (1, 1), (0, 1))


class Stream(EdgeStream):
    """Edges written by a test; the descriptor is readable while some wait."""

    def __init__(self, name: int, *, disorder_ns: int = 0, chunk: int = 4) -> None:
        self.losses = Losses()
        self.name = name
        self.disorder_ns = disorder_ns
        self.chunk = chunk
        self.waiting: list[Edge] = []
        self.reading: Callable[[], object] = lambda: None
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def write(self, timestamp_ns: int, number: int = 0) -> None:
        self.waiting.append(Edge(self.name, number, timestamp_ns, timestamp_ns, 0))
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        self.reading()  # what happens between the look and the read
        edges, self.waiting = self.waiting[: self.chunk], self.waiting[self.chunk :]
        if not self.waiting and select.select([self._fd], [], [], 0)[0]:
            os.eventfd_read(self._fd)
        return edges

    def level(self, line: Any) -> int:
        return 0

    def close(self) -> None:
        os.close(self._fd)


class Pin:
    def deliver(self, edge: Edge) -> None:
        raise AssertionError

    def held_off(self) -> bool:
        return False


class Time(Clock):
    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


def take_all(lines: EdgeMerger) -> list[Edge]:
    edges = []
    while (entry := lines.first()) is not None:
        assert lines.take(entry)
        edges.append(entry.edge)
    return edges


def never(stream: EdgeStream, error: BaseException) -> None:
    raise error


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), streams=st.integers(2, 4), chunk=st.integers(1, 5))
def test_edges_that_are_written_in_order_are_delivered_in_order(seed: int, streams: int, chunk: int) -> None:
    """Wherever between looks and reads they are written, and however long the backlog is."""
    chance = random.Random(seed)
    lines = EdgeMerger(Time())
    sources = [Stream(name, chunk=chunk) for name in range(streams)]
    stamps = itertools.count(1)
    written, got = [], []
    left = 60

    def happen(most: int = 3) -> None:
        nonlocal left
        for _ in range(min(left, chance.randint(0, most))):
            left -= 1
            source = chance.choice(sources)
            stamp = next(stamps) // 2  # pairs with the same time stamp
            source.write(stamp, left)
            written.append((stamp, source.name, left))

    for source in sources:
        source.reading = happen
        lines.add(source, Pin())
    while left or any(source.waiting for source in sources) or lines.wait_ns() is not None:
        happen(20)
        lines.collect(never)
        got += [(edge.timestamp_ns, edge.line, edge.value) for edge in take_all(lines)]
    lines.close()
    for source in sources:
        source.close()
    assert [stamp for stamp, *_ in got] == [stamp for stamp, *_ in written]
    for source in sources:
        assert [it for it in got if it[1] == source.name] == [it for it in written if it[1] == source.name]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), streams=st.integers(1, 4))
def test_edges_that_come_late_are_waited_for_within_the_stated_time(seed: int, streams: int) -> None:
    """As in the kernel, where each line's interrupt thread queues its own events."""
    chance = random.Random(seed)
    clock = Time()
    lines = EdgeMerger(clock)
    sources = [Stream(name, disorder_ns=100 if name else 0) for name in range(streams)]
    for source in sources:
        lines.add(source, Pin())
    last = [0] * streams
    due: list[tuple[int, int, int]] = []
    for stamp in range(1, 61):
        name = chance.randrange(streams)
        last[name] = max(last[name], 10 * stamp + chance.randint(0, 100 if streams > 1 else 0))
        due.append((last[name], name, 10 * stamp))
    heapq.heapify(due)
    got: list[tuple[int, int]] = []
    while due or lines.wait_ns() is not None:
        clock.time_ns += chance.randint(1, 30)
        while due and due[0][0] <= clock.time_ns:
            _, name, stamp = heapq.heappop(due)
            sources[name].write(stamp)
        lines.collect(never)
        got += [(edge.timestamp_ns, clock.time_ns) for edge in take_all(lines)]
        assert streams > 1 or lines.wait_ns() is None  # one line alone has nothing to wait for
    lines.close()
    for source in sources:
        source.close()
    assert [stamp for stamp, _ in got] == list(range(10, 610, 10))


def test_a_line_that_is_taken_off_holds_nothing_up() -> None:
    clock = Time()
    lines = EdgeMerger(clock)
    first, second, pin = Stream(1, disorder_ns=100), Stream(2, disorder_ns=100), Pin()
    lines.add(first, pin)
    lines.add(second, Pin())
    clock.time_ns = 1000
    first.write(990)
    second.write(995)
    lines.collect(never)
    assert (lines.first(), lines.wait_ns()) == (None, 90)
    lines.remove(first)
    lines.collect(never)
    assert [edge.line for edge in take_all(lines)] == [2]
    lines.remove(second)
    assert not lines
    lines.close()
    first.close()
    second.close()


class Taker:
    """gpiozero keeps `when_changed` weakly."""

    def __init__(self, got: list[tuple[float, int, int]], line: int) -> None:
        self.got, self.line = got, line

    def changed(self, ticks: float, state: int) -> None:
        self.got.append((ticks, self.line, state))


def turn(bench: Bench, count: int, period_ns: int) -> None:
    """Turn an encoder on lines 20 and 21."""
    timeline = bench.board.timeline
    at_ns = timeline.now_ns() + 20_000_000
    for place in range(count):
        old, new = PHASES[place % 4], PHASES[(place + 1) % 4]
        for line, before, after in zip((20, 21), old, new, strict=True):
            if before != after:
                drive: Any = bench.board.chip.line(line).drive
                timeline.at(at_ns, lambda drive=drive, after=after: drive(after))
        at_ns += period_ns


@pytest.fixture
def short_switches() -> Any:
    """Threads take turns often: one writes while the other reads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("short_switches")
@pytest.mark.parametrize("on_a_loop", [True, False])
def test_an_encoder_on_a_busy_machine_decodes_every_step(real: Bench, on_a_loop: bool) -> None:
    count = 2000
    steps = count // 4 - 1  # gpiozero's encoder takes the first transition to find out where it is
    for line in (20, 21):
        real.board.chip.line(line).drive(0)
    got: list[tuple[float, int, int]] = []
    pins = [real.factory.pin(f"GPIO{line}") for line in (22, 23)]
    takers = [Taker(got, line) for line in (22, 23)]
    for pin, taker in zip(pins, takers, strict=True):
        real.board.chip.wire(taker.line, taker.line - 2)
        pin.input_with_pull("floating")
        pin.when_changed = taker.changed
    encoder = gpiozero.RotaryEncoder(20, 21, max_steps=0)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(200))

    thread = threading.Thread(target=work)
    thread.start()

    def turned() -> bool:
        return len(got) >= count and abs(encoder.steps) >= steps

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def busy() -> None:
            sum(range(500))
            if not stop.is_set():
                loop.call_soon(busy)

        for _ in range(20):
            loop.call_soon(busy)
        turn(real, count, 100_000)
        async with asyncio.timeout(60):
            while not turned():
                await asyncio.sleep(0.01)

    try:
        if on_a_loop:
            real.run(main())
        else:
            turn(real, count, 100_000)
            give_up = time.monotonic() + 60
            while not turned() and time.monotonic() < give_up:
                time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    assert abs(encoder.steps) in (steps, steps + 1)
    times = [ticks for ticks, _, _ in got]
    assert times == sorted(times)
    assert len(times) == count
    encoder.close()
    for pin in pins:
        pin.close()


def test_coroutine_handlers_start_in_the_order_of_the_edges(virtual: Bench) -> None:
    started: list[int] = []

    def handler(line: int) -> Callable[[], Any]:
        async def pressed() -> None:
            started.append(line)
            await asyncio.sleep(0.1)

        return pressed

    async def main() -> list[int]:
        lines = [22, 4, 17, 27, 5]
        buttons = {line: gpiozero.Button(line) for line in lines}
        order = []
        for line, button in buttons.items():
            button.when_pressed = handler(line)
        for _ in range(20):
            random.Random(len(order)).shuffle(lines)
            for line in lines:
                virtual.press(line)
                virtual.busy(0.0001)
                order.append(line)
            for line in lines:
                virtual.release(line)
                virtual.busy(0.0001)
        await asyncio.sleep(1)
        for button in buttons.values():
            button.close()
        return order

    assert virtual.run(main()) == started


def test_order_holds_after_losses(virtual: Bench) -> None:
    """With edges between that no report tells of, found by the next edge or by the level."""
    got: list[tuple[float, int, int]] = []
    chance = random.Random(1)

    async def main() -> None:
        takers = [Taker(got, line) for line in (17, 22, 27)]
        pins = []
        for taker in takers:
            pin = virtual.factory.pin(f"GPIO{taker.line}")
            pin.input_with_pull("up")
            pin.when_changed = taker.changed
            pins.append(pin)
        fifos = [held for held in virtual.board.lgpio.handles.values() if isinstance(held, Notifications)]
        await asyncio.sleep(1)
        for _ in range(300):
            for fifo in fifos:
                fifo.paused = chance.random() < 0.2
            for _ in range(chance.randint(1, 9)):
                line = virtual.board.chip.line(chance.choice((17, 22, 27)))
                line.drive(1 - line.level)
                virtual.busy(0.000001)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice((0.001, 0.1)))
        await asyncio.sleep(1)
        for pin, taker in zip(pins, takers, strict=True):
            seen = [state for _, line, state in got if line == taker.line]
            assert seen[-1] == pin.state
            assert all(before != after for before, after in itertools.pairwise(seen))
            assert pin.lost > 0
            pin.close()

    virtual.run(main())
    times = [ticks for ticks, _, _ in got]
    assert times == sorted(times)


def test_other_work_goes_on_between_slow_handlers(real: Bench) -> None:
    """A handler that is slower than the edges would keep the loop from everything else."""
    trace: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        button = gpiozero.Button(17)

        def pressed() -> None:
            trace.append("pressed")
            end = time.monotonic() + 0.0002  # four slices
            while time.monotonic() < end:
                pass

        def other() -> None:
            trace.append("other")
            if trace.count("pressed") < 40:
                loop.call_soon(other)

        button.when_pressed = pressed
        await asyncio.sleep(0.01)
        for _ in range(40):
            real.press()
            real.release()
        loop.call_soon(other)
        async with asyncio.timeout(60):
            while trace.count("pressed") < 40:
                await asyncio.sleep(0.001)
        button.close()

    real.run(main())
    runs = [len(list(group)) for name, group in itertools.groupby(trace) if name == "pressed"]
    assert sum(runs) == 40
    assert max(runs) <= 3 * AGEING  # this test's own timer may go before
