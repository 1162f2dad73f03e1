"""Promise 5: a ready callback of a lower band runs within a stated bound; IDLE runs when nothing else is ready."""

from __future__ import annotations

import itertools

import pytest

from hwloop import Priority
from hwloop.core.priority_queues import AGEING


def endless(stage, name, priority=None, until=2.0):
    """A callback that always reschedules itself, until the stage's clock reads `until`."""

    def again():
        stage.trace.append(name)
        stage.clock += 10e-6
        if stage.clock < until:
            if priority is None:
                stage.call_soon(again)
            else:
                stage.call_soon_priority(priority, again)

    return again


@pytest.mark.parametrize("urgent", [Priority.INTERRUPT, Priority.HIGH])
@pytest.mark.parametrize("waiting", [Priority.NORMAL, Priority.LOW])
def test_a_lower_band_is_passed_over_so_often_and_no_more(stage, urgent, waiting):
    for _ in range(3):
        stage.call_soon_priority(waiting, stage.work("waiting"))
    stage.call_soon_priority(urgent, endless(stage, "urgent", urgent, until=1.01))
    trace = stage.play(5000)
    assert trace[: 3 * (AGEING + 1)] == [*["urgent"] * AGEING, "waiting"] * 3


def test_every_band_gets_its_turn_while_all_are_busy(stage):
    for priority in (Priority.INTERRUPT, Priority.HIGH, Priority.NORMAL, Priority.LOW):
        stage.call_soon_priority(priority, endless(stage, priority.name, priority, until=1.01))
    trace = stage.play(10_000)[:900]
    for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW):
        turns = [place for place, name in enumerate(trace) if name == priority.name]
        gaps = [later - earlier for earlier, later in itertools.pairwise(turns)]
        assert max(gaps) <= 2 * AGEING, priority


def test_plain_work_and_events_take_turns(stage):
    again: list = []

    def on_edge():
        stage.trace.append("edge")
        stage.clock += 100e-6
        if stage.clock < 1.005:
            again[0]()

    again.append(stage.edge(on_edge))
    again[0]()
    for _ in range(20):
        stage.call_soon(stage.work("plain", took=100))
    trace = stage.play(20_000)
    assert trace[:30] == ["edge", "plain"] * 15


def test_plain_work_and_due_timers_take_turns(stage):
    for _ in range(10):
        stage.call_at(1.0001, stage.work("timer", took=100))
    stage.call_soon(stage.work("first", took=200))
    for _ in range(20):
        stage.call_soon(stage.work("plain", took=100))
    trace = stage.play(20_000)
    assert trace[:21] == ["first", *["timer", "plain"] * 10]


def test_idle_work_waits_for_everything_else(stage):
    stage.call_soon_priority(Priority.IDLE, stage.work("idle"))
    stage.call_soon(endless(stage, "plain", until=1.005))
    stage.call_soon_priority(Priority.LOW, endless(stage, "low", Priority.LOW, until=1.005))
    trace = stage.play(10_000)
    assert trace[-1] == "idle"
    assert trace.count("plain") > 400


def test_the_loop_looks_once_more_before_idle_work_runs(stage):
    edge = stage.edge(stage.work("edge"))
    stage.call_soon_priority(Priority.IDLE, stage.work("idle"))
    stage.call_soon(stage.work("plain", then=edge))
    assert stage.play() == ["plain", "edge", "idle"]


def test_idle_callbacks_run_one_at_a_time(stage):
    edge = stage.edge(stage.work("edge"))
    stage.call_soon_priority(Priority.IDLE, stage.work("idle 1", then=edge))
    stage.call_soon_priority(Priority.IDLE, stage.work("idle 2"))
    assert stage.play() == ["idle 1", "edge", "idle 2"]


def test_a_source_of_idle_priority_is_called_as_often_as_it_is_readable(stage):
    edge = stage.edge(stage.work("idle edge"), Priority.IDLE)
    for _ in range(3):
        edge()
    assert stage.play(1000) == ["idle edge"] * 3


def test_cancelled_callbacks_take_nobodys_turn(stage):
    for _ in range(AGEING + 1):
        stage.call_soon_priority(Priority.HIGH, stage.work("cancelled")).cancel()
    stage.call_soon_priority(Priority.LOW, stage.work("low"))
    stage.call_soon_priority(Priority.HIGH, stage.work("high"))
    assert stage.play() == ["high", "low"]


def test_a_rush_that_is_over_gives_ordinary_work_no_credit_for_the_next(stage):
    def second_rush():
        stage.call_soon_priority(Priority.HIGH, stage.work("late"))

    for _ in range(AGEING):
        stage.call_soon_priority(Priority.HIGH, stage.work("high"))
    stage.call_soon(stage.work("plain"))
    stage.call_soon(stage.work("plain", then=second_rush))
    stage.call_soon(stage.work("last"))
    assert stage.play() == [*["high"] * AGEING, "plain", "plain", "late", "last"]


def test_callbacks_that_ordinary_work_adds_after_a_rush_do_not_run_after_stop(stage):
    def end():
        stage.call_soon_priority(Priority.HIGH, stage.work("added"))

    stage.call_soon_priority(Priority.HIGH, stage.work("high", took=100, then=stage.stop))
    stage.call_soon(stage.work("plain", then=end))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["high", "plain"]
    assert stage.statistics().ready == 1


def test_stop_lets_what_is_ready_finish_in_its_order_and_nothing_that_is_added(stage):
    stage.call_soon(
        stage.work("first", took=500, then=lambda: (stage.stop(), stage.call_soon_priority(Priority.HIGH, high)))
    )
    high = stage.work("high")
    stage.call_soon(stage.work("plain"))
    stage.call_soon_priority(Priority.LOW, stage.work("low"))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["first", "plain", "low"]
    stage.call_soon(stage.stop)
    stage.run_forever()
    assert stage.trace[-1] == "high"
