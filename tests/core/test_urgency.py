"""Urgencies and priority inheritance: what is in force for a task, and when it ends; on a loop only for its tasks."""

from __future__ import annotations

import asyncio
import math
import types
from contextvars import Context
from typing import Any

import pytest

from hwloop.core.handles import Handle
from hwloop.core.inheritance import PriorityInheritance
from hwloop.core.urgency import (
    NORMAL,
    URGENCY,
    Change,
    Priority,
    Urgencies,
    Urgency,
    as_deadline,
    as_priority,
    served_tasks,
)

HIGH, LOW = Urgency(Priority.HIGH), Urgency(Priority.LOW)


class Queue:
    """A run queue that notes the tasks whose handles would move."""

    def __init__(self) -> None:
        self.moved: list[Any] = []

    def requeue(self, task: object) -> None:
        self.moved.append(task)


class Stage:
    def __init__(self) -> None:
        self.urgencies, self.queue = Urgencies(), Queue()
        self.inheritance = PriorityInheritance(self.urgencies, self.queue)  # type: ignore[arg-type]

    async def __aenter__(self) -> Stage:
        self.blocked = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.wait())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.blocked.set_result(None)
        await self.task

    async def wait(self) -> None:
        await self.blocked


def handle(urgency: Urgency = NORMAL) -> Handle:
    context = Context()
    context.run(URGENCY.set, urgency)
    return Handle(print, (), None, context)


def test_until_a_program_asks_for_urgency_every_handle_is_normal() -> None:
    urgencies = Urgencies()
    assert urgencies.of(handle(HIGH)) is NORMAL
    urgencies.in_use = True
    assert urgencies.of(handle(HIGH)) == HIGH
    assert urgencies.of(Handle(print, (), None, None)) == NORMAL  # type: ignore[arg-type]


def test_two_changes_count_as_one() -> None:
    change = Change(None, 0.5).over(Change(Priority.HIGH, 2.0))
    assert change.applied(LOW) == (Priority.HIGH, 0.5)
    assert Change(None, 0.5).over(None).applied(LOW) == (Priority.LOW, 0.5)


def test_a_lent_urgency_is_in_force_until_it_is_taken_back() -> None:
    async def main() -> None:
        async with Stage() as stage:
            first, second = object(), object()
            stage.inheritance.lend(first, stage.task, Urgency(Priority.HIGH))
            stage.inheritance.lend(second, stage.task, Urgency(Priority.INTERRUPT))
            assert stage.inheritance.in_force(stage.task, LOW).priority is Priority.INTERRUPT
            stage.inheritance.lend(second, stage.task, None)
            assert stage.inheritance.in_force(stage.task, LOW).priority is Priority.HIGH
            stage.inheritance.lend(first, stage.task, None)
            assert stage.inheritance.in_force(stage.task, LOW) == LOW
            assert stage.urgencies.existing(stage.task) is None
            assert stage.queue.moved == [stage.task] * 4

    asyncio.run(main())


def test_lending_the_same_again_moves_nothing() -> None:
    async def main() -> None:
        async with Stage() as stage:
            stage.inheritance.lend(stage, stage.task, HIGH)
            stage.inheritance.lend(stage, stage.task, HIGH)
            stage.inheritance.lend("another", stage.task, None)
            assert stage.queue.moved == [stage.task]

    asyncio.run(main())


def test_a_less_urgent_loan_does_not_lower_a_task() -> None:
    async def main() -> None:
        async with Stage() as stage:
            stage.inheritance.lend(stage, stage.task, LOW)
            assert stage.inheritance.in_force(stage.task, HIGH) == HIGH

    asyncio.run(main())


def test_a_watcher_is_called_at_each_change_from_outside_until_it_is_removed() -> None:
    async def main() -> None:
        async with Stage() as stage:
            seen: list[str] = []
            stage.inheritance.watch(stage.task, lambda: seen.append("changed"))
            stage.inheritance.reschedule(stage.task, Priority.LOW, None)
            stage.inheritance.lend(stage, stage.task, HIGH)
            stage.inheritance.watch(stage.task, None)
            stage.inheritance.lend(stage, stage.task, None)
            assert seen == ["changed"] * 2

    asyncio.run(main())


def test_a_change_is_written_into_the_context_of_the_next_handle_that_steps_the_task() -> None:
    async def main() -> None:
        async with Stage() as stage:
            stage.inheritance.reschedule(stage.task, Priority.HIGH, None)
            context = Context()
            other = Handle(stage.task.cancel, (), None, context)  # a method that programs call: no step
            assert stage.urgencies.of(other) == HIGH
            assert URGENCY not in context

            step = Handle(types.MethodType(step_of, stage.task), (), None, context)
            assert stage.urgencies.of(step) == HIGH
            assert context[URGENCY] == HIGH
            assert stage.urgencies.existing(stage.task) is None

    def step_of(task: object) -> None: ...

    asyncio.run(main())


def test_the_running_tasks_own_change_is_in_force_at_once() -> None:
    async def main() -> None:
        stage = Stage()
        task = asyncio.current_task()
        assert task is not None
        stage.inheritance.reschedule(task, Priority.HIGH, 0.5)
        assert URGENCY.get() == (Priority.HIGH, 0.5)
        assert stage.queue.moved == []

    asyncio.run(main())


@pytest.mark.parametrize(("own", "demoted"), [(HIGH, Priority.NORMAL), (LOW, Priority.LOW)])
def test_a_demoted_task_runs_one_priority_lower_but_not_below_low(own: Urgency, demoted: Priority) -> None:
    async def main() -> None:
        stage = Stage()
        task = asyncio.create_task(asyncio.sleep(0))  # not begun: it waits for its turn only
        stage.inheritance.demote(task)
        assert stage.inheritance.in_force(task, own).priority is demoted
        assert stage.queue.moved == [task]
        await task
        await asyncio.sleep(0)
        assert stage.urgencies.existing(task) is None

    asyncio.run(main())


def test_a_task_that_waits_is_not_demoted() -> None:
    async def main() -> None:
        async with Stage() as stage:
            stage.inheritance.demote(stage.task)
            assert stage.urgencies.existing(stage.task) is None

    asyncio.run(main())


def test_a_callback_whose_attributes_raise_serves_no_task() -> None:
    class Hostile:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __call__(self) -> None: ...

    assert served_tasks(Handle(Hostile(), (), None, Context())) == []


def test_priorities_have_numbers_and_names() -> None:
    assert as_priority("high") is as_priority(1) is as_priority(Priority.HIGH) is Priority.HIGH
    for wrong in (True, 7, "urgent"):
        with pytest.raises(ValueError, match=r"use one of INTERRUPT \(0\), HIGH \(1\)"):
            as_priority(wrong)


def test_a_deadline_is_a_number_above_0() -> None:
    assert as_deadline(math.inf) == math.inf
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="more than 0"):
            as_deadline(wrong)
    for kind in ("1", True, None):
        with pytest.raises(TypeError, match="number of seconds"):
            as_deadline(kind)  # type: ignore[arg-type]
