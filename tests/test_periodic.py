"""every() and call_every() on a clock that leaps: the times of ticks, late ticks, and reports of them."""

from __future__ import annotations

import asyncio
import functools
import logging
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwloop
from hwloop import Priority
from hwloop.core import clock
from hwloop.core.periodic_timer import Schedule
from hwloop.core.urgency import URGENCY

SECOND = 1_000_000_000


def since_start(time: float) -> float:
    return round(time - 1000, 6)


def work(seconds):
    """Be busy for so long: the clock moves, and nothing else does."""
    asyncio.get_running_loop().clock.time += seconds


async def ticks_of(period, busy, **options):
    """Ticks of every(), followed by `busy` seconds of work each."""
    ticks = []
    async for tick in hwloop.every(period, **options):
        ticks.append(tick)
        if len(ticks) > len(busy):
            return ticks
        work(busy[len(ticks) - 1])
    raise AssertionError


def call_every_ticks(period, busy, **options):
    """The same ticks by call_every()."""

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        ticks = []

        def callback():
            ticks.append(periodic.tick)
            if len(ticks) > len(busy):
                periodic.cancel()
                done.set_result(None)
            else:
                work(busy[len(ticks) - 1])

        periodic = loop.call_every(period, callback, **options)
        await done
        assert periodic.ticks == len(ticks)
        assert periodic.missed == sum(tick.missed for tick in ticks)
        assert periodic.missed_deadlines == sum(tick.missed_deadline for tick in ticks)
        return ticks

    return main()


FORMS = pytest.mark.parametrize("form", [ticks_of, call_every_ticks], ids=["every", "call_every"])


# Where ticks lie.


@pytest.mark.parametrize("period", [1 / 60, 1 / 3, 0.001, 0.1, 1e-6, 7, 3.3e-5])
def test_a_million_ticks_do_not_drift_by_a_nanosecond(period):
    schedule = Schedule(period, None, "skip")
    now_ns = start_ns = 123_456_789_012
    for _ in range(1000):
        now_ns, missed = schedule.next(now_ns)
        assert missed == 0
    assert abs(now_ns - start_ns - 1000 * Fraction(period) * SECOND) <= Fraction(1, 2)
    schedule._number = 999_999  # as if 999,000 more had passed
    due_ns, _ = schedule.next(now_ns)
    assert abs(due_ns - start_ns - 1_000_000 * Fraction(period) * SECOND) <= Fraction(1, 2)


@given(
    period=st.floats(1e-6, 1e3),
    phase=st.one_of(st.none(), st.floats(0, 0.999)),
    overrun=st.sampled_from(["skip", "catch-up", "delay"]),
    lates=st.lists(st.integers(-1, 5 * SECOND), max_size=20),
)
def test_a_schedule_keeps_to_its_grid_and_accounts_for_each_tick(period, phase, overrun, lates):
    """`lates`: how long after each tick the next is asked for; -1: just before the tick."""
    exact = Fraction(period) * SECOND
    origin = phase and round(phase * period * SECOND)
    schedule = Schedule(period, None if phase is None else phase * period, overrun)
    now_ns = 10 * SECOND
    last_ns, missed = schedule.next(now_ns)
    assert now_ns <= last_ns <= now_ns + exact + 1
    assert missed == 0
    if phase is None:
        origin = now_ns
    number = round((last_ns - origin) / exact)
    for late_ns in lates:
        now_ns = max(now_ns, last_ns + late_ns)
        due_ns, missed = schedule.next(now_ns)
        if overrun == "delay" and due_ns < now_ns:
            assert abs(due_ns - origin - (number + 1) * exact) <= 1
            origin, number = now_ns, 0
        else:
            number += missed + 1
            assert abs(due_ns - origin - number * exact) <= 1
        if overrun == "skip":
            assert due_ns + exact + 1 > now_ns  # else the next should have come instead
            assert missed == 0 or due_ns <= now_ns
        else:
            assert missed == 0
        last_ns = due_ns


def test_ticks_with_a_phase_take_turns_whenever_they_began(leap):
    async def main():
        trace = []

        async def ticking(name, wait, **options):
            await asyncio.sleep(wait)
            async for tick in hwloop.every(0.01, **options):
                trace.append((since_start(tick.scheduled), name))
                if tick.scheduled >= 1000.03:
                    return

        await asyncio.gather(ticking("a", 0.0034, phase=0), ticking("b", 0.0012, phase=0.005))
        return trace

    assert leap(main()) == [
        (0.005, "b"), (0.01, "a"), (0.015, "b"), (0.02, "a"), (0.025, "b"), (0.03, "a"), (0.035, "b"),
    ]  # fmt: skip


@FORMS
def test_the_first_tick_is_a_period_from_now_and_none_is_early(leap_hwloop, form):
    ticks = leap_hwloop(form(0.25, [0.1, 0, 0.2]))
    assert [since_start(tick.scheduled) for tick in ticks] == [0.25, 0.5, 0.75, 1.0]
    assert all(tick.lateness >= 0 for tick in ticks)


# Late ticks. Ticks each second; the work after the first takes 2.6 s, after the second 0.1 s.


@FORMS
@pytest.mark.parametrize(
    ("overrun", "expected"),
    [
        ("skip", [(1, 0, 0), (3, 0.6, 1), (4, 0, 0), (5, 0, 0)]),
        ("catch-up", [(1, 0, 0), (2, 1.6, 0), (3, 0.7, 0), (4, 0, 0)]),
        ("delay", [(1, 0, 0), (2, 1.6, 0), (4.6, 0, 0), (5.6, 0, 0)]),
    ],
)
def test_a_late_tick_is_skipped_caught_up_or_delays_the_rest(leap_hwloop, form, overrun, expected):
    ticks = leap_hwloop(form(1, [2.6, 0.1, 0.1], overrun=overrun))
    assert [(since_start(tick.scheduled), round(tick.lateness, 6), tick.missed) for tick in ticks] == expected


@FORMS
def test_a_tick_that_comes_after_its_deadline_says_so(leap_hwloop, form, caplog):
    with caplog.at_level(logging.ERROR, "hwloop"):
        ticks = leap_hwloop(form(1, [1.5, 0.6, 0.1], deadline=0.3))
    assert [round(tick.lateness, 6) for tick in ticks] == [0, 0.5, 0.1, 0]
    assert [tick.missed_deadline for tick in ticks] == [False, True, False, False]


def test_late_ticks_leave_others_their_turn(leap):
    async def main():
        trace = []

        async def other():
            for _ in range(3):
                trace.append("other")
                await asyncio.sleep(0)

        async for _ in hwloop.every(0.001, overrun="catch-up"):
            if not trace:
                task = asyncio.create_task(other())
            trace.append("tick")
            work(0.01)
            if len(trace) >= 5:
                await task
                return trace

    assert leap(main()) == ["tick", "other"] * 3


def test_no_tick_is_early_on_a_loop_whose_timers_are():
    class Early(asyncio.SelectorEventLoop):
        def call_at(self, when, callback, *args, context=None):
            return super().call_at(when - 0.0005, callback, *args, context=context)

    async def main():
        ticks = hwloop.every(0.002)
        return [(await anext(ticks)).lateness for _ in range(4)]

    with asyncio.Runner(loop_factory=Early) as runner:
        assert min(runner.run(main())) >= 0


# How urgent.


async def traced(form, **tick_options):
    """A tick and ordinary work become ready at the same time."""
    loop = asyncio.get_running_loop()
    trace = []
    periodic = None
    if form == "every":

        async def ticking():
            async for _ in hwloop.every(0.01, **tick_options):
                trace.append("tick")
                return

        task = asyncio.create_task(ticking())
    else:
        periodic = loop.call_every(0.01, lambda: trace.append("tick"), **tick_options)

    def busy():
        work(0.02)
        for number in range(8):
            loop.call_soon(trace.append, number)

    loop.call_later(0.005, busy)
    await asyncio.sleep(0.03)
    if periodic is None:
        await task
    else:
        periodic.cancel()
    return trace


@pytest.mark.parametrize("form", ["every", "call_every"])
def test_an_urgent_tick_goes_before_ordinary_work_that_was_there_first(leap_hwloop, form):
    assert leap_hwloop(traced(form, priority=Priority.HIGH))[0] == "tick"
    assert leap_hwloop(traced(form, deadline=0.005))[0] == "tick"
    assert leap_hwloop(traced(form, priority=Priority.LOW))[0] != "tick"


def test_the_work_of_a_tick_is_as_urgent_as_its_task(leap_hwloop):
    async def main():
        async for _ in hwloop.every(0.01, priority=Priority.HIGH):
            return URGENCY.get().priority

    assert leap_hwloop(main()) == Priority.NORMAL


# call_every.


def test_a_callback_that_raises_is_reported_and_the_next_tick_still_comes(leap_hwloop):
    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        ran = []

        def blink(level):
            ran.append(level)
            raise ZeroDivisionError(level)

        periodic = loop.call_every(0.1, blink, 7)
        await asyncio.sleep(0.35)
        periodic.cancel()
        assert ran == [7, 7, 7]
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 3
        assert "blink after 1 ticks" in reports[0]["message"]

    leap_hwloop(main())


def test_a_keyboard_interrupt_ends_the_run_and_not_the_ticks():
    loop = hwloop.EventLoop()
    ran = []

    def interrupted():
        ran.append(1)
        if len(ran) == 1:
            raise KeyboardInterrupt
        loop.stop()

    loop.call_every(0.001, interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_forever()
    loop.close()
    assert ran == [1, 1]


def test_a_cancelled_one_runs_no_more_also_when_the_callback_cancels_it(leap_hwloop):
    async def main():
        loop = asyncio.get_running_loop()
        ran = []
        inside = loop.call_every(0.1, lambda: (ran.append("inside"), inside.cancel()))
        outside = loop.call_every(0.1, ran.append, "outside")
        await asyncio.sleep(0.25)
        outside.cancel()
        outside.cancel()
        await asyncio.sleep(1)
        assert ran == ["inside", "outside", "outside"]
        assert inside.cancelled()
        assert outside.cancelled()
        assert "cancelled" in repr(inside)
        assert not loop._timers.all() or all(timer.cancelled() for timer in loop._timers.all())

    leap_hwloop(main())


def test_a_deadline_missed_by_a_callback_is_reported_under_its_name(leap_hwloop):
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("hwloop").addHandler(handler)

    def steer():
        pass

    async def main():
        loop = asyncio.get_running_loop()
        periodic = loop.call_every(0.01, steer, deadline=0.001)
        loop.call_later(0.005, work, 0.012)
        await asyncio.sleep(0.03)
        periodic.cancel()
        assert periodic.missed_deadlines == 1

    leap_hwloop(main())
    logging.getLogger("hwloop").removeHandler(handler)
    assert len(messages) == 1
    assert "steer" in messages[0]


# Bad input.

BAD = [
    ({"period": 0}, ValueError, "period"),
    ({"period": -1}, ValueError, "period"),
    ({"period": float("nan")}, ValueError, "period"),
    ({"period": float("inf")}, ValueError, "period"),
    ({"period": "1"}, TypeError, "period"),
    ({"period": 1, "phase": -0.1}, ValueError, "phase"),
    ({"period": 1, "phase": 1}, ValueError, "phase"),
    ({"period": 1, "phase": float("nan")}, ValueError, "phase"),
    ({"period": 1, "deadline": 0}, ValueError, "deadline"),
    ({"period": 1, "deadline": float("inf")}, ValueError, "deadline"),
    ({"period": 1, "deadline": float("nan")}, ValueError, "deadline"),
    ({"period": 1, "tolerance": -1}, ValueError, "tolerance"),
    ({"period": 1, "tolerance": float("nan")}, ValueError, "tolerance"),
    ({"period": 1, "tolerance": float("inf")}, ValueError, "tolerance"),
    ({"period": 1, "priority": 9}, ValueError, "unknown priority 9"),
    ({"period": 1, "overrun": "explode"}, ValueError, "'skip', 'catch-up', 'delay'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_invalid_options_raise_in_both_forms(leap_hwloop, options, error, message):
    with pytest.raises(error, match=message):
        hwloop.every(**options)

    async def main():
        loop = asyncio.get_running_loop()
        period = options["period"]
        rest = {name: value for name, value in options.items() if name != "period"}
        with pytest.raises(error, match=message):
            loop.call_every(period, print, **rest)
        assert not loop._timers.new

    leap_hwloop(main())


async def coroutine_function():
    pass


@pytest.mark.parametrize("bad", [None, 5, coroutine_function, functools.partial(print)])
def test_a_callback_must_be_a_plain_function(leap_hwloop, bad):
    async def main():
        loop = asyncio.get_running_loop()
        if isinstance(bad, functools.partial):
            loop.call_every(1, bad).cancel()
            return
        with pytest.raises(TypeError, match="call_every"):
            loop.call_every(1, bad)
        loop.set_debug(True)  # as asyncio's timers, which look at it in debug mode only
        with pytest.raises(TypeError, match="call_tolerant"):
            loop.call_tolerant(loop.time(), bad, tolerance=1)

    leap_hwloop(main())


def test_a_closed_loop_refuses():
    loop = hwloop.EventLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_every(1, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_tolerant(1, print, tolerance=1)


@given(st.integers(0, 10**19))
def test_a_time_in_nanoseconds_survives_the_way_through_seconds(time_ns):
    assert 0 <= clock.to_ns(clock.from_ns(time_ns)) - time_ns <= max(2, time_ns >> 52)
