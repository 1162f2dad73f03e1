"""Promise 3 for timers that may be late: never early, at most their tolerance late, and one wakeup for many."""

from __future__ import annotations

import asyncio
import math
from contextvars import Context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwloop
from hwloop.core.handles import TolerantHandle
from hwloop.core.timer_queue import TimerQueue


def tolerant(stage, delay, tolerance, name):
    return stage.call_tolerant(stage.time() + delay * 1e-3, stage.work(name), tolerance=tolerance * 1e-3)


def test_timers_within_each_others_tolerance_share_a_wakeup(stage):
    for number in range(5):
        tolerant(stage, 10 + number, 5, str(number))
    assert stage.play(30000) == ["0", "1", "2", "3", "4"]
    assert [round(wait, 6) for wait in stage.waits] == [0.015, 0.015]  # at the end of the first's, and of the play


def test_a_thousand_timers_spread_over_a_second_share_wakeups_by_the_millisecond(stage):
    for number in range(1000):
        tolerant(stage, 1 + number * 0.999, 1, str(number))
    assert stage.play(2_000_000) == [str(number) for number in range(1000)]
    assert len(stage.waits) <= 502


def test_a_timer_with_a_tolerance_uses_the_wakeup_of_another(stage):
    tolerant(stage, 10, 50, "tolerant")
    stage.call_later(0.02, stage.work("exact"))
    assert stage.play(100_000) == ["tolerant", "exact"]
    assert round(stage.waits[0], 6) == 0.02


def test_a_loop_that_is_awake_runs_it_on_time_and_never_before(stage):
    tolerant(stage, 1, 50, "tolerant")
    for number in range(4):
        stage.call_soon(stage.work(str(number), took=400))
    trace = stage.play()
    assert trace.index("tolerant") > trace.index("2")
    assert stage.waits == []


def test_due_ones_keep_the_order_of_their_times(stage):
    tolerant(stage, 3, 9, "c")
    tolerant(stage, 1, 9, "a")
    stage.call_later(0.002, stage.work("b"))
    stage.call_soon(stage.work("busy", took=5000))
    assert stage.play(20000) == ["busy", "a", "b", "c"]


def test_a_cancelled_one_neither_runs_nor_wakes_the_loop(stage):
    tolerant(stage, 1, 1, "cancelled").cancel()
    later = tolerant(stage, 10, 0, "cancelled too")
    stage.call_later(0.005, later.cancel)
    assert stage.play(20000) == []
    assert [round(wait, 6) for wait in stage.waits] == [0.005, 0.015]


def test_one_cancelled_after_it_was_found_due_does_not_run(stage):
    timer = tolerant(stage, 1, 0, "cancelled")
    stage.call_later(0.0005, stage.work("busy", took=1000, then=lambda: stage.call_soon(timer.cancel)))
    stage.call_soon(stage.work("first"))
    assert "cancelled" not in stage.play(1400)


def test_many_cancelled_ones_leave_nothing(stage):
    timers = [stage.call_tolerant(100, print, tolerance=10) for _ in range(10_000)]
    for timer in timers:
        timer.cancel()
        timer.cancel()
    stage.call_soon(stage.stop)
    stage.run_forever()
    assert len(stage._timers.all()) < 200


def test_many_that_ran_on_a_busy_loop_leave_nothing(stage):
    """Those that run long before the end of their tolerance are not kept until then."""
    left = 2000

    def again():
        nonlocal left
        left -= 1
        stage.clock += 1e-4
        if left:
            stage.call_tolerant(stage.clock, again, tolerance=1000)
            stage.call_soon(stage.work("busy", took=100))
        else:
            stage.stop()

    again()
    stage.run_forever()
    assert len(stage._timers.all()) < 200


def test_a_timer_with_a_tolerance_is_a_timer_handle_with_its_time(stage):
    timer = tolerant(stage, 10, 5, "timer")
    assert isinstance(timer, asyncio.TimerHandle)
    assert timer.when() == stage.time() + 0.01
    assert not timer.cancelled()
    assert stage.statistics().timers == 1


def test_closing_the_loop_forgets_them():
    loop = hwloop.EventLoop()
    loop.call_tolerant(loop.time() + 1, print, tolerance=1)
    loop.close()
    assert not loop._timers.has_tolerant()


def test_they_work_on_the_real_clock_and_in_debug_mode():
    async def main():
        loop = asyncio.get_running_loop()
        early = []
        done = loop.create_future()
        left = 100

        def check(when):
            nonlocal left
            if loop.time() < when:
                early.append(when)
            left -= 1
            if not left:
                done.set_result(None)

        for number in range(100):
            when = loop.time() + number * 1e-4
            loop.call_tolerant(when, check, when, tolerance=1e-3)
        await done
        assert early == []

    hwloop.run(main())
    hwloop.run(main(), debug=True)


def test_ticks_with_a_tolerance_share_their_wakeups(stage):
    periodics = [stage.call_every(0.01, stage.work(str(number)), tolerance=0.004) for number in range(3)]
    stage.call_later(0.002, lambda: periodics.append(stage.call_every(0.01, stage.work("3"), tolerance=0.004)))
    assert stage.play(25000) == ["0", "1", "2", "3"] * 2
    assert [round(wait, 6) for wait in stage.waits] == [0.002, 0.012, 0.01, 0.001]

    async def ticking():
        ticks = hwloop.every(0.01, tolerance=0.004)
        return [round((await anext(ticks)).lateness, 6) for _ in range(2)]

    for periodic in periodics:
        periodic.cancel()
    assert stage.run_until_complete(ticking()) == [0.004, 0.004]


@pytest.mark.parametrize(("when", "tolerance"), [(1, -1), (1, math.nan), (1, math.inf), (math.nan, 1), (math.inf, 1)])
def test_invalid_times_and_tolerances_raise(stage, when, tolerance):
    with pytest.raises(ValueError, match="must be from"):
        stage.call_tolerant(when, print, tolerance=tolerance)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 50), st.integers(0, 2)),
            st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("pass"), st.integers(0, 15), st.just(0)),
        ),
        max_size=60,
    )
)
def test_the_queue_agrees_with_a_plain_list(steps):
    queue, plain, now, timers = TimerQueue(), {}, 0.0, []
    for what, first, second in steps:
        if what == "add":
            number, when = len(timers), now + first / 4
            plain[number] = (when, when + second)
            timer = TolerantHandle(when, print, (), None, Context())
            timer.tolerance = float(second)
            timers.append(timer)
            queue.new.append(timer)
            queue.admit()
        elif what == "cancel":
            if plain.pop(first, None):
                timers[first]._cancelled = True
                queue.note_cancelled(timers[first])
        else:
            now += first / 4
            released = queue.pop_due(now)
            due = [number for number, (when, _) in plain.items() if when <= now]
            assert released == [timers[number] for number in sorted(due, key=lambda each: (timers[each]._when, each))]
            assert not any(timer._scheduled for timer in released)
            for number in due:
                del plain[number]
        assert sum(not timer._cancelled for timer in queue.all()) == len(plain)
        assert queue.has_tolerant() >= any(timers[number].tolerance for number in plain)
        assert queue.next_when() == min((latest for _, latest in plain.values()), default=None)
