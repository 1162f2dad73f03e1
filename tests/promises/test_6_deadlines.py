"""Promise 6: a missed deadline is counted with how late, reported once, and outranks nothing that can still be met."""

from __future__ import annotations

import asyncio
import logging

import hwloop
from hwloop import Priority


def test_an_expired_deadline_falls_behind_those_that_can_still_be_met(stage):
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=5000))
    stage.call_deadline(1.001, stage.work("expired"), priority=Priority.HIGH)
    stage.call_deadline(1.9, stage.work("can be met"), priority=Priority.HIGH)
    assert stage.play() == ["long", "can be met", "expired"]


def test_an_expired_deadline_keeps_its_priority(stage):
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=5000))
    stage.call_soon(stage.work("plain"))
    stage.call_deadline(1.001, stage.work("expired"), priority=Priority.HIGH)
    assert stage.play() == ["long", "expired", "plain"]


def test_a_miss_is_reported_once_with_how_late(stage, caplog):
    def late():
        stage.trace.append("late")

    with caplog.at_level(logging.WARNING, "hwloop"):
        for _ in range(2):
            stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=5000))
            stage.call_deadline(stage.time() + 0.001, late)
            stage.play()
    assert [record.getMessage() for record in caplog.records] == [
        f"{late.__qualname__} (test_6_deadlines.py:{late.__code__.co_firstlineno}) ran 4.000 ms after its deadline "
        "(reported once)"
    ]


def test_a_deadline_that_is_met_is_not_reported(stage, caplog):
    with caplog.at_level(logging.WARNING, "hwloop"):
        stage.call_deadline(stage.time() + 0.001, stage.work("in time"))
        stage.play()
    assert not caplog.records


def test_a_task_with_a_deadline_runs_before_one_with_a_later_one(stage):
    async def worker(name):
        for _ in range(2):
            stage.trace.append(name)
            await asyncio.sleep(0)

    async def main():
        plain = asyncio.create_task(worker("plain"))
        late = hwloop.create_task(worker("late"), deadline=0.2)
        early = hwloop.create_task(worker("early"), deadline=0.1)
        await asyncio.gather(plain, late, early)

    stage.run_until_complete(main())
    trace = [name for name in stage.trace if name != "look"]
    assert trace == ["early", "early", "late", "late", "plain", "plain"]
