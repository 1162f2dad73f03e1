"""The run queue: everything that is ready to run, and the answer to "is there work?".

Ordinary work waits in a plain FIFO, which costs least: it is asyncio's own `_ready`, where test helpers look for it.
Descriptors and timers that a poll has found ready wait in a FIFO of their own, and go before ordinary work or in turn
with it. Handles with a priority or a deadline wait in priority queues. Calls from other threads arrive in an inbox and
are queued by the loop's own thread. The dispatch function (`hwloop.core.dispatch`) drains all of these.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
from typing import Any

from hwloop.core.bases import HandleQueue
from hwloop.core.handles import Watcher
from hwloop.core.loop_clock import LoopClock
from hwloop.core.priority_queues import PriorityQueues
from hwloop.core.urgency import NORMAL, Priority, Urgencies, Urgency, served_tasks

INFINITY = float("inf")


class RunQueue:
    """The ready handles of one loop.

    Attributes:
        ordinary: handles of NORMAL priority without a deadline, first come, first served.
        found: watchers and timers of the same urgency that polls have found ready or due.
        urgent: handles with a priority or a deadline.
        inbox: handles that other threads have sent, in the order of their calls.
        urgencies: the urgency of each handle.
        poll_after_batch: whether to poll at the end of the batch, even if the slice is not used up: a timer was set
            that is due by then, `stop()` was called, or the clock may have leapt.
    """

    def __init__(self, urgencies: Urgencies, clock: LoopClock, urgent: PriorityQueues) -> None:
        self.ordinary: collections.deque[Any] = HandleQueue()
        self.found: collections.deque[Any] = HandleQueue()
        self.urgent = urgent
        self.inbox: collections.deque[Any] = collections.deque()
        self.poll_after_batch = False
        self.urgencies: Urgencies = urgencies
        self._clock = clock

    def has_work(self) -> bool:
        """Return whether a handle other than an IDLE one is ready to run."""
        return bool(self.ordinary or self.found or self.urgent.waiting)

    def add(self, handle: Any) -> None:
        """Queue a handle by its urgency; a deadline counts from now."""
        if not self.urgencies.in_use or (urgency := self.urgencies.of(handle)) == NORMAL:
            self.ordinary.append(handle)
        else:
            self.urgent.push(urgency.priority, self._clock.now() + urgency.deadline, handle)

    def add_deadline(self, priority: Priority, deadline: float, handle: Any) -> None:
        """Queue a handle with a priority and a deadline in loop time."""
        if priority is Priority.NORMAL and deadline == INFINITY:
            self.take_inbox()
            self.ordinary.append(handle)
        else:
            self.urgent.push(priority, deadline, handle)

    def add_ready(self, watcher: Watcher) -> None:
        """Queue the watcher of a ready descriptor by its urgency; its deadline counts from the poll that found it."""
        if watcher.is_ordinary:
            self.found.append(watcher)
        else:
            deadline = INFINITY if watcher.deadline is None else watcher._when + watcher.deadline
            self.urgent.push(watcher.priority, deadline, watcher)

    def add_due(self, timers: list[Any]) -> None:
        """Queue due timers by their urgency; a deadline counts from the timer's time."""
        for timer in timers:
            urgency = self.urgencies.of(timer)
            if urgency == NORMAL:
                self.found.append(timer)
            else:
                self.urgent.push(urgency.priority, timer._when + urgency.deadline, timer)

    def take_inbox(self) -> None:
        """Queue the handles that other threads have sent."""
        inbox = self.inbox
        try:
            while inbox:
                self.add(inbox.popleft())
        except IndexError:
            pass  # another thread called `call_soon`, which programs do in spite of the documentation

    def requeue(self, task: asyncio.Task[Any]) -> None:
        """Move the handles that are queued for a task to where they belong now; what they leave behind is skipped."""

        def is_misplaced(handle: Any, queued: Urgency) -> bool:
            return task in served_tasks(handle) and self.urgencies.of(handle) != queued

        nothing = asyncio.Handle(print, (), task.get_loop(), contextvars.Context())
        nothing.cancel()
        moved = self.urgent.take(is_misplaced, nothing)
        for place, handle in enumerate(self.ordinary):
            if is_misplaced(handle, NORMAL):
                self.ordinary[place] = nothing
                moved.append(handle)
        for handle in moved:
            self.add(handle)

    def __len__(self) -> int:
        """The number of handles, IDLE ones included, without those in the inbox."""
        return len(self.ordinary) + len(self.found) + len(self.urgent) + len(self.urgent.idle)

    def clear(self) -> None:
        """Drop all handles."""
        self.ordinary.clear()
        self.found.clear()
        self.urgent.clear()
        self.inbox.clear()
