"""Promise 3: a timer's callback runs at `loop.time() >= when`. Promise 4: waits are not rounded."""

from __future__ import annotations

import asyncio
import random
import selectors

import hwloop


def test_no_timer_is_early_on_the_real_clock():
    early = []

    async def main():
        loop = asyncio.get_running_loop()
        rng = random.Random(1)
        waits = [rng.uniform(1e-6, 0.02) for _ in range(500)]
        done = loop.create_future()
        left = len(waits)

        def check(when):
            nonlocal left
            if loop.time() < when:
                early.append(when)
            left -= 1
            if not left:
                done.set_result(None)

        for wait in waits:
            when = loop.time() + wait
            loop.call_at(when, check, when)
        await done

    hwloop.run(main())
    assert early == []


def test_the_wait_is_for_the_time_asked_to_the_last_digit(stage):
    stage.call_later(0.0123456789, stage.work("timer"))
    stage.play(20000)
    assert stage.waits[0] == (1.0 + 0.0123456789) - 1.0


def test_equal_times_run_in_the_order_in_which_they_were_set(stage):
    when = stage.time() + 0.001
    for name in "abcdefgh":
        stage.call_at(when, stage.work(name))
    assert stage.play(2000) == list("abcdefgh")


def test_timers_run_in_the_order_of_their_times(stage):
    for delay in (30, 10, 20):
        stage.call_later(delay * 1e-3, stage.work(str(delay)))
    assert stage.play(40000) == ["10", "20", "30"]


def test_a_cancelled_timer_does_not_run_and_is_not_waited_for(stage):
    stage.call_later(0.001, stage.work("cancelled")).cancel()
    stage.call_later(0.002, stage.work("timer"))
    assert stage.play(3000) == ["timer"]
    assert stage.waits[0] > 0.0019


def test_a_timer_cancelled_after_it_was_found_due_does_not_run(stage):
    timer = stage.call_later(0.001, stage.work("cancelled"))
    stage.call_later(0.0005, stage.work("busy", took=1000, then=lambda: stage.call_soon(timer.cancel)))
    stage.call_soon(stage.work("first"))
    assert "cancelled" not in stage.play(1400)


def test_many_cancelled_timers_leave_the_heap(stage):
    timers = [stage.call_later(100, print) for _ in range(10_000)]
    stage.call_soon(stage.stop)
    stage.run_forever()
    for timer in timers:
        timer.cancel()
    stage.call_soon(stage.stop)
    stage.run_forever()
    assert len(stage._timers.all()) < 100


def test_timers_of_no_delay_run_after_all_that_is_queued_by_their_times_as_in_asyncio(stage):
    stage.call_soon(stage.work("a"))
    stage.call_later(0, stage.work("b"))
    stage.call_later(-5, stage.work("c"))
    stage.call_soon(stage.work("d"))
    assert stage.play() == ["a", "d", "c", "b"]


def test_a_timer_in_the_past_runs_at_the_next_look(stage):
    stage.call_at(0.5, stage.work("past"))
    assert stage.play() == ["past"]


def test_a_timer_of_infinite_delay_waits_and_can_be_cancelled():
    async def main():
        loop = asyncio.get_running_loop()
        timer = loop.call_later(float("inf"), print)
        assert timer.when() == float("inf")
        await asyncio.sleep(0.001)
        timer.cancel()

    hwloop.run(main())


def test_timers_work_through_any_selector():
    for make in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        loop = hwloop.EventLoop(make())
        try:
            started = loop.time()
            loop.call_later(0.003, loop.stop)
            loop.run_forever()
            assert loop.time() - started >= 0.003
        finally:
            loop.close()
