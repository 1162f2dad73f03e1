"""Garbage collection by schedule, and the spin before a timer."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref

import pytest

import hwloop
from hwloop.core.gc_schedule import MARGIN, PRESSING, GcSchedule
from hwloop.core.loop_clock import LoopClock


class Cycle:
    """Garbage that only a collection finds."""

    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _automatic_collection_afterwards():
    yield
    assert gc.isenabled()
    gc.collect()


@pytest.fixture
def thresholds():
    """Young ones are due after 50 objects, the others after 3 collections."""
    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    gc.set_threshold(50, 3, 3)
    yield
    gc.set_threshold(*before)
    gc.enable()


def make_garbage(count):
    """So many cycles; a reference that is dead once the first has been collected."""
    first = Cycle()
    found = weakref.ref(first)
    del first
    for _ in range(count):
        Cycle()
    return found


def test_python_collects_as_ever_unless_asked_otherwise():
    async def main():
        assert gc.isenabled()
        return asyncio.get_running_loop().statistics().gc

    assert hwloop.run(main()) is None


@pytest.mark.parametrize("mode", ["idle", "off"])
def test_automatic_collection_is_off_while_the_loop_runs_and_on_again_afterwards(mode):
    async def main():
        return gc.isenabled()

    assert hwloop.run(main(), gc=mode) is False


def test_a_program_that_has_switched_it_off_finds_it_off():
    gc.disable()
    try:
        hwloop.run(asyncio.sleep(0), gc="idle")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_mode_can_change_while_the_loop_runs():
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        for mode in ("idle", "auto", "off", "auto"):
            loop.schedule_gc(mode)
            seen.append(gc.isenabled())
        return seen

    assert hwloop.run(main()) == [False, True, False, True]


def test_an_idle_loop_collects_before_it_sleeps(thresholds):
    gc.enable()

    async def main():
        found = make_garbage(200)
        assert found() is not None
        await asyncio.sleep(0.02)
        return found(), asyncio.get_running_loop().statistics().gc

    left, counted = hwloop.run(main(), gc="idle")
    assert left is None
    assert sum(counted.collections) >= 1
    assert counted.forced == 0
    assert counted.longest > 0


def test_off_collects_nothing(thresholds):
    gc.enable()

    async def main():
        found = make_garbage(200 * PRESSING)
        await asyncio.sleep(0.01)
        return found() is not None

    assert hwloop.run(main(), gc="off")


def test_a_callback_that_a_finalizer_schedules_runs_before_the_loop_sleeps(thresholds):
    gc.enable()

    class Last(Cycle):
        def __del__(self):
            asyncio.get_running_loop().call_soon(done.set_result, "finalized")

    async def main():
        nonlocal done
        done = asyncio.get_running_loop().create_future()
        Last()
        make_garbage(200)
        return await done  # nothing else is there to wake the loop

    done = None
    assert hwloop.run(main(), gc="idle") == "finalized"


def idle_schedule(now):
    schedule = GcSchedule(LoopClock(now))
    schedule.set_mode("idle")
    return schedule


def test_a_gap_must_be_longer_than_the_collection_will_take(thresholds):
    clock = 0.0
    collector = idle_schedule(lambda: clock)
    found = make_garbage(60)
    assert not collector.collect_before(clock + collector._expected[0] * MARGIN * 0.9)
    assert found() is not None
    assert collector.collect_before(clock + collector._expected[0] * MARGIN)
    assert found() is None
    assert not collector.collect_before(None)  # nothing is due any more


def test_a_gap_too_short_for_the_whole_heap_serves_for_the_young(thresholds):
    collector = idle_schedule(lambda: 0.0)
    while gc.get_count()[2] <= 3:
        gc.collect(1)
    make_garbage(60)
    assert collector.collect_before(collector._expected[0] * MARGIN)
    assert collector.statistics().collections == (1, 0, 0)
    make_garbage(60)
    assert collector.collect_before(None)
    assert collector.statistics().collections == (1, 0, 1)


def test_a_loop_that_never_rests_collects_what_presses(thresholds):
    gc.enable()

    async def main():
        loop = asyncio.get_running_loop()
        found = make_garbage(60)
        for _ in range(10):
            await asyncio.sleep(0)  # busy: overdue, but not pressing
        assert found() is not None
        found = make_garbage(60 * PRESSING)
        until = loop.time() + 10
        while found() is not None and loop.time() < until:
            await asyncio.sleep(0)
        return found() is None, loop.statistics().gc.forced

    collected, forced = hwloop.run(main(), gc="idle")
    assert collected
    assert forced >= 1


def test_gaps_that_are_always_too_short_do_not_put_it_off_for_ever(thresholds):
    collector = idle_schedule(lambda: 0.0)
    make_garbage(60)
    assert not collector.collect_before(0.0)  # overdue, but not pressing
    found = make_garbage(60 * PRESSING)
    assert collector.collect_before(0.0)
    assert found() is None
    assert collector.statistics().forced == 1
    make_garbage(60 * PRESSING)
    assert collector.collect_before(None)
    assert collector.statistics().forced == 1  # there was time


def test_a_second_run_that_raises_leaves_collection_with_the_loop():
    async def main():
        with pytest.raises(RuntimeError, match="already running"):
            asyncio.get_running_loop().run_forever()
        return gc.isenabled()

    assert hwloop.run(main(), gc="idle") is False


@pytest.mark.parametrize("mode", ["always", None, ""])
def test_an_unknown_mode_raises(mode):
    with pytest.raises(ValueError, match='"auto", "idle" or "off"'):
        hwloop.run(asyncio.sleep(0), gc=mode)


@pytest.mark.parametrize("seconds", [-1e-6, 0.011, float("nan"), float("inf")])
def test_a_spin_out_of_range_raises(seconds):
    with pytest.raises(ValueError, match=r"from 0 to 0\.01"):
        hwloop.run(asyncio.sleep(0), spin=seconds)


ATTEMPTS = 50
"""A spin takes milliseconds, in which a busy machine may run something else: then another attempt is made."""


def test_a_spinning_loop_wakes_before_the_timer_and_never_runs_it_early():
    armed = []

    async def main():
        loop = asyncio.get_running_loop()
        arm = loop._poller._alarm.set
        loop._poller._alarm.set = lambda when: (armed.append(when), arm(when))
        for _ in range(ATTEMPTS):
            when = loop.time() + 0.004
            ran = loop.create_future()
            loop.call_at(when, lambda ran=ran: ran.set_result(loop.time()))
            assert await ran >= when
            if armed:
                return when
        return None

    when = hwloop.run(main(), spin=0.002)
    assert armed == [pytest.approx(when - 0.002, abs=1e-6)]


def test_descriptors_are_served_during_a_spin():
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        loop.add_reader(reader, lambda: (order.append("edge"), os.read(reader, 1)))
        for _ in range(ATTEMPTS):
            order = []
            loop.call_at(loop.time() + 0.009, order.append, "timer")  # all of the stretch before it is spun
            os.write(writer, b"!")
            while len(order) < 2:
                await asyncio.sleep(0.02)
            if order == ["edge", "timer"]:
                break
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
        return order

    assert hwloop.run(main(), spin=0.01) == ["edge", "timer"]
