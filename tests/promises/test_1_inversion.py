"""Promise 1 where tasks wait for each other: ordinary work does not keep a HIGH task waiting for a LOW one."""

from __future__ import annotations

import asyncio

import pytest

import hwloop
from hwloop import Priority


def ran(stage):
    return [name for name in stage.trace if name != "look"]


async def hold(stage, lock, name, count=3):
    """Take a lock, work in `count` steps, release it, rest for a step."""
    async with lock:
        for number in range(count):
            stage.trace.append(f"{name}{number}")
            await asyncio.sleep(0)
    stage.trace.append(f"{name} released")
    await asyncio.sleep(0)
    stage.trace.append(f"{name} after")


async def steps(stage, name, count):
    for _ in range(count):
        stage.trace.append(name)
        await asyncio.sleep(0)


async def hog(stage, end):
    while not end.is_set():
        stage.trace.append("hog")
        await asyncio.sleep(0)


def classic_inversion(stage, lock):
    """LOW holds, NORMAL hogs, HIGH waits. Returns what ran from when HIGH began to wait until it was done."""

    async def main():
        end = asyncio.Event()
        low = hwloop.create_task(hold(stage, lock, "low"), priority=Priority.LOW)
        while not lock.locked():
            await asyncio.sleep(0)
        hogs = asyncio.create_task(hog(stage, end))
        await asyncio.sleep(0)
        stage.trace.clear()
        high = hwloop.create_task(hold(stage, lock, "high", count=1), priority=Priority.HIGH)
        await high
        end.set()
        await asyncio.gather(low, hogs)

    stage.run_until_complete(main())
    trace = ran(stage)
    return trace[: trace.index("high after") + 1]


def test_a_high_task_that_waits_for_a_low_holder_lends_it_its_priority(stage):
    trace = classic_inversion(stage, hwloop.Lock())
    assert trace == ["low1", "low2", "low released", "high0", "high released", "high after"]


def test_without_that_ordinary_work_comes_between(stage):
    assert classic_inversion(stage, asyncio.Lock()).count("hog") > 10


def test_lent_urgency_ends_with_the_release(stage):
    lock = hwloop.Lock()
    classic_inversion(stage, lock)
    trace = ran(stage)
    assert "hog" in trace[trace.index("high after") : trace.index("low after")]
    assert not stage._urgencies._overrides


def test_it_passes_on_through_a_chain_of_locks(stage):
    first, second = hwloop.Lock(), hwloop.Lock()

    async def middle():
        async with first:
            await hold(stage, second, "middle", count=1)

    async def main():
        end = asyncio.Event()
        low = hwloop.create_task(hold(stage, second, "low"), priority=Priority.LOW)
        between = hwloop.create_task(middle(), priority=Priority.LOW)
        while not (first.locked() and second.locked()):
            await asyncio.sleep(0)
        hogs = asyncio.create_task(hog(stage, end))
        await asyncio.sleep(0)
        stage.trace.clear()
        await hwloop.create_task(hold(stage, first, "high", count=1), priority=Priority.HIGH)
        end.set()
        await asyncio.gather(low, between, hogs)

    stage.run_until_complete(main())
    trace = ran(stage)
    assert trace[:7] == ["low1", "low2", "low released", "middle0", "middle released", "middle after", "high0"]
    assert not stage._urgencies._overrides


def test_it_reaches_the_timer_that_the_holder_sleeps_on(stage):
    lock = hwloop.Lock()

    async def low():
        async with lock:
            await asyncio.sleep(0.001)
        stage.trace.append("low released")

    async def main():
        end = asyncio.Event()
        holder = hwloop.create_task(low(), priority=Priority.LOW)
        while not lock.locked():
            await asyncio.sleep(0)
        hogs = asyncio.create_task(hog(stage, end))
        high = hwloop.create_task(hold(stage, lock, "high", count=0), priority=Priority.HIGH)
        await asyncio.sleep(0)
        stage.clock += 0.002
        stage.trace.clear()
        await high
        end.set()
        await asyncio.gather(holder, hogs)

    stage.run_until_complete(main())
    assert ran(stage)[:2] == ["low released", "high released"]


def test_a_waiter_that_is_made_urgent_lends_that_too(stage):
    lock = hwloop.Lock()

    async def main():
        end = asyncio.Event()
        low = hwloop.create_task(hold(stage, lock, "low"), priority=Priority.LOW)
        while not lock.locked():
            await asyncio.sleep(0)
        waiter = hwloop.create_task(hold(stage, lock, "waiter", count=1), priority=Priority.LOW)
        for _ in range(30):
            if lock._waiters:
                break
            await asyncio.sleep(0)
        hogs = asyncio.create_task(hog(stage, end))
        await asyncio.sleep(0)
        stage.trace.clear()
        hwloop.reschedule(waiter, priority=Priority.HIGH)
        await waiter
        end.set()
        await asyncio.gather(low, hogs)

    stage.run_until_complete(main())
    trace = ran(stage)
    assert "hog" not in trace[: trace.index("waiter released")]


def test_a_waiter_that_gives_up_takes_its_loan_along(stage):
    lock = hwloop.Lock()

    async def holder(end):
        async with lock:
            while not end.is_set():
                stage.trace.append("low")
                await asyncio.sleep(0)

    async def main():
        end = asyncio.Event()
        low = hwloop.create_task(holder(end), priority=Priority.LOW)
        while not lock.locked():
            await asyncio.sleep(0)
        high = hwloop.create_task(lock.acquire(), priority=Priority.HIGH)
        while not lock._waiters:
            await asyncio.sleep(0)
        high.cancel()
        with pytest.raises(asyncio.CancelledError):
            await high
        assert not stage._urgencies._overrides
        stage.trace.clear()
        await steps(stage, "main", 20)
        end.set()
        await low

    stage.run_until_complete(main())
    assert ran(stage).count("low") <= 3


def test_the_next_holder_of_the_lock_is_lent_to_in_turn(stage):
    lock = hwloop.Lock()

    async def main():
        end = asyncio.Event()
        await lock.acquire()
        low = hwloop.create_task(hold(stage, lock, "low"), priority=Priority.LOW)
        while not lock._waiters:
            await asyncio.sleep(0)
        lock.release()
        while "low0" not in stage.trace:
            await asyncio.sleep(0)
        hogs = asyncio.create_task(hog(stage, end))
        await asyncio.sleep(0)
        stage.trace.clear()
        await hwloop.create_task(hold(stage, lock, "high", count=1), priority=Priority.HIGH)
        end.set()
        await asyncio.gather(low, hogs)

    stage.run_until_complete(main())
    assert ran(stage)[:4] == ["low1", "low2", "low released", "high0"]


def test_lending_no_more_than_the_holder_has_changes_no_order(stage):
    lock = hwloop.Lock()

    async def main():
        tasks = [hold(stage, lock, "holder", count=3), steps(stage, "a", 3), steps(stage, "b", 3)]
        waiter = hold(stage, lock, "waiter", count=1)
        await asyncio.gather(*tasks[:2], waiter, tasks[2])

    stage.run_until_complete(main())
    assert ran(stage)[:8] == ["holder0", "a", "b", "holder1", "a", "b", "holder2", "a"]


def test_tasks_that_wait_for_each_other_in_a_circle_end_no_differently_than_with_asyncio(stage):
    one, two = hwloop.Lock(), hwloop.Lock()

    async def both(first, second):
        async with first:
            while not second.locked():
                await asyncio.sleep(0)
            async with second:
                pass

    async def main():
        tasks = [
            hwloop.create_task(both(one, two), priority=Priority.HIGH),
            hwloop.create_task(both(two, one), priority=Priority.LOW),
        ]
        while not (one._waiters and two._waiters):
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks)

    stage.run_until_complete(main())
    assert not one.locked()
    assert not two.locked()
    assert not stage._urgencies._overrides


def test_a_task_cancelled_just_as_it_is_handed_the_lock_keeps_nothing_of_what_was_lent(stage):
    lock = hwloop.Lock()

    async def give_up():
        try:
            await lock.acquire()
        except asyncio.CancelledError:
            await steps(stage, "low", 2)

    async def main():
        await lock.acquire()
        low = hwloop.create_task(give_up(), priority=Priority.LOW)
        while not lock._waiters:
            await asyncio.sleep(0)
        lock.release()  # to the LOW task, which the HIGH one makes HIGH before it has run
        low.cancel()
        high = hwloop.create_task(hold(stage, lock, "high", count=0), priority=Priority.HIGH)
        await asyncio.gather(low, high, steps(stage, "plain", 2))

    stage.run_until_complete(main())
    trace = ran(stage)
    assert trace == ["low", "high released", "high after", "plain", "plain", "low"]
    assert not stage._urgencies._overrides
