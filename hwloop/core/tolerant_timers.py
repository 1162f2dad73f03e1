"""Timers that may be late: those within each other's tolerance share one wakeup.

Exact timers have a price: a thousand of them spread over time are a thousand wakeups, which cost several times what
the timers do. Where a millisecond more does not matter (time-outs, statistics, a blinking lamp), sd-event and the
kernel's timer slack let a timer say how much later it may be. It then waits for whichever comes first: the end of its
tolerance, that of another, or a wakeup for something else. Never early: it runs from its time on.

Among timers of equal tolerance the one that is due first is also the one that must run first. So there is one heap for
each tolerance, ordered by time, and the loop may sleep until the first of the heaps' heads plus its tolerance. Adding
and taking a timer is O(log n), a wait O(number of different tolerances). Due ones are moved to the loop's own timers,
so they keep their place among these.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

_PURGE_AFTER = 64


class Tolerant:
    """The timers with a tolerance that are not due yet. Times are loop times.

    Other threads and finalizers may cancel timers, which marks these and no more: only the loop changes the heaps.

    Attributes:
        waiting: how many there are, cancelled ones that are not dropped yet included.
    """

    __slots__ = ("_cancelled", "_heaps", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._heaps: dict[float, list[tuple[float, int, Any]]] = {}  # by tolerance: (when, order of arrival, timer)
        self._cancelled = 0  # of these about; it decides when to purge, and nothing else

    def add(self, when: float, tolerance: float, sequence: int, timer: Any) -> None:
        """Keep a timer that may run from `when` on, and should by `when + tolerance`."""
        heap = self._heaps.get(tolerance)
        if heap is None:
            heap = self._heaps[tolerance] = []
        heappush(heap, (when, sequence, timer))
        timer._waiting = True
        self.waiting += 1

    def cancelled(self) -> None:
        """One of the timers, not due yet, was cancelled."""
        self._cancelled += 1

    def timers(self) -> list[Any]:
        """All that wait, in no order."""
        return [timer for heap in list(self._heaps.values()) for _, _, timer in list(heap)]

    def wake_by(self, when: float | None) -> float | None:
        """How long the loop may sleep, if it has nothing else to do until `when` (None: ever)."""
        for tolerance, heap in self._heaps.items():
            while heap and heap[0][2]._cancelled:
                heappop(heap)
                self.waiting -= 1
                self._cancelled -= self._cancelled > 0
            if heap and (when is None or heap[0][0] + tolerance < when):
                when = heap[0][0] + tolerance
        return when

    def release(self, time: float, timers: list[tuple[float, int, Any]]) -> None:
        """Move what is due at `time` to the loop's heap of timers."""
        if self._cancelled > _PURGE_AFTER and self._cancelled * 2 > self.waiting:
            self._purge()
        empty = []
        for tolerance, heap in self._heaps.items():
            while heap and heap[0][0] <= time:
                entry = heappop(heap)
                self.waiting -= 1
                if entry[2]._cancelled:
                    self._cancelled -= self._cancelled > 0
                    continue
                entry[2]._waiting = False
                entry[2]._scheduled = True
                heappush(timers, entry)
            if not heap:
                empty.append(tolerance)
        for tolerance in empty:
            del self._heaps[tolerance]

    def _purge(self) -> None:
        """Drop the cancelled timers, which are most of them."""
        self._cancelled = 0
        for heap in self._heaps.values():
            heap[:] = [entry for entry in heap if not entry[2]._cancelled]
            heapify(heap)
        self.waiting = sum(map(len, self._heaps.values()))

    def clear(self) -> None:
        for heap in self._heaps.values():
            for _, _, timer in heap:
                timer._waiting = False
        self._heaps.clear()
        self.waiting = self._cancelled = 0
