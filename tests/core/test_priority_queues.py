"""The priority queues: order, ageing, batches and their accounts, without a loop."""

from __future__ import annotations

import math
from contextvars import Context

import pytest

from hwloop.core.handles import Handle
from hwloop.core.priority_queues import AGEING, PriorityQueues
from hwloop.core.urgency import Priority, Urgency


class Loop:
    """As much of a loop as a handle needs."""

    def get_debug(self) -> bool:
        return False


class Stage:
    """Priority queues, and handles that are named in traces."""

    def __init__(self) -> None:
        self.queues = PriorityQueues(lambda handle, late: None, lambda handle, now: None)
        self.names: dict[Handle, str] = {}

    def push(self, priority: Priority, name: str, *, cancelled: bool = False, places: float = 0) -> Handle:
        handle = Handle(print, (), Loop(), Context())
        self.names[handle] = name
        self.queues.push(priority, math.inf, handle, places)
        if cancelled:
            handle.cancel()
        return handle

    def trace(self, turns: int, *, ordinary: bool = False) -> str:
        """Return the names of the handles that the next turns pick; "." is ordinary work."""
        picked = [self.queues.pick(0.0, ordinary) for _ in range(turns)]
        return "".join("." if handle is None else self.names[handle] for handle in picked)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_new_queues_hold_nothing(stage: Stage) -> None:
    assert (stage.queues.waiting, stage.queues.old, len(stage.queues)) == (0, 0, 0)
    assert stage.queues.pick(0.0, False) is None


def test_a_rank_ages_by_the_turns_of_more_urgent_ones_only(stage: Stage) -> None:
    for _ in range(40):
        stage.push(Priority.INTERRUPT, "i")
        stage.push(Priority.HIGH, "h")
        stage.push(Priority.LOW, "l")
    assert AGEING == 8
    assert stage.trace(36) == "iiiiiiiilh" + "iiiiiiilih" + "iiiiiiliih" + "iiiiil"


def test_ordinary_work_ages_like_a_rank_of_its_own(stage: Stage) -> None:
    for _ in range(20):
        stage.push(Priority.HIGH, "h")
    assert stage.trace(20, ordinary=True) == "hhhhhhhh.hhhhhhhh.hh"


def test_only_ordinary_work_that_waits_is_owed_a_turn(stage: Stage) -> None:
    for _ in range(4):
        stage.push(Priority.HIGH, "h")
    stage.queues.pick(0.0, False)
    assert stage.queues.waiting == len(stage.queues) == 3
    for left in (2, 1):
        stage.queues.pick(0.0, True)
        assert (stage.queues.waiting, len(stage.queues)) == (left + 1, left)  # entries, and a turn for ordinary work


def test_a_batch_does_not_count_the_turn_that_is_owed_to_ordinary_work(stage: Stage) -> None:
    for _ in range(2):
        stage.push(Priority.HIGH, "h")
    stage.queues.pick(0.0, True)
    stage.queues.begin_batch()
    assert stage.queues.old == 1


def test_a_single_cancelled_entry_is_dropped_and_leaves_nothing_to_ask_for(stage: Stage) -> None:
    stage.push(Priority.HIGH, "h", cancelled=True)
    assert stage.queues.pick(0.0, False) is None
    assert stage.queues.waiting == len(stage.queues) == 0


def test_cancelled_entries_leave_the_accounts_of_all_entries_and_of_the_batch(stage: Stage) -> None:
    for name in "abcd":
        stage.push(Priority.HIGH, name, cancelled=name == "b")
    stage.queues.begin_batch()
    stage.push(Priority.INTERRUPT, "e", cancelled=True)  # of the next batch
    accounts = []
    for name in "acd":
        assert stage.trace(1) == name
        accounts.append((len(stage.queues), stage.queues.old))
    assert accounts == [(3, 3), (1, 1), (0, 0)]


def test_entries_of_later_batches_are_not_old(stage: Stage) -> None:
    for name in "ab":
        stage.push(Priority.HIGH, name)
    stage.queues.begin_batch()
    stage.push(Priority.INTERRUPT, "c")
    assert stage.trace(1) == "c"
    assert stage.queues.old == 2
    assert stage.trace(2) == "ab"
    assert stage.queues.old == 0
    stage.queues.begin_batch()
    stage.push(Priority.HIGH, "d")
    assert stage.trace(1) == "d"
    assert stage.queues.old == 0


def test_entries_are_taken_in_the_order_of_their_arrival_whatever_their_priority(stage: Stage) -> None:
    instead = Handle(print, (), Loop(), Context())
    wanted = [stage.push(Priority.LOW, "l"), stage.push(Priority.HIGH, "h")]
    stage.push(Priority.NORMAL, "n")
    assert stage.queues.take(lambda handle, urgency: handle in wanted, instead) == wanted
    assert len(stage.queues) == 3  # `instead` has their places
    # In virtual time a seed may move an entry back, even to the place of another one.
    wanted = [stage.push(Priority.LOW, "l", places=1), stage.push(Priority.HIGH, "h")]
    assert {*stage.queues.take(lambda handle, urgency: handle in wanted, instead)} == {*wanted}


def test_entries_are_chosen_by_their_priority_and_by_whether_they_have_a_deadline(stage: Stage) -> None:
    stage.push(Priority.LOW, "l")
    stage.queues.push(Priority.HIGH, 5.0, Handle(print, (), Loop(), Context()))
    seen: list[Urgency] = []
    stage.queues.take(lambda handle, urgency: bool(seen.append(urgency)), Handle(print, (), Loop(), Context()))
    assert [urgency.priority for urgency in seen] == [Priority.HIGH, Priority.LOW]
    assert math.isnan(seen[0].deadline)
    assert seen[1].deadline == math.inf


def test_places_let_later_handles_of_the_same_urgency_go_first(stage: Stage) -> None:
    stage.push(Priority.HIGH, "a", places=1.5)
    for name in "bcd":
        stage.push(Priority.HIGH, name)
    assert stage.trace(4) == "bacd"


def test_a_handle_without_places_keeps_its_own(stage: Stage) -> None:
    queues = stage.queues
    first = Handle(print, (), Loop(), Context())
    queues.push(Priority.HIGH, math.inf, first)  # by the default
    stage.names[first] = "a"
    queues.push(Priority.HIGH, math.inf, second := Handle(print, (), Loop(), Context()), 0)
    stage.names[second] = "b"
    queues.push(Priority.HIGH, math.inf, third := Handle(print, (), Loop(), Context()), -1.5)
    stage.names[third] = "c"
    assert stage.trace(3) == "acb"


def test_a_handle_that_runs_at_its_deadline_has_not_missed_it() -> None:
    missed: list[float] = []
    queues = PriorityQueues(lambda handle, late: missed.append(late), lambda handle, now: None)
    early, late = Handle(print, (), Loop(), Context()), Handle(max, (), Loop(), Context())
    queues.push(Priority.HIGH, 5.0, early)
    queues.push(Priority.HIGH, 6.0, late)
    assert queues.pick(5.0, False) is early
    assert missed == []
    assert queues.pick(6.5, False) is late
    assert missed == [0.5]


def test_a_deadline_that_can_still_be_met_now_goes_first() -> None:
    queues = PriorityQueues(lambda handle, late: None, lambda handle, now: None)
    handles = [Handle(print, (), Loop(), Context()) for _ in range(2)]
    queues.push(Priority.HIGH, math.inf, handles[0])
    queues.push(Priority.HIGH, 5.0, handles[1])
    assert queues.pick(5.0, False) is handles[1]
