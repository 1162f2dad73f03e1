"""The run queue: which queue a handle joins, and whether there is work; without a loop."""

from __future__ import annotations

import asyncio
import math
from contextvars import Context

import pytest

from hwloop.core.handles import Handle, TimerHandle, Watcher
from hwloop.core.loop_clock import LoopClock
from hwloop.core.priority_queues import AGEING, PriorityQueues
from hwloop.core.run_queue import RunQueue
from hwloop.core.urgency import URGENCY, Priority, Urgencies, Urgency


class Stage:
    """A run queue whose clock stands at 1 s, and what its priority queues report."""

    def __init__(self) -> None:
        self.now = 1.0
        self.missed: list[tuple[Handle, float]] = []
        self.found: list[object] = []
        self.urgencies = Urgencies()
        urgent = PriorityQueues(
            lambda handle, late: self.missed.append((handle, late)), lambda handle, now: self.found.append(handle)
        )
        self.queue = RunQueue(self.urgencies, LoopClock(lambda: self.now), urgent)

    def get_debug(self) -> bool:
        return False

    def handle(self, priority: Priority = Priority.NORMAL, deadline: float = math.inf) -> Handle:
        context = Context()
        if (priority, deadline) != (Priority.NORMAL, math.inf):
            context.run(URGENCY.set, Urgency(priority, deadline))
        return Handle(print, (), self, context)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.urgencies.in_use = True
    return stage


def test_an_empty_queue_has_no_work(stage: Stage) -> None:
    assert not stage.queue.has_work()
    assert len(stage.queue) == 0
    assert stage.queue.poll_after_batch is False


def test_ordinary_handles_join_the_fifo(stage: Stage) -> None:
    handles = [stage.handle() for _ in range(3)]
    for handle in handles:
        stage.queue.add(handle)
    assert list(stage.queue.ordinary) == handles
    assert stage.queue.has_work()


def test_a_program_that_asks_for_no_urgency_has_only_ordinary_handles(stage: Stage) -> None:
    stage.urgencies.in_use = False
    stage.queue.add(stage.handle(Priority.HIGH))
    assert len(stage.queue.ordinary) == 1


def test_a_handle_with_a_priority_or_a_deadline_joins_the_priority_queues(stage: Stage) -> None:
    later, sooner, high = stage.handle(deadline=0.5), stage.handle(deadline=0.1), stage.handle(Priority.HIGH)
    for handle in (later, sooner, high):
        stage.queue.add(handle)
    assert not stage.queue.ordinary
    assert stage.queue.has_work()
    assert [stage.queue.urgent.pick(1.0, False) for _ in range(3)] == [high, sooner, later]


def test_idle_handles_are_no_work(stage: Stage) -> None:
    idle = stage.handle(Priority.IDLE)
    stage.queue.add(idle)
    assert not stage.queue.has_work()
    assert len(stage.queue) == 1
    assert stage.queue.urgent.pop_idle(1.0) is idle


def test_a_deadline_counts_from_when_the_handle_is_queued(stage: Stage) -> None:
    handle = stage.handle(deadline=0.5)
    stage.queue.add(handle)  # at 1.0
    assert stage.queue.urgent.pick(1.75, False) is handle
    assert stage.missed == [(handle, 0.25)]


def test_a_found_watcher_joins_by_its_priority_and_its_deadline_counts_from_the_poll(stage: Stage) -> None:
    ordinary, urgent = Watcher(print, (), stage, Priority.NORMAL), Watcher(print, (), stage, Priority.HIGH, None, 0.5)
    urgent._when, stage.now = 1.0, 3.0
    stage.queue.add_ready(ordinary)
    stage.queue.add_ready(urgent)
    assert list(stage.queue.found) == [ordinary]
    assert stage.queue.urgent.pick(2.0, False) is urgent
    assert stage.missed == [(urgent, 0.5)]
    assert stage.found == [urgent]


def test_a_due_timer_joins_by_its_urgency_and_its_deadline_counts_from_its_time(stage: Stage) -> None:
    ordinary = TimerHandle(1.0, print, (), stage, Context())
    urgent = TimerHandle(1.0, print, (), stage, stage.handle(Priority.HIGH, 0.5)._context)
    stage.now = 9.0
    stage.queue.add_due([ordinary, urgent])
    assert list(stage.queue.found) == [ordinary]
    assert stage.queue.urgent.pick(1.75, False) is urgent
    assert stage.missed == [(urgent, 0.25)]


def test_calls_from_other_threads_are_queued_in_their_order_before_a_later_call(stage: Stage) -> None:
    sent = [stage.handle(), stage.handle(Priority.HIGH), stage.handle()]
    stage.queue.inbox.extend(sent)
    assert not stage.queue.has_work()  # the loop has to take them first
    last = stage.handle()
    stage.queue.add_deadline(Priority.NORMAL, math.inf, last)
    assert list(stage.queue.ordinary) == [sent[0], sent[2], last]
    assert stage.queue.urgent.pick(1.0, True) is sent[1]
    assert not stage.queue.inbox


def test_an_inbox_that_another_thread_empties_meanwhile_raises_nothing(stage: Stage) -> None:
    class Emptied:
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> object:
            raise IndexError

    stage.queue.inbox = Emptied()  # type: ignore[assignment]
    stage.queue.take_inbox()


@pytest.mark.parametrize("debug", [False, True])
def test_a_rescheduled_tasks_handles_move_and_leave_skipped_entries(stage: Stage, debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        URGENCY.set(Urgency(Priority.NORMAL))
        task = loop.create_task(asyncio.sleep(0))
        about = Handle(task.cancel, (), loop, stage.handle()._context)
        before, after = stage.handle(), stage.handle()
        for handle in (before, about, after):
            stage.queue.add(handle)
        stage.urgencies.override(task).lent[stage] = Urgency(Priority.HIGH)
        stage.queue.requeue(task)
        assert list(stage.queue.ordinary)[::2] == [before, after]
        skipped = stage.queue.ordinary[1]
        assert skipped.cancelled()
        assert not skipped._context  # it keeps nothing of the program alive
        assert stage.queue.urgent.pick(1.0, True) is about
        await task

    asyncio.run(main())


def test_clearing_drops_everything(stage: Stage) -> None:
    for priority in Priority:
        stage.queue.add(stage.handle(priority))
    stage.queue.found.append(stage.handle())
    stage.queue.inbox.append(stage.handle())
    assert len(stage.queue) == len(Priority) + 1  # the inbox is not counted
    stage.queue.clear()
    assert not stage.queue.has_work()
    assert len(stage.queue) == 0
    assert not stage.queue.inbox


def test_a_batch_ends_with_the_entries_that_were_queued_when_it_began(stage: Stage) -> None:
    urgent = stage.queue.urgent
    old = [stage.handle(Priority.HIGH) for _ in range(2)]
    for handle in old:
        urgent.push(Priority.HIGH, math.inf, handle)
    urgent.begin_batch()
    urgent.push(Priority.INTERRUPT, math.inf, stage.handle())
    assert urgent.old == 2
    assert [urgent.pop_old(1.0, False) for _ in range(3)] == [*old, None]
    assert urgent.old == 0
    assert len(urgent) == 1


def test_a_rank_that_was_passed_over_often_enough_goes_next(stage: Stage) -> None:
    urgent, low = stage.queue.urgent, stage.handle(Priority.LOW)
    urgent.push(Priority.LOW, math.inf, low)
    for _ in range(2 * AGEING):
        urgent.push(Priority.HIGH, math.inf, stage.handle())
    picked = [urgent.pick(1.0, False) for _ in range(AGEING + 1)]
    assert picked.index(low) == AGEING


def test_a_cancelled_entry_does_not_use_up_a_turn(stage: Stage) -> None:
    urgent = stage.queue.urgent
    handles = [stage.handle() for _ in range(3)]
    for handle in handles:
        urgent.push(Priority.HIGH, math.inf, handle)
    handles[0].cancel()
    assert [urgent.pick(1.0, False) for _ in range(2)] == handles[1:]
