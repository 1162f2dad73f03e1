"""The timer queue: timers until they are due, from `call_later`, `call_at` and `call_tolerant`.

Most timers are time-outs that never run: they are set, and cancelled before the loop polls again. So a new timer goes
into a list first, which costs least, and the next poll admits to a heap those that are still wanted. A cancelled
timer stays in the heap until its time has come or the cancelled ones are the majority.

Exact timers have a price: a thousand of them spread over time are a thousand wakeups, which cost several times as much
as the timers themselves. Where a millisecond more does not matter (time-outs, statistics, a blinking lamp), sd-event
and the kernel's timer slack let a timer say how much later it may run. Such a tolerant timer waits for whichever comes
first: the end of its tolerance, that of another timer, or a wakeup for something else. It never runs before its time.
The loop wakes for the tolerance that ends first and then runs all timers whose time has come, so no other choice of
times takes fewer wakeups.

Among timers of equal tolerance, the one that is due first is also the one that must run first. So there is a heap for
each tolerance, ordered by time, and the loop may sleep until the first of the heaps' heads plus their tolerance. A wait
is O(number of different tolerances). Exact timers are those of tolerance 0.

A timer that is due already when it is set must overtake nothing that asyncio would run before it. It waits apart, until
the batch ends (docs/guarantees.md, "Batches").
"""

from __future__ import annotations

import collections
import operator
from collections.abc import Iterable
from heapq import heapify
from typing import Any

from hwloop.core.handles import TolerantHandle
from hwloop.core.native import heappop, heappush

INFINITY = float("inf")

PURGE_AFTER = 64
"""Cancelled timers are purged once there are more than this many and they are the majority."""

Entry = tuple[float, int, Any]
"""The time, the order of arrival, and the timer."""

_WHEN = operator.attrgetter("_when")


class TimerQueue:
    """The timers of one loop. Times are loop times.

    Other threads and finalizers may set and cancel timers: setting appends to a list, cancelling marks the timer, and
    only the loop changes the heaps.

    Attributes:
        new: timers that are not admitted yet; one that is cancelled before the next poll never gets into a heap.
        earliest: when the first admitted timer is due; infinity without timers. Before that time there is no need to
            call `next_when` or `pop_due`. Minus infinity if only they can tell, because timers with a tolerance wait or
            timers have been cancelled.
        cancelled: an estimate of the cancelled timers in the heaps; it decides when to purge, and nothing else.
    """

    __slots__ = ("_exact", "_heaps", "_overdue", "_sequence", "cancelled", "earliest", "new")

    def __init__(self) -> None:
        self.new: list[Any] = []
        self.earliest: float = INFINITY
        self.cancelled: int = 0
        self._overdue: collections.deque[Any] = collections.deque()
        self._exact: list[Entry] = []
        self._heaps: dict[float, list[Entry]] = {0.0: self._exact}  # by tolerance
        self._sequence = 0

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

    def admit(self) -> None:
        """Move new timers to the heaps, except those that have been cancelled.

        In place, since another thread may be about to append to the list.
        """
        new, exact, heaps, sequence = self.new, self._exact, self._heaps, self._sequence
        for timer in (taken := new[:]):
            if not timer._cancelled:
                sequence += 1
                timer._scheduled = True
                if type(timer) is not TolerantHandle:
                    heap = exact
                elif (heap := heaps.get(timer.tolerance)) is None:  # type: ignore[assignment]
                    heap = heaps[timer.tolerance] = []
                heappush(heap, (timer._when, sequence, timer))
        self._sequence = sequence
        del new[: len(taken)]
        if len(heaps) > 1:
            self.earliest = -INFINITY
        elif exact and exact[0][0] < self.earliest:
            self.earliest = exact[0][0]

    def note_cancelled(self, timer: Any) -> None:
        """Count a timer of the queue that is cancelled, perhaps by another thread or a finalizer."""
        self.cancelled += 1
        self.earliest = -INFINITY

    def next_when(self) -> float | None:
        """Return the time by which the loop must wake for a timer; None if there is none."""
        wake = INFINITY
        for tolerance, heap in self._heaps.items():
            while heap and heap[0][2]._cancelled:
                heappop(heap)
                self.cancelled -= self.cancelled > 0
            if heap and (when := heap[0][0]) + tolerance < wake:
                wake = when + tolerance
        return wake if wake < INFINITY else None

    def pop_due(self, now: float) -> list[Any]:
        """Remove and return the timers that are due, by their times; equal ones in the order in which they were set."""
        if self.cancelled > PURGE_AFTER:
            self._purge()
        heaps, exact, due = self._heaps, self._exact, []
        heap = exact
        if len(heaps) > 1 and (tolerant := self._pop_tolerant(now)):
            if exact and exact[0][0] <= now:
                for entry in tolerant:
                    heappush(exact, entry)
            else:
                heap = tolerant  # a sorted list is a heap
        while heap and heap[0][0] <= now:  # 3. Never early
            timer = heappop(heap)[2]
            timer._scheduled = False
            if timer._cancelled:
                self.cancelled -= self.cancelled > 0
            else:
                due.append(timer)
        if len(heaps) > 1 or (exact and exact[0][2]._cancelled):
            self.earliest = -INFINITY
        else:
            self.earliest = exact[0][0] if exact else INFINITY
        return due

    def _pop_tolerant(self, now: float) -> list[Entry]:
        """Remove and return the entries of the due timers with a tolerance, in order."""
        entries, empty = [], 0.0
        for tolerance, heap in self._heaps.items():
            if tolerance:
                while heap and heap[0][0] <= now:
                    entries.append(heappop(heap))
                if not heap:
                    empty = tolerance
        if empty:
            del self._heaps[empty]  # one each time, as long as there are any
        entries.sort()
        return entries

    def has_tolerant(self) -> bool:
        """Return whether a timer with a tolerance waits."""
        return len(self._heaps) > 1 and any(heap for tolerance, heap in self._heaps.items() if tolerance)

    def all(self) -> list[Any]:
        """Return all timers by their times, including cancelled ones that are not dropped yet."""
        if not (self._exact or self.new or self._overdue or len(self._heaps) > 1):
            return []
        admitted = [timer for heap in list(self._heaps.values()) for _, _, timer in list(heap)]
        return sorted([*admitted, *list(self.new), *list(self._overdue)], key=_WHEN)

    def replace(self, timers: Iterable[Any]) -> None:
        """Replace all timers."""
        self.clear()
        self.new[:] = timers

    def clear(self) -> None:
        """Drop all timers."""
        for heap in self._heaps.values():
            for _, _, timer in heap:
                timer._scheduled = False
        self._exact.clear()
        self._heaps = {0.0: self._exact}
        self._overdue.clear()
        self.new.clear()
        self.cancelled = 0
        self.earliest = INFINITY

    def _purge(self) -> None:
        """Drop the cancelled timers if they are the majority. O(1) a timer, amortised."""
        if self.cancelled * 2 > sum(map(len, self._heaps.values())):
            self.cancelled = 0
            for heap in self._heaps.values():
                heap[:] = [entry for entry in heap if not entry[2]._cancelled]
                heapify(heap)
