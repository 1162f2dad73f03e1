"""The timer queue: order, tolerance, cancellation and purging, without a loop."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextvars import Context
from fractions import Fraction

import pytest

from hwloop.core.handles import TimerHandle, TolerantHandle
from hwloop.core.timer_queue import PURGE_AFTER, TimerQueue


class Loop:
    """As much of a loop as a handle needs."""

    def __init__(self, timers: TimerQueue) -> None:
        self._timer_handle_cancelled = timers.note_cancelled

    def get_debug(self) -> bool:
        return False


@pytest.fixture
def timers() -> TimerQueue:
    return TimerQueue()


def exact(timers: TimerQueue, when: float) -> TimerHandle:
    timer = TimerHandle(when, print, (object(),), Loop(timers), Context())  # equal to no other timer
    timers.new.append(timer)
    return timer


def tolerant(timers: TimerQueue, when: float, tolerance: float) -> TolerantHandle:
    timer = TolerantHandle(when, print, (object(),), Loop(timers), Context())
    timer.tolerance = tolerance
    timers.new.append(timer)
    return timer


def test_an_empty_queue_needs_no_wakeup(timers: TimerQueue) -> None:
    assert timers.next_when() is None
    assert timers.pop_due(1e9) == []


def test_timers_are_due_by_time_and_equal_ones_in_order_of_arrival(timers: TimerQueue) -> None:
    late, first, second = exact(timers, 3.0), exact(timers, 1.0), exact(timers, 1.0)
    timers.admit()
    assert timers.next_when() == 1.0
    assert timers.pop_due(0.999) == []
    assert timers.pop_due(1.0) == [first, second]
    assert timers.pop_due(3.0) == [late]


def test_hundreds_of_timers_leave_by_time_and_order_of_arrival_whatever_type_of_number_their_times_are(
    timers: TimerQueue,
) -> None:
    """The compiled core compares two floats by itself, and leaves the rest to Python."""
    rng, kinds = random.Random(0), (float, int, lambda whole: Fraction(whole, 1))
    waiting = [exact(timers, rng.choice(kinds)(rng.randrange(100))) for _ in range(500)]
    timers.admit()
    found = [timer for now in range(100) for timer in timers.pop_due(now)]
    assert found == sorted(waiting, key=lambda timer: timer.when())


def test_exact_and_tolerant_timers_of_equal_times_keep_their_order(timers: TimerQueue) -> None:
    expected = [exact(timers, 1.0), tolerant(timers, 1.0, 0.5), exact(timers, 1.0)]
    timers.admit()
    assert timers.pop_due(1.0) == expected


def test_a_tolerant_timer_is_due_at_its_time_but_wakes_the_loop_at_the_end_of_its_tolerance(timers: TimerQueue) -> None:
    timer = tolerant(timers, 1.0, 0.5)
    timers.admit()
    assert timers.next_when() == 1.5
    assert timers.pop_due(0.99) == []
    assert timers.pop_due(1.0) == [timer]
    assert timers.next_when() is None


def test_the_loop_wakes_for_whichever_timer_needs_it_first(timers: TimerQueue) -> None:
    tolerant(timers, 1.0, 5.0)
    exact(timers, 4.0)
    timers.admit()
    assert timers.next_when() == 4.0
    tolerant(timers, 2.0, 0.5)
    timers.admit()
    assert timers.next_when() == 2.5


def test_a_timer_cancelled_before_its_admission_never_enters_the_heap(timers: TimerQueue) -> None:
    exact(timers, 1.0).cancel()
    timers.admit()
    assert timers.all() == []
    assert timers.cancelled == 0


@pytest.mark.parametrize("kind", ["exact", "tolerant"])
def test_a_cancelled_timer_is_neither_due_nor_wakes_the_loop(timers: TimerQueue, kind: str) -> None:
    timer = exact(timers, 1.0) if kind == "exact" else tolerant(timers, 1.0, 0.1)
    timers.admit()
    timer.cancel()
    timer.cancel()  # once more does no harm
    assert timers.next_when() is None
    assert timers.pop_due(2.0) == []
    assert not timers.has_tolerant()
    assert timers.cancelled == 0


def test_cancelled_timers_are_purged_when_they_are_the_majority(timers: TimerQueue) -> None:
    kept = [exact(timers, 100.0) for _ in range(PURGE_AFTER)]
    cancelled = [exact(timers, 100.0) for _ in range(PURGE_AFTER + 1)]
    timers.admit()
    for timer in cancelled[:-1]:
        timer.cancel()
    timers.pop_due(0.0)
    assert len(timers.all()) == len(kept) + len(cancelled)
    cancelled[-1].cancel()
    timers.pop_due(0.0)
    assert timers.all() == kept
    assert timers.cancelled == 0


Set = Callable[[TimerQueue, float], TimerHandle]
KINDS: dict[str, Set] = {"exact": exact, "tolerant": lambda timers, when: tolerant(timers, when, 1.0)}


def purges(timers: TimerQueue, cancelled: list[TimerHandle]) -> bool:
    """Cancel timers, let the queue purge, and return whether it did."""
    before = len(timers.all())
    for timer in cancelled:
        timer.cancel()
    timers.pop_due(0.0)
    return len(timers.all()) < before


def test_tolerant_timers_are_due_by_time_whatever_their_tolerances(timers: TimerQueue) -> None:
    times = [(7 * number % 100 + 50) * 0.0125 for number in range(100)]  # none in order, many in a bucket
    waiting = [tolerant(timers, when, number % 3 * 0.1) for number, when in enumerate(times)]
    timers.admit()
    found = [timer for now in range(60, 101) for timer in timers.pop_due(now * 0.01)]
    waiting += [tolerant(timers, 1.1, 0.1), tolerant(timers, 1.05, 0.1)]
    timers.admit()
    found += timers.pop_due(2.0)
    assert found == sorted(waiting, key=lambda timer: timer.when())
    assert not timers.has_tolerant()


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_timers_stay_while_they_are_few(timers: TimerQueue, kind: str) -> None:
    waiting = [KINDS[kind](timers, 100.0) for _ in range(PURGE_AFTER + 2)]
    timers.admit()
    assert not purges(timers, waiting[:PURGE_AFTER])


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_timers_stay_while_they_are_half_of_all(timers: TimerQueue, kind: str) -> None:
    waiting = [KINDS[kind](timers, 100.0) for _ in range(2 * PURGE_AFTER + 2)]
    timers.admit()
    assert not purges(timers, waiting[: PURGE_AFTER + 1])
    assert purges(timers, [waiting[-1]])


def test_tolerant_timers_are_purged_likewise_again_and_again(timers: TimerQueue) -> None:
    kept = tolerant(timers, 100.0, 1.0)
    for _ in range(2):
        waiting = [tolerant(timers, 100.0, 1.0) for _ in range(PURGE_AFTER + 1)]
        timers.admit()
        assert not purges(timers, waiting[:-1])
        waiting[-1].cancel()
        timers.pop_due(0.0)
        assert timers.all() == [kept]
        assert timers.has_tolerant()


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("way", ["waking", "due"])
def test_a_cancelled_tolerant_timer_that_leaves_is_not_counted_any_more(
    timers: TimerQueue, way: str, counted: bool
) -> None:
    """One whose cancellation was not counted, because a thread is in the middle of it, takes nothing from the count."""
    gone = tolerant(timers, 1.0, 1.0)
    timers.admit()
    if counted:
        gone.cancel()
    else:
        gone._cancelled = True
    waiting = [tolerant(timers, 100.0, 1.0) for _ in range(PURGE_AFTER + 1)]
    timers.admit()
    assert (timers.next_when() if way == "waking" else timers.pop_due(1.0)) == (101.0 if way == "waking" else [])
    assert not purges(timers, waiting[:-1])
    waiting[-1].cancel()
    timers.pop_due(0.0)
    assert timers.all() == []
    assert not timers.has_tolerant()


def test_a_tolerant_timer_is_scheduled_until_it_is_due(timers: TimerQueue) -> None:
    timer = tolerant(timers, 1.0, 0.5)
    timers.admit()
    assert timer._scheduled is True
    timers.pop_due(1.0)
    assert timer._scheduled is False


def test_a_timer_of_tolerance_zero_is_exact(timers: TimerQueue) -> None:
    timer = tolerant(timers, 1.0, 0.0)
    timers.admit()
    assert not timers.has_tolerant()
    assert timers.earliest == timers.next_when() == 1.0
    assert timers.pop_due(1.0) == [timer]


def test_exact_and_tolerant_timers_are_purged_together(timers: TimerQueue) -> None:
    kept = [exact(timers, 100.0), tolerant(timers, 100.0, 1.0)]
    cancelled = [KINDS[kind](timers, 100.0) for kind in KINDS for _ in range(PURGE_AFTER)]
    timers.admit()
    assert purges(timers, cancelled)
    assert timers.all() == kept
    assert timers.cancelled == 0


def test_the_queue_says_when_its_first_timer_is_due_while_that_is_simple(timers: TimerQueue) -> None:
    assert timers.earliest == math.inf
    later, first = exact(timers, 3.0), exact(timers, 2.0)
    timers.admit()
    assert timers.earliest == 2.0
    first.cancel()
    assert timers.earliest == -math.inf
    assert timers.pop_due(1.0) == []
    assert timers.earliest == -math.inf
    assert timers.next_when() == 3.0
    assert timers.pop_due(1.0) == []
    assert timers.earliest == 3.0
    other = tolerant(timers, 4.0, 1.0)
    timers.admit()
    assert timers.earliest == -math.inf
    assert timers.pop_due(3.0) == [later]
    assert timers.earliest == -math.inf
    assert timers.pop_due(4.0) == [other]
    assert timers.earliest == math.inf
    exact(timers, 5.0)
    timers.admit()
    timers.clear()
    assert timers.earliest == math.inf


def test_timers_that_were_due_when_set_come_by_their_times(timers: TimerQueue) -> None:
    loop = Loop(timers)
    set_second, set_first = (TimerHandle(when, print, (), loop, Context()) for when in (2.0, 1.0))
    timers.add_overdue(set_second)
    timers.add_overdue(set_first)
    assert timers.all() == [set_first, set_second]
    assert timers.pop_due(10.0) == []
    assert timers.pop_overdue() == [set_first, set_second]
    assert timers.pop_overdue() == []


def test_all_timers_can_be_replaced_and_dropped(timers: TimerQueue) -> None:
    exact(timers, 1.0)
    tolerant(timers, 2.0, 1.0)
    timers.admit()
    other = TimerHandle(5.0, print, (), Loop(timers), Context())
    timers.replace([other])
    assert timers.all() == [other]
    timers.admit()
    assert timers.next_when() == 5.0
    timers.clear()
    assert timers.all() == []
    assert timers.next_when() is None


def test_a_timer_that_a_thread_adds_during_the_admission_is_not_lost(timers: TimerQueue) -> None:
    class Interrupted(TimerHandle):
        __slots__ = ()

        @property
        def _cancelled(self) -> bool:  # read while the queue walks its new timers
            if not added:
                added.append(exact(timers, 2.0))
            return False

        @_cancelled.setter
        def _cancelled(self, value: bool) -> None: ...

    added: list[TimerHandle] = []
    first = Interrupted(1.0, print, (), Loop(timers), Context())
    timers.new.append(first)
    timers.admit()
    assert timers.new == added
    timers.admit()
    assert timers.pop_due(2.0) == [first, *added]


def test_a_timer_that_has_left_is_not_scheduled_any_more(timers: TimerQueue) -> None:
    due, dropped = exact(timers, 1.0), tolerant(timers, 2.0, 1.0)
    timers.admit()
    assert due._scheduled is True
    timers.pop_due(1.0)
    timers.clear()
    assert due._scheduled is dropped._scheduled is False
    assert not timers.has_tolerant()
    assert tolerant(timers, 3.0, 1.0) in timers.all()


@pytest.mark.parametrize(("due", "later"), [(3, 2), (1, 0)])
def test_a_cancelled_exact_timer_that_leaves_is_not_counted_any_more(timers: TimerQueue, due: int, later: int) -> None:
    cancelled = [exact(timers, 1.0) for _ in range(due)] + [exact(timers, 9.0) for _ in range(later)]
    timers.admit()
    for timer in cancelled:
        timer.cancel()
    assert timers.pop_due(1.0) == []
    assert timers.cancelled == later


def test_a_cancellation_that_was_not_counted_takes_nothing_from_the_count(timers: TimerQueue) -> None:
    """A thread is in the middle of it."""
    for when in (1.0, 2.0):
        exact(timers, when)
    timers.admit()
    for timer in timers.all():
        timer._cancelled = True
    assert timers.pop_due(1.0) == []
    assert timers.cancelled == 0


@pytest.mark.parametrize("tolerance", [None, 0.5])
def test_a_cancelled_timer_waits_no_longer_and_counts_once(timers: TimerQueue, tolerance: float | None) -> None:
    timer = exact(timers, 1.0) if tolerance is None else tolerant(timers, 1.0, tolerance)
    timers.admit()
    timer.cancel()
    timer.cancel()
    assert timers.cancelled == 1
    timers.clear()
    assert timers.cancelled == 0


def test_the_count_of_cancelled_timers_never_falls_below_zero(timers: TimerQueue) -> None:
    timer = exact(timers, 1.0)
    timers.admit()
    timer.cancel()
    timers.cancelled = 0  # a purge has counted it already
    assert timers.next_when() is None
    assert timers.cancelled == 0
