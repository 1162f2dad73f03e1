"""Promise 8 where a task waits: a wait that is cancelled takes nothing with it, and nobody else waits for ever for it.

Hypothesis lets tasks wait for everything that hwloop offers and interrupts them in every way that asyncio has, on a
grid of times, so that a timeout often falls into the very turn in which the wait would have ended. Then sums must
hold: ticks delivered and missed are the ticks that were due, items that went in came out or are queued, a token is
spent by those that got it and by nobody else, a lock is free in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import hwloop
from hwloop.core.clock import to_ns
from hwloop.scheduling.limits import TokenBucket

GRID = 0.25
"""Seconds from one time to the next at which something happens."""

NOTHING = object()
"""The result of an interrupted wait."""


async def by_wait_for(wait, delay):
    return await asyncio.wait_for(wait(), delay)


async def by_timeout(wait, delay):
    async with asyncio.timeout(delay):
        return await wait()


async def by_cancel(wait, delay, times=1):
    task = asyncio.ensure_future(wait())
    for _ in range(times):
        asyncio.get_running_loop().call_later(delay, task.cancel)
    await asyncio.wait([task])
    return task.result()


async def by_two_cancels(wait, delay):
    return await by_cancel(wait, delay, 2)


async def by_cancel_before_the_wakeup(wait, delay):
    """Cancelled a turn before its first step, or in the turn in which something else happens at that time."""
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(delay - GRID)
    if delay == GRID:
        task.cancel()
    else:
        asyncio.get_running_loop().call_later(GRID, asyncio.get_running_loop().call_soon, task.cancel)
    await asyncio.wait([task])
    return task.result()


async def by_nothing(wait, delay):
    return await wait()


WAYS = [by_wait_for, by_timeout, by_cancel, by_two_cancels, by_cancel_before_the_wakeup, by_nothing]
delays = st.integers(1, 6).map(lambda steps: steps * GRID)
interruptions = st.tuples(st.sampled_from(WAYS), delays)


async def interrupted(wait, interruption):
    """Wait by `wait()`, interrupted in some way; NOTHING if that came first."""
    way, delay = interruption
    try:
        return await way(wait, delay)
    except (TimeoutError, asyncio.CancelledError):
        return NOTHING


def play(main, seed=None):
    with asyncio.Runner(loop_factory=lambda: hwloop.SimLoop(seed=seed)) as runner:
        return runner.run(main)


quickly = settings(
    max_examples=50, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
seeds = st.none() | st.integers(0, 1000)


@quickly
@given(
    consumers=st.lists(st.lists(interruptions | delays, min_size=1, max_size=10), min_size=1, max_size=3),
    overrun=st.sampled_from(["skip", "catch-up", "delay"]),
    period=st.sampled_from([1, 2, 3]).map(lambda steps: steps * GRID),
    seed=seeds,
)
def test_ticks_delivered_and_missed_are_those_that_were_due(consumers, overrun, period, seed):
    async def consume(ticker, script, ticks):
        for part in script:
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif (tick := await interrupted(ticker.__anext__, part)) is not NOTHING:
                ticks.append(tick)

    async def main():
        loop = asyncio.get_running_loop()
        ticker = hwloop.every(period, overrun=overrun)
        ticks = []
        start = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await anext(ticker)  # which sets the grid, and takes nothing
        async with asyncio.TaskGroup() as group:
            for script in consumers:
                group.create_task(consume(ticker, script, ticks))
        last = await anext(ticker)
        ticks.append(last)
        ticks.sort()  # an interrupted wait may return its tick some time later
        assert last is ticks[-1]
        assert all(later.scheduled > earlier.scheduled for earlier, later in itertools.pairwise(ticks))
        if overrun == "delay":
            # The grid begins anew at a late tick, from which on none is skipped.
            assert not any(tick.missed for tick in ticks)
        else:
            due = round((last.scheduled - start) / period)
            assert len(ticks) + sum(tick.missed for tick in ticks) == due
        if overrun == "catch-up":
            assert not any(tick.missed for tick in ticks)

    play(main(), seed)


@quickly
@given(
    producers=st.lists(st.lists(interruptions | delays, max_size=6), min_size=1, max_size=3),
    consumers=st.lists(st.lists(interruptions | delays, max_size=6), min_size=1, max_size=3),
    maxsize=st.integers(0, 2),
    seed=seeds,
)
def test_items_that_went_in_came_out_or_are_queued(producers, consumers, maxsize, seed):
    numbers = itertools.count()

    async def produce(queue, script, sent):
        for part in script:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            number = next(numbers)

            async def put(number=number):
                await queue.put(number)
                sent.append(number)

            await interrupted(put, part if part[0] is not by_nothing else (by_timeout, part[1]))

    async def consume(queue, script, got):
        for part in script:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            item = await interrupted(queue.get, part if part[0] is not by_nothing else (by_timeout, part[1]))
            if item is not NOTHING:
                got.append(item)

    async def main():
        queue = hwloop.Queue(maxsize)
        sent, got = [], []
        async with asyncio.TaskGroup() as group:
            for script in producers:
                group.create_task(produce(queue, script, sent))
            for script in consumers:
                group.create_task(consume(queue, script, got))
        assert not queue._getters
        assert not queue._putters
        while not queue.empty():
            async with asyncio.timeout(GRID):
                got.append(await queue.get())
        assert sorted(got) == sorted(sent)

    play(main(), seed)


@quickly
@given(workers=st.lists(st.lists(st.tuples(interruptions, delays), max_size=5), min_size=1, max_size=4), seed=seeds)
def test_a_lock_is_held_by_one_and_free_in_the_end(workers, seed):
    async def work(lock, script, holders):
        for interruption, hold in script:
            if await interrupted(lock.acquire, interruption) is NOTHING:
                continue
            holders.append(1)
            assert len(holders) == 1
            await asyncio.sleep(hold)
            holders.pop()
            lock.release()

    async def main():
        lock = hwloop.Lock()
        holders = []
        async with asyncio.TaskGroup() as group:
            for number, script in enumerate(workers):
                with hwloop.scheduled(priority=hwloop.Priority(1 + number % 3)):
                    group.create_task(work(lock, script, holders))
        assert not lock.locked()
        assert not lock._waiters
        assert not asyncio.get_running_loop()._urgencies._overrides

    play(main(), seed)


@quickly
@given(
    waiters=st.lists(interruptions, min_size=1, max_size=6), sets=st.lists(delays, min_size=1, max_size=3), seed=seeds
)
def test_whoever_waits_when_an_event_is_set_is_woken(waiters, sets, seed):
    async def wait(event, interruption, woken):
        loop = asyncio.get_running_loop()
        _, delay = interruption
        began = loop.time()

        async def wait():
            assert await event.wait() is True
            return loop.time()

        result = await interrupted(wait, interruption)
        if result is NOTHING:
            # At that very time either may come first.
            assert all(not began < when < began + delay for when in woken), (woken, began, delay)
        else:
            assert result in woken

    async def main():
        event = hwloop.Event()
        woken = []
        async with asyncio.TaskGroup() as group:
            for interruption in waiters:
                group.create_task(wait(event, interruption, woken))
            for delay in sets:
                await asyncio.sleep(delay)
                woken.append(asyncio.get_running_loop().time())
                event.set()
                event.clear()
            await asyncio.sleep(10 * GRID)
            woken.append(asyncio.get_running_loop().time())
            event.set()
        assert not event._waiters

    play(main(), seed)


@quickly
@given(
    clients=st.lists(
        st.lists(st.tuples(st.integers(1, 3), interruptions) | delays, max_size=6), min_size=1, max_size=4
    ),
    rate=st.sampled_from([1, 2, 4, 0.7]),
    seed=seeds,
)
def test_a_token_is_spent_by_those_that_got_it(clients, rate, seed):
    async def ask(limiter, script, granted):
        loop = asyncio.get_running_loop()
        for part in script:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            tokens, interruption = part

            async def acquire(tokens=tokens):
                await limiter.acquire(tokens)
                granted.append((to_ns(loop.time()), tokens))

            await interrupted(acquire, interruption)

    async def main():
        limiter = hwloop.RateLimiter(rate, burst=3)
        granted = []
        async with asyncio.TaskGroup() as group:
            for script in clients:
                group.create_task(ask(limiter, script, granted))
        assert not limiter._waiters
        reference = TokenBucket(rate, burst=3)
        for when_ns, tokens in granted:
            assert reference.take(when_ns, tokens), "more was granted than there was"
        now_ns = to_ns(asyncio.get_running_loop().time())
        there = [next((n for n in (3, 2, 1) if bucket.take(now_ns, n)), 0) for bucket in (reference, limiter._bucket)]
        assert there[0] == there[1], "tokens were lost or made"

    play(main(), seed)


@quickly
@given(
    calls=st.lists(st.tuples(delays | st.just(0.0), interruptions), min_size=1, max_size=10),
    mode=st.sampled_from(["drop", "latest", "queue"]),
    seed=seeds,
)
def test_each_call_of_a_throttled_function_ran_or_was_dropped(calls, mode, seed):
    async def main():
        ran = []

        @hwloop.throttle(rate=1 / (2 * GRID), mode=mode, burst=2, queue_size=3)
        async def work(number):
            ran.append(number)
            return number

        async with asyncio.TaskGroup() as group:
            for number, (pause, interruption) in enumerate(calls):
                group.create_task(interrupted(lambda number=number: work(number), interruption))
                await asyncio.sleep(pause)
        seen = work.statistics()
        assert (seen.ran, seen.waiting) == (len(ran), 0)
        assert seen.calls == seen.ran + seen.dropped
        await asyncio.sleep(10)
        assert await work(-1) == -1  # it goes on

    play(main(), seed)


@pytest.mark.parametrize("budget", [1e-9, 1.0])
def test_items_of_sliced_are_not_lost_with_a_cancelled_wait(budget):
    async def main():
        items = hwloop.sliced(range(6), budget=budget)
        got = []
        while True:
            task = asyncio.ensure_future(items.__anext__())
            await asyncio.sleep(0)
            if len(got) % 2:
                task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                got.append(None)
            except StopAsyncIteration:
                break
        assert [item for item in got if item is not None] == list(range(6))

    asyncio.run(main())
    with asyncio.Runner(loop_factory=hwloop.new_event_loop) as runner:
        runner.run(main())


def test_a_tick_whose_wait_is_cancelled_in_the_turn_of_its_wakeup_is_there_for_the_next(leap):
    async def main():
        loop = asyncio.get_running_loop()
        start = loop.time()
        ticker = hwloop.every(0.01)
        task = asyncio.ensure_future(anext(ticker))
        await asyncio.sleep(0)
        loop.call_at(start + 0.02, task.cancel)
        loop.clock.time += 0.025  # one look finds the tick and the cancellation
        with pytest.raises(asyncio.CancelledError):
            await task
        tick = await anext(ticker)
        assert (round(tick.scheduled - start, 3), tick.missed) == (0.02, 1)

    leap(main())


def test_waits_that_a_closed_loop_leaves_behind_end_without_a_complaint(monkeypatch):
    """The coroutines of a closed loop's tasks are cleared away; what they wait for must not want the loop then."""
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    async def hold(lock):
        async with lock:
            await asyncio.Event().wait()

    async def main(tasks):
        limiter, lock = hwloop.RateLimiter(rate=0.001), hwloop.Lock()

        @hwloop.throttle(rate=0.001, mode="queue")
        async def throttled():
            pass

        await lock.acquire()
        for priority in (hwloop.Priority.LOW, hwloop.Priority.HIGH):
            for wait in (limiter.acquire, lock.acquire, throttled, hwloop.every(1).__anext__, hwloop.Event().wait):
                tasks.append(hwloop.create_task(wait(), priority=priority))
        await asyncio.sleep(0.01)

    loop = hwloop.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # asyncio's "Task was destroyed but it is pending"
    tasks = []
    loop.run_until_complete(main(tasks))
    loop.close()
    tasks.clear()
    gc.collect()
    assert not complaints
