"""The monitor: what it counts, what it reports once, and handlers that fail; without a loop."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hwloop.core.handles import Handle, TimerHandle, Watcher
from hwloop.core.monitor import Monitor
from hwloop.core.urgency import Priority


class Loop:
    """As much of a loop as reports need."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reports.append(context)

    def get_debug(self) -> bool:
        return False


def work() -> None: ...


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def handle(loop: Loop) -> Handle:
    return Handle(work, (), loop, None)  # type: ignore[arg-type]


def test_lateness_and_latency_are_kept_apart(loop: Loop) -> None:
    monitor = Monitor()
    timer = TimerHandle(1.0, work, (), loop, None)  # type: ignore[arg-type]
    watcher = Watcher(work, (), loop, Priority.NORMAL)
    watcher._when = 2.0
    timer._scheduled = watcher._scheduled = True
    monitor.note_found(timer, 1.5)
    monitor.note_found(watcher, 2.25)
    assert not timer._scheduled
    assert not watcher._scheduled
    lateness, latency = monitor.histograms()
    assert (lateness.count, lateness.max) == (1, 0.5)
    assert (latency.count, latency.max) == (1, 0.25)
    assert not monitor.lateness
    assert not monitor.latency
    assert monitor.histograms()[0].count == 1  # not counted again


def test_a_cancelled_timer_is_not_late(loop: Loop) -> None:
    monitor = Monitor()
    timer = TimerHandle(1.0, work, (), loop, None)  # type: ignore[arg-type]
    timer.cancel()
    monitor.note_found(timer, 1.5)
    assert monitor.histograms()[0].count == 0


def test_the_first_missed_deadline_of_a_name_is_logged_and_all_are_counted(
    handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor()
    with caplog.at_level(logging.WARNING, "hwloop"):
        for late in (0.002, 0.001):
            monitor.deadline_missed(handle, late)
    assert [record.getMessage().partition(" ran ")[2] for record in caplog.records] == [
        "2.000 ms after its deadline (reported once)"
    ]
    counted = monitor.deadline_misses.occurrences()["work"]
    assert (counted.count, counted.worst) == (2, 0.002)


def test_a_deadline_handler_gets_the_loop_and_each_miss(handle: Handle, loop: Loop) -> None:
    monitor, seen = Monitor(), []
    monitor.set_deadline_handler(lambda *args: seen.append(args))
    monitor.deadline_missed(handle, 0.5)
    monitor.deadline_missed(handle, 0.25)
    assert [(got, miss.name, miss.lateness, miss.count) for got, miss in seen] == [
        (loop, "work", 0.5, 1),
        (loop, "work", 0.25, 2),
    ]


def test_a_slow_callback_is_reported_and_its_task_returned_only_for_demotion(handle: Handle) -> None:
    monitor, seen = Monitor(), []
    monitor.watch_slices(0.05, True, lambda loop, overrun: seen.append(overrun))
    assert monitor.slow_after == 0.05
    assert monitor.overran(handle, 0.06) is None  # not the step of a task
    assert [(overrun.name, overrun.took) for overrun in seen] == [("work", 0.06)]
    monitor.watch_slices(None, False, None)
    assert monitor.slow_after == float("inf")


@pytest.mark.parametrize("report", ["deadline_missed", "overran"])
def test_a_handler_that_raises_is_reported(handle: Handle, loop: Loop, report: str) -> None:
    def fails(loop: object, report: object) -> None:
        raise RuntimeError("no")

    monitor = Monitor()
    monitor.set_deadline_handler(fails)
    monitor.watch_slices(0.05, False, fails)
    getattr(monitor, report)(handle, 0.1)
    assert len(loop.reports) == 1
    assert "fails" in loop.reports[0]["message"]


@pytest.mark.parametrize("report", ["deadline_missed", "overran"])
def test_an_exit_passes(handle: Handle, report: str) -> None:
    def leave(loop: object, report: object) -> None:
        raise SystemExit(3)

    monitor = Monitor()
    monitor.set_deadline_handler(leave)
    monitor.watch_slices(0.05, False, leave)
    with pytest.raises(SystemExit):
        getattr(monitor, report)(handle, 0.1)


def test_a_replaced_sampler_is_stopped() -> None:
    class Sampler:
        stopped = 0

        def stop(self) -> None:
            self.stopped += 1

    monitor, first, second = Monitor(), Sampler(), Sampler()
    for sampler in (first, second, None):
        monitor.sample_with(sampler)  # type: ignore[arg-type]
    assert (first.stopped, second.stopped, monitor.sampler) == (1, 1, None)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_limit_must_be_above_0(limit: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Monitor().watch_slices(limit, False, None)


async def no_handler(loop: object, report: object) -> None: ...


@pytest.mark.parametrize("handler", [3, no_handler])
def test_a_handler_must_be_a_plain_function(handler: Any) -> None:
    with pytest.raises(TypeError, match="plain function"):
        Monitor().set_deadline_handler(handler)
