"""Promise 2 where a task cooperates: checkpoints let go in time, and what does not let go is found and named."""

from __future__ import annotations

import asyncio
import logging
import math
import time

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.dispatch import SLICE
from hwloop.core.priority_queues import AGEING


def ran(stage):
    return [name for name in stage.trace if name != "look"]


async def compute(stage, name, steps, took):
    """Run `steps` steps of `took` slices each, with a checkpoint after each step."""
    for _ in range(steps):
        stage.trace.append(name)
        stage.clock += took * SLICE
        await hwloop.checkpoint()


def test_a_checkpoint_lets_go_once_the_slice_is_used_up_and_not_before(stage):
    async def main():
        await asyncio.gather(compute(stage, "a", 8, 0.3), compute(stage, "b", 8, 0.3))

    stage.run_until_complete(main())
    assert ran(stage) == [*["a"] * 4, *["b"] * 4] * 2


def test_between_two_looks_lies_one_slice_and_the_step_that_overran_it(stage):
    async def main():
        await compute(stage, "a", 12, 0.3)

    stage.run_until_complete(main())
    looks = "".join("|" if name == "look" else name for name in stage.trace)
    assert "aaaa|aaaa|aaaa" in looks


def test_a_step_that_begins_late_in_a_slice_lets_go_at_its_end(stage):
    async def main():
        stage.call_soon(stage.work("callback", took=SLICE * 0.5e6))
        computing = asyncio.create_task(compute(stage, "a", 4, 0.3))
        plain = asyncio.create_task(compute(stage, "b", 1, 0))
        await asyncio.gather(computing, plain)

    stage.run_until_complete(main())
    assert ran(stage) == ["callback", "a", "a", "b", "a", "a"]


def test_on_other_loops_a_checkpoint_lets_go_each_time():
    async def main():
        trace = []

        async def worker(name):
            for _ in range(2):
                trace.append(name)
                await hwloop.checkpoint()

        await asyncio.gather(worker("a"), worker("b"))
        return trace

    loop = asyncio.SelectorEventLoop()
    try:
        assert loop.run_until_complete(main()) == ["a", "b", "a", "b"]
    finally:
        loop.close()


def test_sliced_lets_go_whenever_the_budget_is_used_up(stage):
    async def worker(name):
        async for number in hwloop.sliced(range(6), budget=0.001):
            stage.trace.append(f"{name}{number}")
            stage.clock += 0.0004

    async def main():
        await asyncio.gather(worker("a"), worker("b"))

    stage.run_until_complete(main())
    assert ran(stage) == ["a0", "a1", "a2", "b0", "b1", "b2", "a3", "a4", "a5", "b3", "b4", "b5"]


def test_a_body_that_waits_has_its_whole_budget_again(stage):
    async def worker():
        async for number in hwloop.sliced(range(3), budget=0.001):
            stage.trace.append(f"item {number}")
            stage.clock += 0.0006
            if number == 0:
                await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(worker())
        while not task.done():
            stage.trace.append("turn")
            await asyncio.sleep(0)

    stage.run_until_complete(main())
    assert ran(stage) == ["turn", "item 0", "turn", "item 1", "item 2", "turn"]


def test_sliced_gives_all_items_in_order_on_every_loop(run):
    async def main():
        return [item async for item in hwloop.sliced("abcdef", budget=1e-9)]

    assert run(main()) == list("abcdef")


def test_on_other_loops_sliced_counts_from_when_it_let_go():
    class Clocked(asyncio.SelectorEventLoop):
        clock = 1.0

        def time(self):
            return self.clock

    async def worker(name):
        async for number in hwloop.sliced(range(4), budget=0.001):
            trace.append(f"{name}{number}")
            loop.clock += 0.0006

    async def main():
        await asyncio.gather(worker("a"), worker("b"))

    trace = []
    loop = Clocked()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert trace == ["a0", "a1", "b0", "b1", "a2", "a3", "b2", "b3"]


@pytest.mark.parametrize("budget", [0, -1, math.nan])
def test_an_invalid_budget_raises(budget):
    with pytest.raises(ValueError, match="budget"):
        hwloop.sliced([], budget=budget)


def test_a_slow_callback_is_counted_and_reported_once_with_the_line_at_which_it_waits_now(stage, caplog):
    async def stubborn():
        for _ in range(2):
            stage.clock += 0.06
            await asyncio.sleep(0)

    stage.watch_slices(0.05)
    with caplog.at_level(logging.WARNING, "hwloop"):
        stage.run_until_complete(stubborn())
    (record,) = caplog.records
    line = stubborn.__code__.co_firstlineno
    assert record.getMessage() == (
        f"stubborn (test_2_slices.py:{line}) blocked the loop for 59.9 ms, now waiting at "
        f"test_2_slices.py:{line + 3} in {stubborn.__qualname__} (reported once)"
    )
    (overruns,) = stage.statistics().overruns.values()
    assert overruns.count == 2
    assert overruns.worst == pytest.approx(0.06, abs=2 * SLICE)


def test_a_callback_is_named_and_what_stays_below_the_limit_is_not(stage):
    told = []
    stage.watch_slices(0.05, handler=lambda loop, overrun: told.append(overrun))
    stage.call_soon(stage.work("long", took=80_000))
    stage.call_soon(stage.work("short", took=40_000))
    stage.play()
    (overrun,) = told
    assert (overrun.name, overrun.count, overrun.task, overrun.where) == ("Stage.work.<locals>.callback", 1, None, "")


def test_a_callback_that_cancels_itself_is_reported_all_the_same(stage, caplog):
    stage.watch_slices(0.05)
    handle = stage.call_soon(stage.work("long", took=80_000, then=lambda: handle.cancel()))
    stage.play()
    assert caplog.records[0].getMessage().startswith("a callback that has cancelled itself blocked the loop for ")


def test_nothing_is_reported_unless_asked_for(stage, caplog):
    stage.call_soon(stage.work("long", took=80_000))
    stage.play()
    stage.watch_slices(0.05)
    stage.watch_slices(None)
    stage.call_soon(stage.work("long", took=80_000))
    stage.play()
    assert not caplog.records
    assert not stage.statistics().overruns


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_an_invalid_limit_raises(stage, limit):
    with pytest.raises(ValueError, match="limit"):
        stage.watch_slices(limit)


def test_the_report_says_where_it_was_while_it_ran():
    told = []

    def blocking():
        give_up = time.monotonic() + 30
        while not loop._monitor.sampler.found() or time.monotonic() < began + 0.02:
            assert time.monotonic() < give_up
            time.sleep(0.001)

    async def main():
        nonlocal loop, began
        loop = asyncio.get_running_loop()
        loop.watch_slices(0.01, locate=True, handler=lambda loop, overrun: told.append(overrun))
        while not any("blocking" in one.where for one in told):  # a busy machine may hold the step up elsewhere
            await asyncio.sleep(0)
            began = time.monotonic()
            blocking()
            await asyncio.sleep(0)

    loop, began = None, 0.0
    hwloop.run(main())
    (overrun,) = [one for one in told if "blocking" in one.where]
    assert "in test_the_report_says_where_it_was_while_it_ran.<locals>.blocking, called from" in overrun.where
    assert "main" in overrun.where


async def greedy(stage, name, count):
    """Steps of 60 ms that wait for nothing but their next turn."""
    for _ in range(count):
        stage.trace.append(name)
        stage.clock += 0.06
        await asyncio.sleep(0)


async def modest(stage, name, count):
    for _ in range(count):
        stage.trace.append(name)
        await asyncio.sleep(0)


def test_a_task_that_overran_its_slice_runs_a_band_lower_where_that_is_asked_for(stage):
    async def main():
        await asyncio.gather(greedy(stage, "greedy", 2), modest(stage, "modest", 30))

    stage.watch_slices(0.05, demote=True, handler=lambda loop, overrun: None)
    stage.run_until_complete(main())
    trace = ran(stage)
    assert trace[:AGEING].count("greedy") == 1
    assert trace.count("greedy") == 2
    assert not stage._urgencies._overrides


def test_its_demotion_ends_when_it_rests(stage):
    async def rests():
        await greedy(stage, "greedy", 1)
        stage.trace.append("lower")
        await asyncio.sleep(0.001)
        await modest(stage, "rested", 2)

    async def main():
        task = asyncio.create_task(rests())
        await modest(stage, "modest", 12)
        assert "lower" in stage.trace
        stage.clock += 0.002
        await modest(stage, "again", 12)
        await task

    stage.watch_slices(0.05, demote=True, handler=lambda loop, overrun: None)
    stage.run_until_complete(main())
    trace = ran(stage)
    assert trace.index("lower") >= AGEING
    assert trace.index("lower") < trace.index("again")
    assert trace[-8:].count("rested") == 0  # both came early, in turn with ordinary work
    assert not stage._urgencies._overrides


def test_a_demoted_task_that_ends_is_forgotten(stage):
    stage.watch_slices(0.05, demote=True, handler=lambda loop, overrun: None)
    task = stage.create_task(greedy(stage, "greedy", 2))
    stage.play()
    assert task.done()
    assert not stage._urgencies._overrides


def test_a_low_task_is_not_made_idle(stage):
    async def main():
        hwloop.reschedule(asyncio.current_task(), priority=Priority.LOW)
        await greedy(stage, "greedy", 2)

    plain = stage.create_task(modest(stage, "modest", 100))
    stage.watch_slices(0.05, demote=True, handler=lambda loop, overrun: None)
    stage.run_until_complete(main())
    assert stage.trace.count("modest") < 100
    plain.cancel()
    stage.play()


def test_the_time_of_each_task_is_taken_where_that_is_asked_for(stage):
    async def main():
        hwloop.reschedule(asyncio.current_task(), priority=Priority.HIGH)
        await asyncio.gather(
            asyncio.create_task(greedy(stage, "a", 2), name="pump"), asyncio.create_task(greedy(stage, "b", 1))
        )

    stage.run_until_complete(main())
    assert stage.statistics().tasks == {}
    stage.measure_tasks()
    stage.call_soon(stage.work("no task", took=100))
    stage.run_until_complete(main())
    tasks = stage.statistics().tasks
    assert (tasks["pump"].count, tasks["greedy"].count) == (3, 2)
    assert tasks["pump"].total == pytest.approx(0.12)
    assert tasks["pump"].worst == pytest.approx(0.06)
    assert not any("work" in name for name in tasks)


def test_taking_the_time_is_not_debug_mode(stage, caplog):
    stage.measure_tasks()
    stage.call_soon(stage.work("long", took=200_000))
    stage.play()
    assert not caplog.records
