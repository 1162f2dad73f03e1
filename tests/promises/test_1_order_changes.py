"""Promise 1 while it changes: a task rescheduled from outside is as urgent from then on as if it had always been."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.urgency import URGENCY


def ran(stage):
    return [name for name in stage.trace if name != "look"]


async def steps(stage, name, count):
    for number in range(count):
        stage.trace.append(f"{name}{number}")
        await asyncio.sleep(0)


def test_a_ready_task_that_is_made_urgent_goes_before_those_that_came_first(stage):
    async def main():
        tasks = [asyncio.create_task(steps(stage, name, 2)) for name in "abc"]
        hwloop.reschedule(tasks[2], priority=Priority.HIGH)
        await asyncio.gather(*tasks)

    stage.run_until_complete(main())
    assert ran(stage) == ["c0", "c1", "a0", "b0", "a1", "b1"]


def test_a_ready_task_that_is_made_less_urgent_lets_the_others_go_first(stage):
    async def main():
        high = [hwloop.create_task(steps(stage, name, 1), priority=Priority.HIGH) for name in "ab"]
        plain = asyncio.create_task(steps(stage, "plain", 1))
        hwloop.reschedule(high[0], priority=Priority.LOW)
        await asyncio.gather(*high, plain)

    stage.run_until_complete(main())
    assert ran(stage) == ["b0", "plain0", "a0"]


def test_a_waiting_task_is_woken_as_urgently_as_it_was_made(stage):
    async def waiter(name, event):
        await event.wait()
        await steps(stage, name, 2)

    async def main():
        event = asyncio.Event()
        tasks = [asyncio.create_task(waiter(name, event)) for name in "abc"]
        await asyncio.sleep(0)
        hwloop.reschedule(tasks[1], priority=Priority.HIGH)
        event.set()
        await asyncio.gather(*tasks)

    stage.run_until_complete(main())
    assert ran(stage) == ["b0", "b1", "a0", "c0", "a1", "c1"]


def test_a_sleeping_task_is_woken_by_a_timer_as_urgent_as_it_was_made(stage):
    async def sleeper():
        await asyncio.sleep(0.001)
        stage.trace.append("awake")

    async def main():
        task = hwloop.create_task(sleeper(), priority=Priority.LOW)
        while stage.clock == 1.0 and len(ran(stage)) < 20:
            await asyncio.sleep(0)  # until LOW has had its turn
            stage.trace.append("turn")
        stage.trace.clear()
        hwloop.reschedule(task, priority=Priority.HIGH)
        stage.clock += 0.002
        await steps(stage, "busy", 3)
        await task

    stage.run_until_complete(main())
    assert ran(stage) == ["busy0", "awake", "busy1", "busy2"]


def test_a_running_task_can_change_itself(stage):
    async def main():
        other = asyncio.create_task(steps(stage, "other", 2))
        hwloop.reschedule(asyncio.current_task(), priority=Priority.LOW)
        await asyncio.sleep(0)
        stage.trace.append("main")
        await other

    stage.run_until_complete(main())
    assert ran(stage) == ["other0", "other1", "main"]


def test_children_copy_the_urgency_of_the_moment_and_go_their_own_ways(stage):
    seen = {}

    async def child(name, gate):
        await gate.wait()
        seen[name] = URGENCY.get()

    async def parent(gate, again):
        before = asyncio.create_task(child("born before", gate))
        await again.wait()
        after = asyncio.create_task(child("born after", gate))
        hwloop.reschedule(after, deadline=0.5)
        await asyncio.gather(before, after)
        seen["parent"] = URGENCY.get()

    async def main():
        gate, again = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(parent(gate, again))
        await asyncio.sleep(0)
        hwloop.reschedule(task, priority=Priority.HIGH)
        again.set()
        await asyncio.sleep(0)
        gate.set()
        await task

    stage.run_until_complete(main())
    assert seen == {
        "born before": (Priority.NORMAL, math.inf),
        "born after": (Priority.HIGH, 0.5),
        "parent": (Priority.HIGH, math.inf),
    }


def test_two_changes_before_the_task_runs_both_count(stage):
    async def waiter(event):
        await event.wait()
        return URGENCY.get()

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(waiter(event))
        await asyncio.sleep(0)
        hwloop.reschedule(task, priority=Priority.HIGH)
        hwloop.reschedule(task, deadline=0.25)
        event.set()
        return await task

    assert stage.run_until_complete(main()) == (Priority.HIGH, 0.25)
    assert not stage._urgencies._overrides


def test_a_change_from_outside_outlives_the_block_it_fell_into(stage):
    async def worker(gate):
        with hwloop.scheduled(priority=Priority.HIGH), hwloop.scheduled(deadline=0.1):
            await gate.wait()
        return URGENCY.get()

    async def main():
        gate = asyncio.Event()
        task = asyncio.create_task(worker(gate))
        await asyncio.sleep(0)
        hwloop.reschedule(task, priority=Priority.LOW)
        gate.set()
        return await task

    assert stage.run_until_complete(main()) == (Priority.LOW, 0.1)


def test_blocks_in_blocks_restore_what_was_before_each(stage):
    async def main():
        seen = []
        with hwloop.scheduled(priority=Priority.HIGH):
            with hwloop.scheduled(priority=Priority.HIGH):
                pass
            seen.append(URGENCY.get().priority)
        seen.append(URGENCY.get().priority)
        return seen

    assert stage.run_until_complete(main()) == [Priority.HIGH, Priority.NORMAL]


def test_a_callback_that_only_cancels_the_task_keeps_its_own_urgency(stage):
    async def main():
        urgencies = []
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        hwloop.reschedule(task, priority=Priority.HIGH)
        stage.call_soon(task.cancel)
        stage.call_soon(lambda: urgencies.append(URGENCY.get()))
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return [*urgencies, URGENCY.get()]

    assert stage.run_until_complete(main()) == [(Priority.NORMAL, math.inf)] * 2


def test_a_task_that_shares_its_context_with_the_task_that_changes_and_wakes_it_is_as_urgent_as_it_was_made(stage):
    async def waiter(future):
        await future
        stage.trace.append("woken")

    async def main():
        context = contextvars.copy_context()
        future = stage.create_future()
        waiting = asyncio.create_task(waiter(future), context=context)

        async def changer():
            hwloop.reschedule(waiting, priority=Priority.HIGH)
            future.set_result(None)  # while the context that they share is entered

        await asyncio.sleep(0)
        changing = asyncio.create_task(changer(), context=context)
        await asyncio.gather(changing, asyncio.create_task(steps(stage, "plain", 1)), waiting)

    stage.run_until_complete(main())
    assert ran(stage) == ["woken", "plain0"]


def test_changing_a_task_that_has_ended_does_nothing(stage):
    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        hwloop.reschedule(task, priority=Priority.HIGH)

    stage.run_until_complete(main())
    assert not stage._urgencies._overrides


@pytest.mark.parametrize("change", [{"priority": 7}, {"deadline": 0}, {"deadline": math.nan}])
def test_an_unknown_urgency_raises_on_every_loop(run, change):
    async def main():
        with pytest.raises(ValueError, match=r"priority|deadline"):
            hwloop.reschedule(asyncio.current_task(), **change)

    run(main())
