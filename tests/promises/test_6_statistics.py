"""How late timers and descriptors were: histograms that are always on."""

from __future__ import annotations

import asyncio

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.monitor import FILED_TOGETHER


def test_lateness_is_counted_from_a_timers_time_until_it_runs(stage):
    stage.call_soon(stage.work("busy", took=3000))
    stage.call_later(0.001, stage.work("late by two"))
    stage.play(10_000)
    lateness = stage.statistics().lateness
    assert lateness.count == 2  # the other one is that which ended the play
    assert lateness.max == pytest.approx(0.002, rel=0.01)
    assert lateness.min == 0


def test_latency_is_counted_from_the_look_that_found_a_descriptor_until_it_is_served(stage):
    for name in ("one", "other"):
        stage.edge(stage.work(name, took=40))()
    stage.play()
    latency = stage.statistics().latency
    assert latency.count == 2
    assert latency.max == pytest.approx(40e-6, rel=0.01)


def test_urgent_descriptors_and_timers_are_counted_too(stage):
    stage.edge(stage.work("edge", took=30), Priority.INTERRUPT)()
    stage.call_soon_priority(Priority.HIGH, stage.call_later, 10e-6, stage.work("timer"))
    stage.call_soon(stage.work("busy", took=100))
    stage.play(1000)
    seen = stage.statistics()
    assert seen.latency.count == 1
    assert seen.lateness.count == 2
    assert seen.lateness.max > 20e-6


def test_a_callback_cancelled_before_it_ran_is_not_counted(stage):
    def cancel():
        for timer in timers:
            timer.cancel()

    due = stage.time() + 0.001
    timers = [stage.call_at(due, stage.work("never"))]
    stage.call_soon_priority(Priority.LOW, lambda: timers.append(stage.call_at(due, stage.work("never"))))
    stage.play()
    stage.call_at(due - 0.0001, cancel)
    stage.call_soon(stage.work("busy", took=2000))
    assert "never" not in stage.play(3000)
    assert len(timers) == 2
    assert stage.statistics().lateness.count == 2  # the canceller, and the end of the play


def test_the_histograms_hold_any_number_in_bounded_memory(stage):
    stage.edge(lambda: None)
    count = 3 * FILED_TOGETHER
    for _ in range(count):
        stage.call_later(1e-6, lambda: None)
    stage.play(100)
    assert len(stage._monitor.lateness) < FILED_TOGETHER
    assert stage.statistics().lateness.count == count + 1


def test_statistics_are_plain_data():
    async def main():
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop().statistics()

    import dataclasses
    import json

    seen = json.loads(json.dumps(dataclasses.asdict(hwloop.run(main(), gc="idle"))))
    assert seen["lateness"]["count"] == 1
    assert 0 <= seen["lateness"]["p50"] <= seen["lateness"]["max"]
    assert seen["gc"]["forced"] == 0
