"""Promise 2: between two looks at the hardware lies at most one slice, plus the one callback that overran it."""

from __future__ import annotations

import asyncio

from hwloop import Priority
from hwloop.core.dispatch import SHORT_QUEUE, SLICE


def test_the_loop_looks_after_every_callback_that_fills_a_slice(stage):
    for _ in range(4):
        stage.call_soon(stage.work("busy", took=SLICE * 1e6))
    stage.play()
    assert stage.trace[:8] == ["look", "busy"] * 4


def test_short_callbacks_share_a_slice(stage):
    for _ in range(20):
        stage.call_soon(stage.work("busy", took=SLICE * 1e6 / 4.5))
    stage.play()
    assert stage.trace[:12] == ["look", *["busy"] * 5] * 2


def test_an_edge_waits_for_one_callback_however_many_are_ready(stage):
    edge = stage.edge(stage.work("edge"))
    for number in range(500):
        stage.call_soon(stage.work("busy", took=100, then=edge if number == 7 else None))
    assert stage.play().index("edge") == 8


def test_a_timer_waits_for_one_callback_however_many_are_ready(stage):
    stage.call_later(0.00075, stage.work("timer"))
    for _ in range(500):
        stage.call_soon(stage.work("busy", took=100))
    assert stage.play().index("timer") == 8


def test_a_few_callbacks_that_were_ready_before_go_first_as_in_asyncio(stage):
    edge = stage.edge(stage.work("edge"))
    stage.call_at(1.00001, stage.work("timer"))
    edge()
    stage.call_soon(stage.work("first", took=100, then=lambda: stage.call_soon(stage.work("later"))))
    for _ in range(SHORT_QUEUE - 1):
        stage.call_soon(stage.work("ready"))
    assert stage.play() == ["first", *["ready"] * (SHORT_QUEUE - 1), "edge", "later", "timer"]


def test_an_urgent_source_does_not_wait_for_them(stage):
    edge = stage.edge(stage.work("edge"), Priority.INTERRUPT)
    stage.call_soon(stage.work("first", took=100, then=edge))
    stage.call_soon(stage.work("second"))
    assert stage.play() == ["first", "edge", "second"]


def test_a_chain_that_reschedules_itself_does_not_keep_the_loop_from_looking(stage):
    def chain(left=50):
        stage.trace.append("link")
        stage.clock += SLICE / 2.5
        if left:
            stage.call_soon(chain, left - 1)

    stage.call_soon(chain)
    stage.play()
    assert stage.trace[:12] == ["look", "link", "link", "link"] * 3


def test_urgent_work_does_not_keep_the_loop_from_looking(stage):
    for _ in range(4):
        stage.call_soon_priority(Priority.INTERRUPT, stage.work("busy", took=SLICE * 1e6))
    stage.play()
    assert stage.trace[:8] == ["look", "busy"] * 4


def test_events_do_not_keep_the_loop_from_looking(stage):
    for _ in range(4):
        stage.edge(stage.work("edge", took=SLICE * 1e6))()
    stage.play()
    assert stage.trace[:8] == ["look", "edge"] * 4


def test_a_descriptor_that_stays_readable_is_queued_once(stage):
    edge = stage.edge(stage.work("edge"))
    stage.call_soon(stage.work("first", took=100, then=edge))
    for _ in range(5):
        stage.call_soon_priority(Priority.HIGH, stage.work("urgent", took=100))
    assert stage.play().count("edge") == 1


def test_events_of_a_poll_come_before_callbacks_that_they_schedule_across_slices(stage):
    when = stage.time() + 0.001
    stage.call_at(when, stage.work("a", took=200, then=lambda: stage.call_soon(stage.work("scheduled by a"))))
    stage.call_at(when, stage.work("b"))
    assert stage.play(5000) == ["a", "b", "scheduled by a"]


def test_stop_lets_the_batch_finish_and_runs_nothing_that_it_schedules(stage):
    stage.call_soon(stage.work("a", then=lambda: stage.call_soon(stage.work("scheduled by a"))))
    stage.call_soon(stage.work("b", took=500, then=stage.stop))
    stage.call_soon(stage.work("c"))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["a", "b", "c"]
    stage.call_soon(stage.stop)
    stage.run_forever()
    assert stage.trace[-1] == "scheduled by a"


def test_stop_before_run_looks_once_and_runs_what_is_ready(stage):
    stage.edge(stage.work("edge"))()
    stage.call_soon(stage.work("a", then=lambda: stage.call_soon(stage.work("later"))))
    stage.stop()
    stage.run_forever()
    assert sorted(stage.trace) == ["a", "edge", "look"]


def test_run_until_complete_leaves_what_its_last_step_scheduled(stage):
    async def main():
        asyncio.get_running_loop().call_soon(stage.work("ready with the end"))
        return 7

    assert stage.run_until_complete(main()) == 7
    assert "ready with the end" in stage.trace


def test_stop_leaves_urgent_work_that_the_batch_has_added_however_early_its_deadline(stage):
    def urgent(name, deadline, *, then=None):
        stage.call_deadline(stage.time() + deadline, stage.work(name, took=100, then=then), priority=Priority.HIGH)

    def add_and_stop():
        urgent("added", 0.1)
        stage.stop()
        urgent("added later", 0.2)

    urgent("first", 1, then=add_and_stop)
    urgent("second", 2)
    stage.call_soon(stage.work("plain"))
    stage.call_soon_priority(Priority.LOW, stage.work("low"))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["first", "second", "plain", "low"]
    del stage.trace[:]
    stage.stop()
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["added", "added later"]


def test_stop_leaves_urgent_work_that_was_added_in_an_earlier_slice_of_the_batch(stage):
    stage.call_soon(stage.work("a", took=100, then=lambda: stage.call_soon_priority(Priority.LOW, stage.work("low"))))
    stage.call_soon(stage.work("b", took=100, then=stage.stop))
    stage.call_soon(stage.work("c", took=100))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["a", "b", "c"]


def test_stop_leaves_what_a_look_found_within_the_batch(stage):
    edge = stage.edge(stage.work("edge"))
    for number in range(9):
        then = {0: edge, 1: stage.stop}.get(number)
        stage.call_soon(stage.work("busy", took=100, then=then))
        stage.call_later(0.00005, stage.work("timer"))
    stage.run_forever()
    ran = [name for name in stage.trace if name != "look"]
    assert ran == ["busy", "edge", "busy", *["busy"] * 7]  # the edge alone was served before stop() was called


def test_stop_keeps_asyncios_order_of_few_callbacks_and_an_event(stage):
    edge = stage.edge(stage.work("edge"))
    edge()
    stage.call_soon(stage.work("a", took=100, then=stage.stop))
    stage.call_soon(stage.work("b"))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["a", "b", "edge"]


def test_calls_that_another_thread_sends_after_the_batch_began_are_left_by_stop(stage):
    stage.call_soon(stage.work("a", took=100, then=lambda: stage.call_soon_threadsafe(stage.work("sent"))))
    stage.call_soon(stage.work("b", took=100, then=stage.stop))
    stage.call_soon(stage.work("c", took=100))
    stage.run_forever()
    assert [name for name in stage.trace if name != "look"] == ["a", "b", "c"]


def test_a_timer_that_was_due_when_it_was_set_waits_for_the_batch_and_what_it_adds(stage):
    stage.call_soon(stage.work("a", took=100, then=lambda: stage.call_at(0.5, stage.work("timer"))))
    for _ in range(9):
        stage.call_soon(stage.work("b", took=100, then=lambda: stage.call_soon(stage.work("added"))))
    assert stage.play() == ["a", *["b"] * 9, *["added"] * 9, "timer"]


def test_an_urgent_timer_that_was_due_when_it_was_set_does_not_wait_for_the_batch(stage):
    def set_timer():
        stage.call_later(0, stage.work("timer"))

    stage.call_soon_priority(Priority.HIGH, stage.work("urgent", took=100, then=set_timer))
    for _ in range(9):
        stage.call_soon(stage.work("b", took=100))
    assert stage.play() == ["urgent", "timer", *["b"] * 9]


def test_a_timer_that_is_due_within_a_slice_is_looked_for_at_the_end_of_the_batch(stage):
    stage.call_soon(stage.work("a", took=20, then=lambda: stage.call_later(10e-6, stage.work("timer"))))
    stage.call_soon(stage.work("b", took=20, then=lambda: stage.call_soon(stage.work("c"))))
    assert stage.play() == ["a", "b", "c", "timer"]
