"""Promise 2: between two looks at the hardware lies at most one slice, plus the one callback that overran it."""

from __future__ import annotations

import asyncio

from hwloop import Priority
from hwloop.core import SHORT_QUEUE, SLICE


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


def test_what_a_look_found_comes_before_what_it_schedules_across_slices(stage):
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
