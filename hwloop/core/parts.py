"""The parts of a loop: the objects that an event loop is composed of, made in the order in which they need one another.

`EventLoop` owns one set. A loop that keeps time differently, or orders its handles differently, passes a set of its own
(`hwloop.virtual.loop`). Each part is given the parts that it uses; none of them refers to the loop, so that a closed
loop is freed at once.
"""

from __future__ import annotations

import selectors

from hwloop.core.dispatch import Dispatcher
from hwloop.core.gc_schedule import GcSchedule
from hwloop.core.inheritance import PriorityInheritance
from hwloop.core.loop_clock import LoopClock
from hwloop.core.monitor import Monitor
from hwloop.core.poller import Poller
from hwloop.core.priority_queues import PriorityQueues
from hwloop.core.run_queue import RunQueue
from hwloop.core.source_table import SourceTable
from hwloop.core.timer_queue import TimerQueue
from hwloop.core.urgency import Urgencies


class Parts:
    """The parts of one loop.

    A subclass replaces parts by overriding the methods `make_…`, which are called in the order in which they stand, or
    `dispatcher_class`.
    """

    dispatcher_class: type[Dispatcher] = Dispatcher

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector: selectors.BaseSelector = selector
        self.clock: LoopClock = self.make_clock()
        self.monitor: Monitor = Monitor()
        self.urgencies: Urgencies = Urgencies()
        self.run_queue: RunQueue = self.make_run_queue()
        self.timers: TimerQueue = TimerQueue()
        self.poller: Poller = self.make_poller()
        self.sources: SourceTable = SourceTable(self.poller.descriptors)
        self.inheritance: PriorityInheritance = PriorityInheritance(self.urgencies, self.run_queue)
        self.gc_schedule: GcSchedule = self.make_gc_schedule()
        self.dispatcher: Dispatcher = self.dispatcher_class(
            self.clock,
            self.run_queue,
            self.timers,
            self.poller,
            self.sources,
            self.monitor,
            self.inheritance,
            self.gc_schedule,
        )

    def make_clock(self) -> LoopClock:
        """Return the loop's clock."""
        return LoopClock()

    def make_run_queue(self) -> RunQueue:
        """Return the run queue."""
        urgent = PriorityQueues(self.monitor.deadline_missed, self.monitor.note_found)
        return RunQueue(self.urgencies, self.clock, urgent)

    def make_poller(self) -> Poller:
        """Return the poller."""
        return Poller(self.selector, self.clock, self.run_queue.inbox)

    def make_gc_schedule(self) -> GcSchedule:
        """Return the schedule of garbage collections."""
        return GcSchedule(self.clock)
