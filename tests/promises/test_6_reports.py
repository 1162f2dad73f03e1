"""Promise 6, the reports: each miss is counted under a name that a person knows, and passed to the handler, if set."""

from __future__ import annotations

import asyncio
import logging

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.counters import MOST_NAMES


async def control():
    await asyncio.sleep(0)


def late_tasks(stage, *names):
    """Let a task of each name wake 4 ms after its deadline, once."""

    async def main():
        for name in names:
            task = hwloop.create_task(control(), deadline=0.001, name=name)
            stage.clock += 0.005
            await task

    stage.run_until_complete(main())


def test_misses_are_counted_by_the_name_of_the_task(stage):
    late_tasks(stage, "pump", "valve", "pump")
    misses = stage.statistics().deadline_misses
    assert {name: one.count for name, one in misses.items()} == {"pump": 2, "valve": 1}
    assert misses["pump"].total == pytest.approx(0.008)
    assert misses["pump"].worst == pytest.approx(0.004)


def test_tasks_without_a_name_are_counted_by_their_coroutine(stage):
    late_tasks(stage, None, None)
    assert {name: one.count for name, one in stage.statistics().deadline_misses.items()} == {"control": 2}


def test_a_task_whose_sleep_ends_late_is_counted_by_its_name(stage):
    async def pump():
        await asyncio.sleep(0.001)

    async def main():
        task = hwloop.create_task(pump(), name="pump", deadline=1e-4)
        await asyncio.sleep(0)
        stage.clock += 0.05
        await task

    stage.run_until_complete(main())
    assert list(stage.statistics().deadline_misses) == ["pump"]


def test_misses_of_a_source_are_counted_by_its_name(stage):
    edge = stage.edge(stage.work("edge"))
    (source,) = stage.sources()
    stage.unregister(source)
    source.name, source.deadline = "limit switch", 0.001
    stage.register(source)
    edge()
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("first"))
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("second", took=3000))
    stage.play()
    assert stage.statistics().deadline_misses["limit switch"].count == 1


def test_a_source_with_a_deadline_goes_before_ordinary_work(stage):
    edge = stage.edge(stage.work("edge"))
    (source,) = stage.sources()
    stage.unregister(source)
    source.deadline = 0.001
    stage.register(source)
    edge()
    stage.call_soon(stage.work("plain"))
    assert stage.play() == ["edge", "plain"]


def test_names_without_end_are_counted_together(stage, caplog):
    late_tasks(stage, *(f"number {number}" for number in range(MOST_NAMES + 5)))
    misses = stage.statistics().deadline_misses
    assert len(misses) == MOST_NAMES + 1
    assert misses["others"].count == 5
    assert len(caplog.records) == MOST_NAMES + 1


def test_a_handler_gets_each_miss_instead_of_the_log(stage, caplog):
    told = []
    stage.set_deadline_handler(lambda loop, miss: told.append((loop, miss)))
    with caplog.at_level(logging.WARNING, "hwloop"):
        late_tasks(stage, "pump", "pump")
    assert [(loop, miss.name, miss.count, miss.source) for loop, miss in told] == [
        (stage, "pump", 1, None),
        (stage, "pump", 2, None),
    ]
    assert told[0][1].lateness == pytest.approx(0.004)
    assert told[0][1].task.get_name() == "pump"
    assert not caplog.records


def test_a_handler_that_fails_is_reported_and_the_late_task_runs(stage):
    reports = []
    stage.set_exception_handler(lambda loop, context: reports.append(context))
    stage.set_deadline_handler(lambda loop, miss: 1 / 0)
    late_tasks(stage, "pump")
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    assert len(reports) == 1


def test_a_handler_that_is_not_callable_raises(stage):
    with pytest.raises(TypeError, match="a plain function or None"):
        stage.set_deadline_handler("log")
    with pytest.raises(TypeError, match="a plain function or None"):
        stage.watch_slices(handler=3)


def test_the_statistics_tell_what_waits(stage):
    stage.call_soon(print)
    stage.call_soon_priority(Priority.IDLE, print)
    stage.call_soon_priority(Priority.HIGH, print)
    stage.call_later(1, print)
    stage.call_later(1, print).cancel()
    seen = stage.statistics()
    assert (seen.ready, seen.timers, seen.descriptors) == (3, 1, 1)  # the loop's own descriptor
    assert seen.sources == ()
