"""hwloop.Lock, Queue and Event: the most urgent waiter first, on every loop, and nothing lost when one is cancelled."""

from __future__ import annotations

import asyncio

import pytest

import hwloop
from hwloop import Priority

ORDER = (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.LOW, Priority.HIGH)
URGENT_FIRST = ["HIGH 2", "HIGH 4", "NORMAL 1", "LOW 0", "LOW 3"]


async def start(function, lines):
    """A task of each priority in turn that runs `function(name)`; returned when all of them wait in `lines`."""
    tasks = []
    for number, priority in enumerate(ORDER):
        tasks.append(hwloop.create_task(function(f"{priority.name} {number}"), priority=priority))
        while len(lines) <= number:
            await asyncio.sleep(0)
    return tasks


def test_a_lock_goes_to_the_most_urgent_waiter(run):
    async def main():
        lock, trace = hwloop.Lock(), []

        async def worker(name):
            async with lock:
                trace.append(name)
                await asyncio.sleep(0)

        async with lock:
            tasks = await start(worker, lock._waiters)
        await asyncio.gather(*tasks)
        assert trace == URGENT_FIRST
        assert not lock.locked()

    run(main())


def test_within_a_priority_it_goes_to_the_earliest_deadline(run):
    async def main():
        lock, trace = hwloop.Lock(), []

        async def worker(deadline):
            async with lock:
                trace.append(deadline)

        async with lock:
            tasks = [hwloop.create_task(worker(deadline), deadline=deadline) for deadline in (0.3, 0.1, 0.2)]
            tasks.append(asyncio.create_task(worker(None)))
            while len(lock._waiters) < 4:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert trace == [0.1, 0.2, 0.3, None]

    run(main())


def test_items_of_a_queue_go_to_the_most_urgent_getter(run):
    async def main():
        queue, trace = hwloop.Queue(), []

        async def worker(name):
            trace.append((name, await queue.get()))

        tasks = await start(worker, queue._getters)
        for item in range(5):
            queue.put_nowait(item)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert sorted(trace, key=lambda pair: pair[1]) == list(zip(URGENT_FIRST, range(5), strict=True))

    run(main())


def test_room_in_a_queue_goes_to_the_most_urgent_putter(run):
    async def main():
        queue = hwloop.Queue(maxsize=1)
        queue.put_nowait("first")
        tasks = await start(queue.put, queue._putters)
        got = [await queue.get() for _ in range(6)]
        await asyncio.gather(*tasks)
        assert got == ["first", *URGENT_FIRST]

    run(main())


def test_an_event_wakes_the_most_urgent_first(run):
    async def main():
        event, trace = hwloop.Event(), []

        async def worker(name):
            await event.wait()
            trace.append(name)

        tasks = await start(worker, event._waiters)
        event.set()
        await asyncio.gather(*tasks)
        assert trace == URGENT_FIRST

    run(main())


def test_they_are_asyncios_own_and_serve_where_those_do(run):
    async def main():
        condition = asyncio.Condition(hwloop.Lock())
        async with condition:
            condition.notify_all()
        assert isinstance(condition._lock, asyncio.Lock)
        queue: hwloop.Queue[int] = hwloop.Queue(2)
        assert (queue.maxsize, queue.qsize(), queue.empty(), queue.full()) == (2, 0, True, False)
        queue.put_nowait(1)
        await queue.put(2)
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(3)
        assert (queue.get_nowait(), await queue.get()) == (1, 2)
        with pytest.raises(asyncio.QueueEmpty):
            queue.get_nowait()
        queue.task_done()
        queue.task_done()
        await queue.join()
        assert isinstance(queue, asyncio.Queue)
        assert isinstance(hwloop.Event(), asyncio.Event)

    run(main())


def test_releasing_a_free_lock_raises(run):
    async def main():
        with pytest.raises(RuntimeError, match="not acquired"):
            hwloop.Lock().release()

    run(main())


def test_a_released_lock_is_held_by_the_next_at_once(run):
    async def main():
        lock = hwloop.Lock()
        await lock.acquire()
        waiter = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        lock.release()
        assert lock.locked()
        await waiter
        lock.release()
        assert not lock.locked()

    run(main())


def test_a_lock_given_to_a_task_that_is_cancelled_meanwhile_goes_on_to_the_next(run):
    async def main():
        lock = hwloop.Lock()
        await lock.acquire()
        waiters = [asyncio.create_task(lock.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        lock.release()
        waiters[0].cancel()
        await asyncio.wait(waiters)
        assert [waiter.cancelled() for waiter in waiters] == [True, True, False]
        lock.release()
        assert not lock.locked()

    run(main())


def test_a_waiter_cancelled_while_it_waits_leaves_the_line(run):
    async def main():
        lock = hwloop.Lock()
        async with lock:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.acquire(), 0.001)
            assert not lock._waiters
            assert "locked" in repr(lock)
        assert not lock.locked()

    run(main())


def test_an_item_whose_getter_is_cancelled_meanwhile_goes_to_the_next(run):
    async def main():
        queue = hwloop.Queue()
        getters = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.put_nowait("item")
        getters[0].cancel()
        assert await getters[1] == "item"
        assert getters[0].cancelled()

    run(main())


def test_a_lock_without_urgent_tasks_asks_the_loop_to_heed_nothing():
    async def main():
        lock = hwloop.Lock()
        async with lock:
            waiter = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0)
        await waiter
        loop = asyncio.get_running_loop()
        assert not loop._urgencies.in_use
        assert not loop._urgencies._overrides

    hwloop.run(main())
