"""The schedule of garbage collections: what a run does to the interpreter's collector, and the counted variant."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from hwloop.core.gc_schedule import CountedGcSchedule, GcSchedule
from hwloop.core.loop_clock import LoopClock


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    enabled, thresholds = gc.isenabled(), gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    (gc.enable if enabled else gc.disable)()


def test_automatic_collection_is_left_alone_by_default() -> None:
    schedule = GcSchedule(LoopClock())
    gc.enable()
    schedule.begin_run()
    assert gc.isenabled()
    assert not schedule.is_active
    assert schedule.statistics() is None


@pytest.mark.parametrize("mode", ["idle", "off"])
def test_automatic_collection_is_off_for_the_time_of_a_run(mode: str) -> None:
    schedule = GcSchedule(LoopClock())
    schedule.set_mode(mode)  # type: ignore[arg-type]
    gc.enable()
    schedule.begin_run()
    assert not gc.isenabled()
    schedule.end_run()
    schedule.end_run()  # once more does no harm
    assert gc.isenabled()
    assert schedule.is_active == (mode == "idle")


def test_a_program_that_has_switched_collection_off_keeps_it_off() -> None:
    schedule = GcSchedule(LoopClock())
    schedule.set_mode("idle")
    gc.disable()
    schedule.begin_run()
    schedule.end_run()
    assert not gc.isenabled()


def test_an_unknown_mode_raises_and_changes_nothing() -> None:
    schedule = GcSchedule(LoopClock())
    schedule.set_mode("idle")
    with pytest.raises(ValueError, match='"auto", "idle" or "off"'):
        schedule.set_mode("sometimes")  # type: ignore[arg-type]
    assert schedule.is_active


def test_setting_the_mode_begins_the_counts_anew() -> None:
    schedule = GcSchedule(LoopClock())
    schedule.set_mode("idle")
    gc.disable()
    gc.set_threshold(1, 1000, 1000)
    kept = [[number] for number in range(100)]
    assert schedule.collect_before(None)
    assert [sum(counted.collections) for counted in [schedule.statistics()] if counted] == [1]
    schedule.set_mode("idle")
    assert [sum(counted.collections) for counted in [schedule.statistics()] if counted] == [0]
    assert kept


def test_the_counted_schedule_collects_by_the_number_of_polls_alone() -> None:
    gc.enable()
    schedule = CountedGcSchedule(LoopClock(lambda: 0.0))
    collected = [number for number in range(1, 2001) if schedule.collect_before(None)]
    assert collected == [schedule.YOUNG_EVERY, 2 * schedule.YOUNG_EVERY]


def test_the_counted_schedule_collects_the_whole_heap_ever_more_seldom() -> None:
    gc.enable()
    schedule = CountedGcSchedule(LoopClock(lambda: 0.0))
    whole = []
    for number in range(1, 4 * schedule.ALL_EVERY + 1):
        before = schedule.statistics()
        if schedule.collect_before(None):
            after = schedule.statistics()
            assert before is not None
            assert after is not None
            if after.collections[2] > before.collections[2]:
                whole.append(number)
    assert whole == [schedule.ALL_EVERY, 2 * schedule.ALL_EVERY, 4 * schedule.ALL_EVERY]


def test_the_counted_schedule_raises_the_threshold_for_the_time_of_a_run() -> None:
    gc.enable()
    schedule = CountedGcSchedule(LoopClock())
    before = gc.get_threshold()
    schedule.begin_run()
    assert gc.get_threshold()[0] == schedule.VALVE
    schedule.end_run()
    assert gc.get_threshold() == before
