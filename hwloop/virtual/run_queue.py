"""The run queue of a loop in virtual time: other threads' calls wait for a rest, and a seed orders tasks' steps.

A call from another thread arrives at any moment of real time. If the loop took it in at once, the trace would depend on
the machine; so it waits until the loop is at rest, and several are taken in an order that does not depend on timing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from hwloop.core.loop_clock import LoopClock
from hwloop.core.priority_queues import PriorityQueues
from hwloop.core.run_queue import RunQueue
from hwloop.core.urgency import Urgencies
from hwloop.virtual.seeding import StepOrder


class Inbox(deque[Any]):
    """The calls that other threads have sent, each with its place among them."""

    def __init__(self, place: Callable[[Any], tuple[Any, ...]]) -> None:
        super().__init__()
        self._place = place

    def append(self, handle: Any) -> None:
        super().append((self._place(handle), handle))

    def take(self, count: int) -> list[Any]:
        """Remove and return the first `count` calls: by the age of the job or the thread, then in order of arrival."""
        found = [self.popleft() for _ in range(len(self))]
        found.sort(key=lambda entry: entry[0])  # stable
        self.extendleft(reversed(found[count:]))
        return [handle for _, handle in found[:count]]


class VirtualRunQueue(RunQueue):
    """A run queue whose order depends on nothing but the program and the seed.

    Attributes:
        step_order: orders the steps of ordinary tasks by the seed; None without a seed.
    """

    def __init__(
        self,
        urgencies: Urgencies,
        clock: LoopClock,
        urgent: PriorityQueues,
        inbox: Inbox,
        seeded: random.Random | None,
    ) -> None:
        super().__init__(urgencies, clock, urgent)
        self.inbox: Inbox = inbox
        self.step_order: StepOrder | None = None if seeded is None else StepOrder(seeded)

    def take_inbox(self) -> None:
        """Do nothing: calls from other threads are taken in when the loop is at rest."""

    def open_inbox(self, count: int) -> None:
        """Queue `count` of the calls that other threads have sent."""
        for handle in self.inbox.take(count):
            self.add(handle)

    def arrange(self) -> None:
        """Put the steps that have joined the ordinary work into the seed's order."""
        if self.step_order is not None:
            self.step_order.arrange(self.ordinary)
