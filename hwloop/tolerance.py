"""Timers that may be late: those within each other's tolerance share one wakeup.

Exact timers have a price: a thousand of them spread over time are a thousand wakeups, which cost several times what
the timers do. Where a millisecond more does not matter (time-outs, statistics, a blinking lamp), sd-event and the
kernel's timer slack let a timer say how much later it may be. It then waits for whichever comes first: the end of its
tolerance, that of another, or a wakeup for something else. Never early: it runs from its time on.

Two heaps hold them until they are due: by their time, to know which are, and by the last moment at which they may run,
to know how long the loop may sleep. Adding, taking and cancelling one is O(log n), amortised. Due ones are moved to the
loop's own timers, so they keep their place among these.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

_PURGE_AFTER = 64


class Tolerant:
    """The timers with a tolerance that are not due yet. Times are loop times.

    Attributes:
        waiting: the timers by number, which is their order of arrival.
    """

    __slots__ = ("_by_latest", "_by_when", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, Any] = {}
        # (time, number); what is not among `waiting` any more is skipped, and swept out when it is most of a heap.
        self._by_when: list[tuple[float, int]] = []
        self._by_latest: list[tuple[float, int]] = []

    def add(self, when: float, latest: float, number: int, timer: Any) -> None:
        """Keep a timer that may run from `when` on, and should by `latest`."""
        self.waiting[number] = timer
        heappush(self._by_when, (when, number))
        heappush(self._by_latest, (latest, number))

    def discard(self, number: int) -> None:
        """Forget a timer, if it is still here."""
        if self.waiting.pop(number, None) is not None:
            self._sweep()

    def wake_by(self, when: float | None) -> float | None:
        """How long the loop may sleep, if it has nothing else to do until `when` (None: ever)."""
        heap = self._by_latest
        while heap and heap[0][1] not in self.waiting:
            heappop(heap)
        if heap and (when is None or heap[0][0] < when):
            return heap[0][0]
        return when

    def release(self, time: float, timers: list[tuple[float, int, Any]]) -> None:
        """Move what is due at `time` to the loop's heap of timers."""
        heap = self._by_when
        while heap and heap[0][0] <= time:
            when, number = heappop(heap)
            timer = self.waiting.pop(number, None)
            if timer is not None:
                timer._scheduled = True
                heappush(timers, (when, number, timer))
        if len(self._by_latest) > _PURGE_AFTER:
            self._sweep()

    def clear(self) -> None:
        self.waiting.clear()
        self._by_when.clear()
        self._by_latest.clear()

    def _sweep(self) -> None:
        waiting = self.waiting
        for heap in (self._by_when, self._by_latest):
            if len(heap) > _PURGE_AFTER + 2 * len(waiting):
                heap[:] = [entry for entry in heap if entry[1] in waiting]
                heapify(heap)
