"""Tolerant timers: timers that may run late, so that those within each other's tolerance share one wakeup.

Exact timers have a price: a thousand of them spread over time are a thousand wakeups, which cost several times as much
as the timers themselves. Where a millisecond more does not matter (time-outs, statistics, a blinking lamp), sd-event
and the kernel's timer slack let a timer say how much later it may run. It then waits for whichever comes first: the end
of its tolerance, that of another timer, or a wakeup for something else. It never runs before its time.

Among timers of equal tolerance, the one that is due first is also the one that must run first. So there is one queue
for each tolerance, ordered by time, and the loop may sleep until the first of the queues' heads plus its tolerance. A
wait is O(number of different tolerances).

Most of what a timer costs would be its way through a large heap. So timers are put unsorted into buckets, each for a
span of time as long as the tolerance, and only the first bucket is a heap: its timers share a wakeup anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

PURGE_AFTER = 64
"""Cancelled timers are purged once there are more than this many and they are the majority."""

SHORTEST_BUCKET = 1e-3
"""Seconds. Timers with a smaller tolerance have buckets of this length."""

Entry = tuple[float, int, Any]
"""The time, the order of arrival, and the timer."""


class ToleranceQueue:
    """The timers of one tolerance.

    Attributes:
        tolerance: seconds.
        near: a heap of the timers in the first bucket and before. It is empty only if all buckets are.
    """

    __slots__ = ("_buckets", "_first", "_length", "_numbers", "near", "tolerance")

    def __init__(self, tolerance: float) -> None:
        self.tolerance: float = tolerance
        self.near: list[Entry] = []
        self._length = max(tolerance, SHORTEST_BUCKET)
        self._first = 0  # the number of the first bucket: the time in bucket lengths
        self._buckets: dict[int, list[Entry]] = {}  # the others, by number
        self._numbers: list[int] = []  # and a heap of their numbers

    def add(self, entry: Entry) -> None:
        """Keep a timer."""
        number = int(entry[0] / self._length)
        if not self.near:
            self._first = number
        if number <= self._first:
            heappush(self.near, entry)
        elif number in self._buckets:
            self._buckets[number].append(entry)
        else:
            self._buckets[number] = [entry]
            heappush(self._numbers, number)

    def pop(self) -> Entry:
        """Remove and return the first timer. Raises IndexError if there is none."""
        entry = heappop(self.near)
        if not self.near and self._numbers:
            self._first = heappop(self._numbers)
            self.near = self._buckets.pop(self._first)
            self.near.sort()  # which makes a heap, faster than heapify
        return entry

    def all(self) -> list[Entry]:
        """Return all timers, in no particular order."""
        return [*self.near, *itertools.chain.from_iterable(self._buckets.values())]


class TolerantTimers:
    """The timers with a tolerance that are not due yet. Times are loop times.

    Other threads and finalizers may cancel timers, which only marks them: the loop alone changes the heaps.

    Attributes:
        waiting: the number of timers, including cancelled ones that are not dropped yet.
    """

    __slots__ = ("_cancelled", "_queues", "waiting")

    def __init__(self) -> None:
        self.waiting: int = 0
        self._queues: dict[float, ToleranceQueue] = {}  # by tolerance
        self._cancelled = 0  # an estimate; it decides when to purge, and nothing else

    def add(self, entry: Entry, tolerance: float) -> None:
        """Keep a timer that may run from its time on, and should run within its tolerance after that."""
        queue = self._queues.get(tolerance)
        if queue is None:
            queue = self._queues[tolerance] = ToleranceQueue(tolerance)
        queue.add(entry)
        timer = entry[2]
        timer.is_waiting = timer._scheduled = True
        self.waiting += 1

    def cancelled(self) -> None:
        """Count a cancelled timer that is not due yet."""
        self._cancelled += 1

    def __iter__(self) -> Iterator[Any]:
        """All timers, in no particular order."""
        return (timer for queue in list(self._queues.values()) for _, _, timer in queue.all())

    def wake_by(self, when: float | None) -> float | None:
        """Return the time by which the loop must wake, if other timers need it at `when` (None: never)."""
        for queue in self._queues.values():
            while queue.near and queue.near[0][2]._cancelled:
                queue.pop()
                self.waiting -= 1
                self._cancelled -= self._cancelled > 0
            if queue.near and (when is None or queue.near[0][0] + queue.tolerance < when):
                when = queue.near[0][0] + queue.tolerance
        return when

    def pop_due(self, now: float) -> list[Entry]:
        """Remove and return the timers that are due, by their times and in the order of arrival."""
        if self._cancelled > PURGE_AFTER and self._cancelled * 2 > self.waiting:
            self._purge()
        due, empty = [], []
        for queue in self._queues.values():
            while queue.near and queue.near[0][0] <= now:
                entry = queue.pop()
                timer = entry[2]
                self.waiting -= 1
                if timer._cancelled:
                    self._cancelled -= self._cancelled > 0
                else:
                    timer.is_waiting = timer._scheduled = False
                    due.append(entry)
            if not queue.near:
                empty.append(queue.tolerance)
        for tolerance in empty:
            del self._queues[tolerance]
        due.sort()
        return due

    def clear(self) -> None:
        """Drop all timers."""
        if not self._queues:
            return
        for timer in self:
            timer.is_waiting = timer._scheduled = False
        self._queues.clear()
        self.waiting = self._cancelled = 0

    def _purge(self) -> None:
        """Drop the cancelled timers, which are the majority."""
        self.waiting = self._cancelled = 0
        for tolerance, queue in list(self._queues.items()):
            fresh = self._queues[tolerance] = ToleranceQueue(tolerance)
            for entry in queue.all():
                if not entry[2]._cancelled:
                    fresh.add(entry)
                    self.waiting += 1
