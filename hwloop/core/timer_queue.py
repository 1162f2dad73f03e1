"""The timer queue: timers until they are due, from `call_later`, `call_at` and `call_tolerant`.

Most timers are time-outs that never run: they are set, and cancelled before the loop polls again. So a new timer goes
into a list first, which costs least, and the next poll admits to the heap those that are still wanted. A cancelled
timer stays in the heap until its time has come or the cancelled ones are the majority.

A timer that is due already when it is set must overtake nothing that asyncio would run before it. It waits apart, until
the batch ends (docs/guarantees.md, "Batches").
"""

from __future__ import annotations

import collections
import operator
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Any

from hwloop.core.handles import TolerantHandle
from hwloop.core.tolerant_timers import PURGE_AFTER, Entry, TolerantTimers

INFINITY = float("inf")

_WHEN = operator.attrgetter("_when")
_TIMER = operator.itemgetter(2)  # of an entry


class TimerQueue:
    """The timers of one loop. Times are loop times.

    Other threads and finalizers may set and cancel timers: setting appends to a list, cancelling marks the timer, and
    only the loop changes the heap.

    Attributes:
        new: timers that are not admitted yet; one that is cancelled before the next poll never gets into the heap.
        earliest: when the first admitted timer is due; infinity without timers. Before that time there is no need to
            call `next_when` or `pop_due`. Minus infinity if only they can tell, because timers with a tolerance wait or
            timers have been cancelled.
        cancelled: an estimate of the cancelled timers in the heap; it decides when to purge, and nothing else.
    """

    __slots__ = ("_heap", "_overdue", "_sequence", "_tolerant", "cancelled", "earliest", "new")

    def __init__(self) -> None:
        self.new: list[Any] = []
        self.earliest: float = INFINITY
        self.cancelled: int = 0
        self._overdue: collections.deque[Any] = collections.deque()
        self._heap: list[Entry] = []
        self._sequence = 0
        self._tolerant = TolerantTimers()

    def add_overdue(self, timer: Any) -> None:
        """Keep a timer that was due when it was set, until the batch ends."""
        self._overdue.append(timer)

    def pop_overdue(self) -> list[Any]:
        """Remove and return the timers that were due when they were set, by their times."""
        timers = []
        while self._overdue:
            timers.append(self._overdue.popleft())
        timers.sort(key=_WHEN)
        return timers

    def add_tolerant(self, timer: TolerantHandle, tolerance: float) -> None:
        """Keep a timer that may run up to `tolerance` seconds after its time."""
        if self.new:
            self.admit()  # timers with equal times run in the order in which they were set
        self._sequence += 1
        self._tolerant.add((timer._when, self._sequence, timer), tolerance)
        self.earliest = -INFINITY

    def admit(self) -> None:
        """Move new timers to the heap, except those that have been cancelled.

        In place, since another thread may be about to append to the list.
        """
        new, heap = self.new, self._heap
        for timer in (taken := new[:]):
            if not timer._cancelled:
                self._sequence += 1
                timer._scheduled = True
                heappush(heap, (timer._when, self._sequence, timer))
        del new[: len(taken)]
        if heap and heap[0][0] < self.earliest:
            self.earliest = heap[0][0]

    def note_cancelled(self, timer: Any) -> None:
        """Count a timer of the queue that is cancelled, perhaps by another thread or a finalizer."""
        if type(timer) is TolerantHandle and timer.is_waiting:
            timer.is_waiting = False
            self._tolerant.cancelled()
        else:
            self.cancelled += 1
        self.earliest = -INFINITY

    def next_when(self) -> float | None:
        """Return the time by which the loop must wake for a timer; None if there is none."""
        heap = self._heap
        while heap and heap[0][2]._cancelled:
            heappop(heap)
            self.cancelled -= self.cancelled > 0
        when = heap[0][0] if heap else None
        return self._tolerant.wake_by(when) if self._tolerant.waiting else when

    def pop_due(self, now: float) -> list[Any]:
        """Remove and return the timers that are due, by their times; equal ones in the order in which they were set."""
        if self.cancelled > PURGE_AFTER:
            self._purge()
        heap, due = self._heap, []
        if self._tolerant.waiting:
            tolerant = self._tolerant.pop_due(now)
            if heap and heap[0][0] <= now:
                for entry in tolerant:
                    heappush(heap, entry)
            else:
                due = list(map(_TIMER, tolerant))
        while heap and heap[0][0] <= now:  # 3. Never early
            timer = heappop(heap)[2]
            timer._scheduled = False
            if timer._cancelled:
                self.cancelled -= self.cancelled > 0
            else:
                due.append(timer)
        if self._tolerant.waiting or (heap and heap[0][2]._cancelled):
            self.earliest = -INFINITY
        else:
            self.earliest = heap[0][0] if heap else INFINITY
        return due

    def has_tolerant(self) -> bool:
        """Return whether a timer with a tolerance waits."""
        return bool(self._tolerant.waiting)

    def all(self) -> list[Any]:
        """Return all timers by their times, including cancelled ones that are not dropped yet."""
        if not (self._heap or self.new or self._tolerant.waiting or self._overdue):
            return []
        waiting = [timer for _, _, timer in list(self._heap)]
        return sorted([*waiting, *self._tolerant, *list(self.new), *list(self._overdue)], key=_WHEN)

    def replace(self, timers: Iterable[Any]) -> None:
        """Replace all timers."""
        self.clear()
        self.new[:] = timers

    def clear(self) -> None:
        """Drop all timers."""
        self._heap.clear()
        self._tolerant.clear()
        self._overdue.clear()
        self.new.clear()
        self.cancelled = 0
        self.earliest = INFINITY

    def _purge(self) -> None:
        """Drop the cancelled timers if they are the majority of the heap. O(1) a timer, amortised."""
        if self.cancelled * 2 > len(self._heap):
            self.cancelled = 0
            self._heap[:] = [entry for entry in self._heap if not entry[2]._cancelled]
            heapify(self._heap)
