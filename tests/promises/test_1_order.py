"""Promise 1: priority first; within a priority the earliest deadline; then first come, first served."""

from __future__ import annotations

import asyncio
import contextvars
import math

import pytest

import hwloop
from hwloop import Priority


def test_plain_callbacks_run_first_come_first_served(stage):
    for name in "abc":
        stage.call_soon(stage.work(name))
    assert stage.play() == ["a", "b", "c"]


def test_a_more_urgent_callback_overtakes_those_that_came_before_it(stage):
    stage.call_soon(stage.work("plain"))
    for priority in reversed(Priority):
        stage.call_soon_priority(priority, stage.work(priority.name))
    assert stage.play() == ["INTERRUPT", "HIGH", "plain", "NORMAL", "LOW", "IDLE"]


def test_urgent_work_scheduled_by_a_callback_goes_before_the_next_plain_one(stage):
    stage.call_soon(stage.work("a", then=lambda: stage.call_soon_priority(Priority.HIGH, stage.work("urgent"))))
    stage.call_soon(stage.work("b"))
    assert stage.play() == ["a", "urgent", "b"]


def test_within_a_priority_the_earliest_deadline_runs_first(stage):
    stage.call_deadline(1.3, stage.work("late"), priority=Priority.HIGH)
    stage.call_soon_priority(Priority.HIGH, stage.work("none"))
    stage.call_deadline(1.1, stage.work("early"), priority=Priority.HIGH)
    stage.call_deadline(1.2, stage.work("middle"), priority=Priority.HIGH)
    assert stage.play() == ["early", "middle", "late", "none"]


def test_equal_deadlines_run_first_come_first_served(stage):
    for name in "abc":
        stage.call_deadline(2.0, stage.work(name))
    assert stage.play() == ["a", "b", "c"]


def test_a_normal_callback_with_a_deadline_goes_before_plain_ones_and_after_high_ones(stage):
    stage.call_soon(stage.work("plain"))
    stage.call_deadline(2.0, stage.work("deadline"))
    stage.call_soon_priority(Priority.HIGH, stage.work("high"))
    assert stage.play() == ["high", "deadline", "plain"]


def test_a_deadline_without_end_is_none(stage):
    happen = stage.edge(stage.work("edge"))
    source = happen.__self__
    stage.unregister(source)
    source.deadline = math.inf
    stage.register(source)
    happen()
    stage.call_soon(stage.work("a"))
    stage.call_deadline(math.inf, stage.work("call_deadline"))
    stage.call_soon(stage.work("b"))
    assert stage.play() == ["a", "call_deadline", "b", "edge"]


def test_a_deadline_without_end_leaves_other_priorities_theirs(stage):
    stage.call_soon(stage.work("plain"))
    stage.call_deadline(math.inf, stage.work("high"), priority=Priority.HIGH)
    stage.call_deadline(math.inf, stage.work("low"), priority=Priority.LOW)
    assert stage.play() == ["high", "plain", "low"]


def test_callbacks_inherit_the_priority_of_the_callback_that_schedules_them(stage):
    stage.call_soon_priority(
        Priority.HIGH, stage.work("high", then=lambda: stage.call_soon(stage.work("its follower")))
    )
    stage.call_soon(stage.work("plain"))
    assert stage.play() == ["high", "its follower", "plain"]


def test_a_task_its_children_and_the_futures_that_wake_it_keep_its_priority(stage):
    async def parent(name):
        stage.trace.append(f"{name} began")
        await asyncio.sleep(0)
        stage.trace.append(f"{name} woke")
        await asyncio.create_task(child(name))

    async def child(name):
        stage.trace.append(f"{name}'s child")

    async def main():
        urgent = hwloop.create_task(parent("urgent"), priority=Priority.HIGH)
        await asyncio.gather(asyncio.create_task(parent("plain")), urgent)

    stage.run_until_complete(main())
    assert [name for name in stage.trace if name != "look"] == [
        "urgent began",
        "urgent woke",
        "urgent's child",
        "plain began",
        "plain woke",
        "plain's child",
    ]


def test_tasks_with_priorities_are_genuine_asyncio_tasks(stage):
    async def main():
        task = hwloop.create_task(asyncio.sleep(0), priority=Priority.LOW, name="low")
        assert type(task) is asyncio.Task
        assert task.get_name() == "low"
        await task

    stage.run_until_complete(main())


def test_scheduled_changes_the_rest_of_the_block_and_no_more(stage):
    async def worker(name, priority):
        with hwloop.scheduled(priority=priority):
            await asyncio.sleep(0)
            stage.trace.append(name)
        await asyncio.sleep(0)
        stage.trace.append(f"{name} after")

    async def main():
        await asyncio.gather(worker("low", Priority.LOW), worker("high", Priority.HIGH))

    stage.run_until_complete(main())
    assert [name for name in stage.trace if name != "look"] == ["high", "high after", "low", "low after"]


def test_a_timer_set_by_urgent_work_is_urgent_when_it_is_due(stage):
    stage.call_soon_priority(Priority.HIGH, lambda: stage.call_later(0.001, stage.work("urgent timer")))
    stage.call_later(0.0009, stage.work("plain timer"))
    stage.call_later(0.0005, stage.work("busy", took=1000))
    assert stage.play(5000) == ["busy", "urgent timer", "plain timer"]


def test_call_soon_from_threads_keeps_its_place_in_the_order(stage):
    stage.call_soon(stage.work("a"))
    stage.call_soon_threadsafe(stage.work("b"))
    stage.call_soon(stage.work("c"))
    stage.call_soon_threadsafe(stage.work("d"))
    assert stage.play() == ["a", "b", "c", "d"]


def test_a_call_from_a_thread_that_comes_in_a_wait_goes_before_what_the_wait_finds(stage):
    """asyncio's thread appends it to the queue at once, and the loop what it finds when the wait is over."""
    sent = []

    def send(found):
        if found and not sent:
            sent.append(stage.call_soon_threadsafe(stage.work("sent")))

    stage._selector.looked = send
    stage.edge(stage.work("edge"))()
    assert stage.play(100) == ["sent", "edge"]
    assert stage.trace[:3] == ["look", "sent", "edge"]


def test_a_context_given_by_the_caller_decides_the_priority(stage):
    context = contextvars.copy_context()
    stage.call_soon_priority(Priority.HIGH, lambda: contexts.append(contextvars.copy_context()))
    contexts: list[contextvars.Context] = []
    stage.play()
    stage.call_soon(stage.work("plain"), context=context)
    stage.call_soon(stage.work("high"), context=contexts[0])
    assert stage.play() == ["high", "plain"]


@pytest.mark.parametrize("priority", [1, "HIGH", "high", Priority.HIGH])
def test_a_priority_may_be_written_as_a_name_or_a_number(stage, priority):
    stage.call_soon(stage.work("plain"))
    stage.call_soon_priority(priority, stage.work("high"))
    assert stage.play() == ["high", "plain"]


@pytest.mark.parametrize("priority", [-1, 5, "URGENT", True, None])
def test_an_unknown_priority_raises_and_names_the_known_ones(stage, priority):
    with pytest.raises(ValueError, match="use one of INTERRUPT"):
        stage.call_soon_priority(priority, print)


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_a_deadline_that_is_not_a_time_raises(stage, deadline):
    with pytest.raises(ValueError, match="deadline"):
        stage.call_deadline(deadline, print)
