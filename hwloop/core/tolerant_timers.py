"""Tolerant timers: timers that may run late, so that those within each other's tolerance share one wakeup.

Exact timers have a price: a thousand of them spread over time are a thousand wakeups, which cost several times as much
as the timers themselves. Where a millisecond more does not matter (time-outs, statistics, a blinking lamp), sd-event
and the kernel's timer slack let a timer say how much later it may run. It then waits for whichever comes first: the end
of its tolerance, that of another timer, or a wakeup for something else. It never runs before its time.

Among timers of equal tolerance, the one that is due first is also the one that must run first. So there is one heap for
each tolerance, ordered by time, and the loop may sleep until the first of the heaps' heads plus its tolerance. Adding
and removing a timer is O(log n), a wait O(number of different tolerances).
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any

PURGE_AFTER = 64
"""Cancelled timers are purged once there are more than this many and they are the majority."""

Entry = tuple[float, int, Any]
"""The time, the order of arrival, and the timer."""


class TolerantTimers:
    """The timers with a tolerance that are not due yet. Times are loop times.

    Other threads and finalizers may cancel timers, which only marks them: the loop alone changes the heaps.

    Attributes:
        waiting: the number of timers, including cancelled ones that are not dropped yet.
    """

    __slots__ = ("_cancelled", "_heaps", "waiting")

    def __init__(self) -> None:
        self.waiting: int = 0
        self._heaps: dict[float, list[Entry]] = {}  # by tolerance
        self._cancelled = 0  # an estimate; it decides when to purge, and nothing else

    def add(self, entry: Entry, tolerance: float) -> None:
        """Keep a timer that may run from its time on, and should run within its tolerance after that."""
        heap = self._heaps.get(tolerance)
        if heap is None:
            heap = self._heaps[tolerance] = []
        heappush(heap, entry)
        entry[2].is_waiting = entry[2]._scheduled = True
        self.waiting += 1

    def cancelled(self) -> None:
        """Count a cancelled timer that is not due yet."""
        self._cancelled += 1

    def __iter__(self) -> Iterator[Any]:
        """All timers, in no particular order."""
        return (timer for heap in list(self._heaps.values()) for _, _, timer in list(heap))

    def wake_by(self, when: float | None) -> float | None:
        """Return the time by which the loop must wake, if other timers need it at `when` (None: never)."""
        for tolerance, heap in self._heaps.items():
            while heap and heap[0][2]._cancelled:
                heappop(heap)
                self.waiting -= 1
                self._cancelled -= self._cancelled > 0
            if heap and (when is None or heap[0][0] + tolerance < when):
                when = heap[0][0] + tolerance
        return when

    def pop_due(self, now: float) -> list[Entry]:
        """Remove and return the timers that are due."""
        if self._cancelled > PURGE_AFTER and self._cancelled * 2 > self.waiting:
            self._purge()
        due, empty = [], []
        for tolerance, heap in self._heaps.items():
            while heap and heap[0][0] <= now:
                entry = heappop(heap)
                self.waiting -= 1
                if entry[2]._cancelled:
                    self._cancelled -= self._cancelled > 0
                    continue
                entry[2].is_waiting = False
                due.append(entry)
            if not heap:
                empty.append(tolerance)
        for tolerance in empty:
            del self._heaps[tolerance]
        return due

    def clear(self) -> None:
        """Drop all timers."""
        if not self._heaps:
            return
        for timer in self:
            timer.is_waiting = timer._scheduled = False
        self._heaps.clear()
        self.waiting = self._cancelled = 0

    def _purge(self) -> None:
        """Drop the cancelled timers, which are the majority."""
        self._cancelled = 0
        for heap in self._heaps.values():
            heap[:] = [entry for entry in heap if not entry[2]._cancelled]
            heapify(heap)
        self.waiting = sum(map(len, self._heaps.values()))
