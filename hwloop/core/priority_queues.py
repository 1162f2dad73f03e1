"""Priority queues: ready handles that have a priority or a deadline.

Ordinary work (NORMAL, no deadline) never comes here; it waits in the run queue's FIFO, which costs least. This module
decides between it and the rest, in six ranks:

    0 INTERRUPT   1 HIGH   2 NORMAL with a deadline   3 ordinary work   4 LOW   5 IDLE

Three rules decide, and none depends on the clock's speed, so a trace can be predicted:

- the most urgent rank that waits goes first (promise 1), by (deadline, order of arrival);
- a rank that has been passed over `AGEING` times goes next, the least urgent such rank first, so that none starves
  (promise 5), and its count starts again. IDLE is separate: it runs only when a poll has found nothing else;
- an entry whose deadline has passed falls behind those that can still be met, keeps its rank, and is reported when it
  runs (promise 6).

Push and pick cost one heap operation, O(log n).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from hwloop.core.urgency import Priority, Urgency

AGEING = 8
"""A waiting rank goes next after it has been passed over this often. Counting the turns of other ranks that have waited
as long, the first handle in a rank runs after fewer than `2 * AGEING` other callbacks."""

ORDINARY = 3
_RANK = {Priority.INTERRUPT: 0, Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 4, Priority.IDLE: 5}
_IDLE = 5
_NEVER_PASSED = [0] * _IDLE

# (deadline, or infinity once it has passed; order of arrival; handle; deadline as requested; number of the batch)
_Entry = tuple[float, float, Any, float, int]


class PriorityQueues:
    """Ready handles that are not ordinary work.

    Its length is the number of entries that compete with ordinary work: all but IDLE.

    Attributes:
        waiting: non-zero while `pick` must be asked: entries compete, or ordinary work was passed over and has not run
            since. (Otherwise ordinary work would keep that credit until the next rush, and overtake urgent work then.)
        idle: the heap of IDLE entries.
        old: how many of the competing entries were queued when the current batch began.
    """

    __slots__ = (
        "_batch",
        "_found",
        "_heaps",
        "_latest",
        "_missed",
        "_owed",
        "_passed",
        "_sequence",
        "idle",
        "old",
        "waiting",
    )

    def __init__(self, missed: Callable[[Any, float], None], found: Callable[[Any, float], None]) -> None:
        """Call `missed(handle, seconds)` for each handle that runs after its deadline, and `found(handle, now)` for
        each ready descriptor or due timer that leaves."""
        self._heaps: list[list[_Entry]] = [[] for _ in range(_IDLE + 1)]
        self._passed = [0] * _IDLE
        self._sequence = itertools.count()
        self._missed = missed
        self._found = found
        self._batch = 0
        self._owed = 0  # 1 if ordinary work was passed over; `waiting` includes it
        self.waiting: int = 0
        self.old: int = 0
        self.idle: list[_Entry] = self._heaps[_IDLE]
        self._latest = self.idle  # the heap of the last push that competes

    def __len__(self) -> int:
        return self.waiting - self._owed

    def push(self, priority: Priority, deadline: float, handle: Any, places: float = 0) -> None:
        """Queue a handle; `deadline` is loop time, infinite if it has none.

        Up to `places` later handles of the same priority and deadline go before it.
        """
        rank = _RANK[priority]
        heap = self._heaps[rank]
        heappush(heap, (deadline, next(self._sequence) + places, handle, deadline, self._batch))
        if rank != _IDLE:
            self.waiting += 1
            self._latest = heap

    def pick(self, now: float, ordinary: bool) -> Any:
        """Return the handle that runs next, or None if ordinary work does; `ordinary` says whether any waits."""
        passed = self._passed
        if self.waiting == 1 and not ordinary and (heap := self._latest) and not heap[0][2]._cancelled:
            passed[:] = _NEVER_PASSED  # an edge that woke the loop: nothing else waits
            return self._pop(heap, now)
        if self.waiting == self._owed:
            self.waiting = self._owed = passed[ORDINARY] = 0
            return None
        chosen = -1
        for rank, heap in enumerate(self._heaps[:_IDLE]):
            # A cancelled entry does not use up a turn, but the dispatcher has to remove a watcher.
            while heap and heap[0][2]._cancelled and not hasattr(heap[0][2], "fd"):
                self._leaves(heappop(heap))
            if not (heap or (rank == ORDINARY and ordinary)):
                passed[rank] = 0
            elif chosen < 0 or passed[rank] >= AGEING:
                chosen = rank
        if chosen < 0:
            self.waiting = self._owed = 0
            return None
        for rank in range(chosen + 1, _IDLE):
            if self._heaps[rank] or (rank == ORDINARY and ordinary):
                passed[rank] += 1
        passed[chosen] = 0
        owed = 1 if passed[ORDINARY] else 0
        self.waiting += owed - self._owed
        self._owed = owed
        return None if chosen == ORDINARY else self._pop(self._heaps[chosen], now)

    def begin_batch(self) -> None:
        """Begin a batch: entries that compete now belong to it; later ones belong to the next."""
        self._batch += 1
        self.old = self.waiting - self._owed

    def pop_old(self, now: float, ordinary: bool) -> Any:
        """Return the next handle of the current batch, ignoring later ones; None as for `pick`."""
        for rank, heap in enumerate(self._heaps[:_IDLE]):
            if rank == ORDINARY and ordinary:
                return None
            new = [entry for entry in heap if entry[4] == self._batch]
            if len(new) == len(heap):
                continue
            heap[:] = [entry for entry in heap if entry[4] < self._batch]
            heapify(heap)
            try:
                return self._pop(heap, now)
            finally:
                heap.extend(new)
                heapify(heap)
        self.old = 0
        return None

    def pop_idle(self, now: float) -> Any:
        """Return the IDLE handle that runs next. Raises IndexError if there is none."""
        return self._pop(self.idle, now)

    def take(self, wanted: Callable[[Any, Urgency], bool], instead: Any) -> list[Any]:
        """Remove and return the wanted handles in order of arrival, and leave `instead` in their places. O(n).

        `wanted` is called with a handle and the urgency with which it is queued: its priority, and a deadline that is
        infinite or, because the requested seconds are not kept, not a number.
        """
        taken = []
        for priority, rank in _RANK.items():
            heap = self._heaps[rank]
            for place, (deadline, sequence, handle, asked, batch) in enumerate(heap):
                if wanted(handle, Urgency(priority, asked if asked == math.inf else math.nan)):
                    taken.append((sequence, handle))
                    heap[place] = (deadline, sequence, instead, asked, batch)
        return [handle for _, handle in sorted(taken, key=lambda pair: pair[0])]

    def clear(self) -> None:
        """Drop all entries."""
        for heap in self._heaps:
            heap.clear()
        self.waiting = self._owed = self.old = 0

    def _leaves(self, entry: _Entry) -> None:
        """Account for a competing entry that has left its heap."""
        self.waiting -= 1
        if self.old and entry[4] < self._batch:
            self.old -= 1

    def _pop(self, heap: list[_Entry], now: float) -> Any:
        while heap[0][0] < now:
            _, sequence, handle, deadline, batch = heappop(heap)
            heappush(heap, (math.inf, sequence, handle, deadline, batch))
        _, _, handle, deadline, batch = heappop(heap)
        if heap is not self.idle:  # `_leaves`, inlined
            self.waiting -= 1
            if self.old and batch < self._batch:
                self.old -= 1
        if hasattr(handle, "_scheduled"):  # a watcher or timer
            self._found(handle, now)
        if deadline < now and not handle.cancelled():
            self._missed(handle, now - deadline)
        return handle
