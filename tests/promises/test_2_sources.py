"""Promise 2 for sources: the events of one read are many callbacks, not one long one."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from hwloop import Priority
from hwloop.core.dispatch import SLICE
from hwloop.core.priority_queues import AGEING
from hwloop.errors import HardwareError
from hwloop.sources import Source
from hwloop.sources.reopening import Backoff, Reopening


class Event(NamedTuple):
    value: int
    lost: int = 0


class Burst(Source[Event]):
    """Each read gives as many events as the byte read says."""

    def __init__(self, priority: Priority = Priority.NORMAL, form: Callable[[Iterable[Event]], object] = list) -> None:
        super().__init__(name="burst", priority=priority)
        self.form = form
        self.given = 0

    def connect(self) -> int:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        return self.reader

    def receive(self):
        if not (data := os.read(self.reader, 1)):
            raise OSError("unplugged")
        begin, self.given = self.given, self.given + data[0]
        return self.form(Event(value) for value in range(begin, self.given))

    def disconnect(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def burst(self, count: int) -> None:
        os.write(self.writer, bytes([count]))


def play(stage, source: Burst, took: float, then: Callable[[], object] = lambda: None) -> None:
    """Run the callbacks of 40 events; each takes `took` slices."""

    def on_event(event: Event) -> None:
        stage.trace.append(f"e{event.value}")
        stage.clock += took * SLICE
        if event.value == 20:
            then()

    async def main() -> None:
        async with source:
            source.add_callback(on_event)
            source.burst(40)
            await asyncio.sleep(10e-3)

    stage.run_until_complete(main())


def numbers(trace: list[str]) -> list[int]:
    return [int(name[1:]) for name in trace if name.startswith("e")]


@pytest.mark.parametrize("form", [list, iter, tuple], ids=["list", "generator", "tuple"])
@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.INTERRUPT])
@pytest.mark.parametrize(("took", "at_once"), [(0.3, 4), (2, 1)])
def test_between_two_looks_lie_the_callbacks_of_one_slice(stage, form, priority, took, at_once):
    play(stage, Burst(priority, form), took)
    assert numbers(stage.trace) == list(range(40))
    runs = [len(list(group)) for is_look, group in itertools.groupby(stage.trace, "look".__eq__) if not is_look]
    assert max(runs) == at_once


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.INTERRUPT])
def test_other_work_goes_on_beside_slow_callbacks_of_a_source(stage, priority):
    """Promise 5 as well."""
    source = Burst(priority)

    def again() -> None:
        stage.trace.append("other")
        stage.clock += 10e-6
        if not source.closed:
            stage.call_soon(again)

    stage.call_soon(again)
    play(stage, source, 2)
    names = [name for name in stage.trace if name != "look"]
    runs = [len(list(group)) for is_other, group in itertools.groupby(names, "other".__eq__) if not is_other]
    assert max(runs) <= (1 if priority is Priority.NORMAL else AGEING)
    if priority is Priority.INTERRUPT:  # which the rest of a read keeps
        assert names[names.index("e0") : names.index("e39")].count("other") <= 40 // (AGEING - 1)


def test_a_source_is_called_again_once_in_its_turn(stage):
    source = Burst()

    async def main() -> None:
        async with source:
            source.burst(1)
            source.add_callback(lambda event: stage.trace.append("event"))
            stage.call_soon(stage.work("before"))
            stage.call_again(source)
            stage.call_again(source)
            await asyncio.sleep(1e-3)
            assert source.statistics().wakeups == 1
        with pytest.raises(KeyError, match="burst"):
            stage.call_again(source)

    stage.run_until_complete(main())
    assert [name for name in stage.trace if name != "look"] == ["before", "event"]


def test_the_rest_of_a_read_waits_while_the_queue_is_full(stage):
    """A consumer beside the callbacks holds up the source."""
    source = Burst()
    source._channel.when_full, source._channel._size = "pause", 10
    taken = []

    async def main() -> None:
        async with source:
            iteration = aiter(source)
            source.add_callback(lambda event: stage.work("callback", took=2e6 * SLICE)())
            source.burst(40)
            await asyncio.sleep(20e-3)
            assert 10 < stage.trace.count("callback") < 15
            while len(taken) < 40:
                taken.append((await anext(iteration)).value)

    stage.run_until_complete(main())
    assert taken == list(range(40))
    assert stage.trace.count("callback") == 40


def test_a_timer_that_is_due_does_not_wait_for_a_burst(stage):
    source = Burst(Priority.INTERRUPT)
    play(stage, source, 2, then=lambda: stage.call_soon_priority(Priority.INTERRUPT, stage.work("timer")))
    assert stage.trace[stage.trace.index("e20") :][:4].count("timer") == 1


def test_events_of_another_origin_keep_their_place(stage):
    source = Burst()
    play(stage, source, 2, then=lambda: source.deliver(Event(1000)))
    assert numbers(stage.trace) == [*range(21), 1000, *range(21, 40)]  # from within a callback: at once
    stage.trace.clear()
    source = Burst()
    play(stage, source, 2, then=lambda: stage.call_soon(source.deliver, Event(1000)))
    assert numbers(stage.trace) == [*range(40), 1000]


def test_reading_at_once_comes_after_what_is_left(stage):
    source = Burst()

    def catch_up() -> None:
        source.burst(5)
        stage.call_soon(read_now)

    def read_now() -> None:
        source.read_now()
        stage.trace.append("caught up")

    play(stage, source, 2, then=catch_up)
    assert numbers(stage.trace) == list(range(45))
    assert stage.trace[stage.trace.index("caught up") - 1] == "e40"


def test_a_closed_source_counts_what_is_left(stage):
    source = Burst()
    play(stage, source, 2, then=lambda: stage.call_soon(source.close))
    delivered = numbers(stage.trace)
    assert delivered == list(range(len(delivered)))
    assert 21 <= len(delivered) <= 23
    statistics = source.statistics()
    assert (statistics.received, statistics.delivered, statistics.dropped) == (40, len(delivered), 40 - len(delivered))


def test_a_source_that_fails_delivers_what_it_has_read(stage):
    source = Burst()
    stage.set_exception_handler(lambda loop, context: stage.trace.append("report"))
    play(stage, source, 2, then=lambda: stage.call_soon(source.fail, OSError("gone")))
    assert [name for name in stage.trace if name != "look"] == [*(f"e{value}" for value in range(40)), "report"]
    assert isinstance(source.failure, HardwareError | OSError)


def test_a_callback_that_ends_the_program_costs_no_event_its_count(stage):
    source = Burst()

    def end() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        play(stage, source, 2, then=end)
    source.close()
    statistics = source.statistics()
    assert (statistics.received, statistics.delivered, statistics.dropped) == (40, 21, 19)


def test_on_other_loops_slow_callbacks_take_turns_too():
    trace = []

    def busy(event: Event) -> None:
        trace.append(event.value)
        end = loop.time() + 2 * SLICE
        while loop.time() < end:
            pass

    async def main() -> None:
        async with Burst() as source:
            source.add_callback(busy)
            source.burst(40)
            source.burst(1)  # a poll finds it in each turn
            while 40 not in trace:
                trace.append("other")
                await asyncio.sleep(0)
                assert sum(handle._callback == source._begin_turn for handle in loop._ready) <= 1

    loop: Any = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert [value for value in trace if value != "other"] == list(range(41))
    assert trace.count("other") > 15


def test_a_rest_left_by_a_callback_that_reads_on_is_not_lost(stage):
    source = Burst()

    def read_on() -> None:
        source.burst(5)
        source.read_now()

    play(stage, source, 2, then=read_on)
    assert numbers(stage.trace) == [*range(21), 40, *range(21, 40), *range(41, 45)]


def test_events_of_another_origin_are_not_lost_with_a_read_within_a_callback(stage):
    source = Burst()

    def read_on() -> None:
        source.deliver(Event(1000))
        source.burst(2)
        source.read_now()
        source.deliver(Event(1001))  # behind what is left of those two
        source.read_now()
        stage.call_soon(source.deliver, Event(1002))

    play(stage, source, 2, then=read_on)
    assert sorted(numbers(stage.trace)) == [*range(42), 1000, 1001, 1002]
    assert numbers(stage.trace)[-1] == 1002


def test_many_events_of_another_origin_cost_no_more_than_others(stage):
    """Each was one more iterator around the others."""
    source = Burst()

    def deliver_many() -> None:
        for value in range(100_000):
            source.deliver(Event(value))
        source.remove_callback(source.callbacks[0])

    play(stage, source, 2, then=lambda: stage.call_soon(deliver_many))
    statistics = source.statistics()
    assert statistics.received == 100_040
    assert statistics.dropped + statistics.queued + statistics.delivered == 100_040


def test_a_failed_source_delivers_on_before_it_is_reopened(stage):
    source = Burst()
    source._reopening = Reopening(Backoff(1.0), "burst")
    play(stage, source, 2, then=lambda: source.fail(OSError("gone")))
    assert numbers(stage.trace) == list(range(40))


def test_a_callback_that_ends_the_program_leaves_a_failed_device_to_be_closed(stage):
    source = Burst()

    def end() -> None:
        raise SystemExit

    def fail() -> None:
        source.add_callback(lambda event: end())
        source.fail(OSError("gone"))

    with pytest.raises(SystemExit):
        play(stage, source, 2, then=lambda: stage.call_soon(fail))
    assert not source.closed
    source.fail(OSError("gone"))
    assert source.closed
    assert source.fileno() == -1
    assert source.statistics().errors == 1


def test_a_source_is_closed_although_the_rest_of_a_read_raises(stage):
    def decode(event: Event) -> Event:
        if event.value == 30:
            raise ValueError("no event")
        return event

    source = Burst(form=lambda events: map(decode, events))
    failures = []

    def close() -> None:
        with pytest.raises(ValueError, match="no event"):
            source.close()
        failures.append(source.fileno())

    play(stage, source, 2, then=lambda: stage.call_soon(close))
    assert failures == [-1]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(source.reader)
