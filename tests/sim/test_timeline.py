"""The board's time: order, its thread, its readers."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from firmware_sim.timeline import Timeline

# By hand.


def test_actions_run_in_the_order_of_their_time(timeline: Any) -> None:
    ran: list[tuple[str, int]] = []
    for name, seconds in (("late", 0.3), ("first", 0.1), ("second", 0.1)):
        timeline.after(seconds, lambda name=name: ran.append((name, timeline.time_ns)))
    timeline.advance(0.05)
    assert (ran, timeline.next_ns()) == ([], 100_000_000)
    timeline.advance(1)
    assert ran == [("first", 100_000_000), ("second", 100_000_000), ("late", 300_000_000)]
    assert timeline.next_ns() is None


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_a_time_that_never_comes_raises(timeline: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="an action is planned for less than"):
        timeline.after(seconds, int)


def test_a_cancelled_action_does_not_run_nor_count_as_next(timeline: Any) -> None:
    ran: list[str] = []
    timeline.at(10, lambda: ran.append("cancelled")).cancel()
    timeline.at(20, lambda: ran.append("kept"))
    assert timeline.next_ns() == 20
    timeline.advance(1)
    assert ran == ["kept"]


def test_an_action_may_schedule_another_that_is_due_at_once(timeline: Any) -> None:
    ran: list[str] = []
    timeline.at(10, lambda: timeline.at(10, lambda: ran.append("second")))
    timeline.advance(1)
    assert ran == ["second"]


def test_an_action_that_fails_is_logged_and_the_rest_goes_on(timeline: Any, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    timeline.at(10, lambda: 1 // 0)
    timeline.at(20, lambda: ran.append("other"))
    with caplog.at_level(logging.ERROR, "firmware_sim"):
        timeline.advance(1)
    assert ran == ["other"]
    assert "simulated device failed" in caplog.text


def test_a_late_action_keeps_the_time_for_which_it_was_planned(timeline: Any) -> None:
    moments: list[int] = []

    def chain(left: int) -> None:
        moments.append(timeline.moment_ns())
        if left:
            timeline.after(0.001, lambda: chain(left - 1))

    timeline.after(0.001, lambda: chain(3))
    timeline.time_ns = 50_000_000  # the thread was kept from running
    timeline.run_due()
    assert moments == [1_000_000, 2_000_000, 3_000_000, 4_000_000]
    assert timeline.moment_ns() == 50_000_000


def test_actions_that_become_due_meanwhile_wait_so_that_others_get_the_lock(timeline: Any) -> None:
    ran: list[int] = []

    def act() -> None:
        ran.append(timeline.time_ns)
        timeline.time_ns += 1000  # it takes longer than the time for which it plans
        timeline.after(1e-7, act)

    timeline.at(0, act)
    assert timeline.run_due()
    assert ran == [0]


# On its thread.


@pytest.fixture
def running() -> Iterator[Timeline]:
    timeline = Timeline()
    yield timeline
    timeline.stop()


def test_no_thread_runs_until_something_is_scheduled(running: Timeline) -> None:
    def firmware() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "firmware"]

    assert firmware() == []
    running.after(60, lambda: None)
    assert firmware() == ["firmware"]


def test_actions_run_on_the_thread_with_the_lock_and_never_early(running: Timeline) -> None:
    done = threading.Event()
    seen: list[tuple[str, bool]] = []
    due_ns = running.now_ns() + 3_300_000

    def action() -> None:
        late = running.now_ns() >= due_ns
        seen.append((threading.current_thread().name, late))
        done.set()

    running.at(due_ns, action)
    with running.lock:
        assert not done.wait(0.02)
    assert done.wait(5)
    assert seen == [("firmware", True)]


def test_something_sooner_is_not_kept_waiting_by_what_comes_later(running: Timeline) -> None:
    done = threading.Event()
    running.after(60, lambda: None)
    running.after(0.001, done.set)
    assert done.wait(5)


def test_a_reader_is_called_while_its_descriptor_is_readable_and_not_after_it_was_removed(running: Timeline) -> None:
    read, write = os.pipe()
    got: list[bytes] = []
    called = threading.Event()

    def on_readable() -> None:
        got.append(os.read(read, 100))
        called.set()

    running.add_reader(read, on_readable)
    os.write(write, b"one")
    assert called.wait(5)
    with running.lock:
        running.remove_reader(read)
        running.remove_reader(read)
    os.write(write, b"two")
    done = threading.Event()
    running.after(0.001, done.set)
    assert done.wait(5)
    assert got == [b"one"]
    os.close(read)
    os.close(write)


def test_stopping_forgets_what_was_due_and_is_harmless_when_repeated(running: Timeline) -> None:
    ran: list[int] = []
    running.after(0.01, lambda: ran.append(1))
    running.stop()
    running.stop()
    running.after(0, lambda: ran.append(2))
    assert [thread.name for thread in threading.enumerate() if thread.name == "firmware"] == []
    assert ran == []


def test_a_device_may_stop_the_timeline_itself(running: Timeline) -> None:
    done = threading.Event()

    def action() -> None:
        running.stop()
        done.set()

    running.after(0.001, action)
    assert done.wait(5)
