"""Readings taken again and again: on a schedule that does not drift, or whenever a trigger says that data is ready.

A sensor on a bus does not speak of itself; somebody has to ask. `Poll` asks, and makes a source of the answers, with
the queue, callbacks and counters of all sources. At most one reading is under way: where the bus is slower than the
schedule, readings are skipped and counted, never piled up. A reading that fails is counted too, reported once for each
outage, and the poll goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from hwloop import clock
from hwloop.board import Edge
from hwloop.scheduling import Priority, scheduled
from hwloop.sources.base import Source, WhenFull
from hwloop.sources.rate_limit import RateLimit
from hwloop.timers import Schedule

T = TypeVar("T")
U = TypeVar("U")


class Reading(NamedTuple, Generic[T]):
    """One answer."""

    value: T
    timestamp_ns: int
    """When the reading began or, with a trigger, the kernel's timestamp of its edge: nanoseconds, CLOCK_MONOTONIC."""
    received_ns: int
    """When the loop had the value; same clock."""
    lost: int
    """Readings due between the previous delivered one and this: skipped, failed, or dropped by a full queue."""


class Poll(Source[Reading[T]]):
    """A source of readings; made by `Bus.poll`.

    Parameters:
        through: the source that the readings come through. Its descriptor is this one's too.
        read: called on the loop for each reading; returns an awaitable of the value.
        every: seconds from one reading to the next.
        trigger: read on each edge of this source instead.
        rate_limit: the most readings a second. Edges of the trigger that come meanwhile count as one.

    The first reading is made at once. With a trigger too: a data-ready line that was active before anybody looked
    stays so until the device is read, and would never give an edge.
    """

    def __init__(
        self,
        through: Source[U],
        read: Callable[[], Awaitable[T]],
        *,
        every: float | None = None,
        trigger: Source[Edge] | None = None,
        name: str,
        priority: Priority = Priority.NORMAL,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        rate_limit: RateLimit | float | None = None,
    ) -> None:
        super().__init__(
            name=name, priority=priority, queue_size=queue_size, when_full=when_full, rate_limit=rate_limit
        )
        if not callable(read):
            raise TypeError(f"{name}: read must be a function that returns an awaitable, not {read!r}")
        if (every is None) == (trigger is None):
            raise ValueError(f"{name}: give either every= (seconds) or trigger= (a source of edges)")
        self._device = through.fileno
        self._read = read
        self._schedule = None if every is None else Schedule(every, None, "skip")
        self._due_ns = 0
        self._trigger = trigger
        self._context = contextvars.Context()
        self._timer: asyncio.TimerHandle | None = None
        self._asked_ns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost_since = 0
        self._in_outage = False

    # What Source asks for. The readings' descriptor is the bus's; here reading means keeping the schedule.

    def connect(self) -> int:
        fd = self._device()
        if fd < 0:
            raise RuntimeError(f"{self.name}: what it reads through is not open")
        with scheduled(priority=self.priority):
            self._context = contextvars.copy_context()
        self._due_ns = self._now_ns()
        if self._trigger is not None:
            self._trigger.add_callback(self._on_trigger)
            self._asked_ns = self._due_ns
        return fd

    def receive(self) -> Iterable[Reading[T]]:
        return ()

    def disconnect(self) -> None:
        if self._trigger is not None:
            self._trigger.remove_callback(self._on_trigger)
        if self._task is not None:
            self._task.cancel()

    def with_lost(self, event: Reading[T], lost: int) -> Reading[T]:
        return event._replace(lost=event.lost + lost)

    def __aiter__(self) -> AsyncIterator[Reading[T]]:
        # `async for reading in bus.poll(...)` is the shortest program there is, so it opens the poll.
        if self._loop is None and not self._closed:
            self.open()
        return super().__aiter__()

    def _start_reading(self) -> None:
        self._reading = True
        if self._trigger is None:
            self._arm()
        elif self._task is None:
            self._begin_asked()

    def _stop_reading(self) -> None:
        self._reading = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The schedule: the first reading at once, and whole periods from it on, however late those before were.

    def _arm(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_at(clock.from_ns(self._due_ns), self._on_time, context=self._context)

    def _on_time(self) -> None:
        assert self._schedule is not None
        now_ns = self._now_ns()
        self._due_ns, skipped = self._schedule.next(now_ns)
        while self._due_ns <= now_ns:  # held up for so long that this reading is that one's
            self._miss(skipped + 1)
            self._due_ns, skipped = self._schedule.next(now_ns)
        self._arm()
        if self._task is None and self._within_limit():
            self._begin(now_ns)
        else:
            self._miss(1)

    def _on_trigger(self, edge: Edge) -> None:
        # While a reading is under way, what this edge announces may be newer: read once more afterwards, for the last.
        if self._asked_ns is not None:
            self._miss(1)
        self._asked_ns = edge.timestamp_ns
        if self._task is None and self._reading:
            self._begin_asked()

    def _begin_asked(self) -> None:
        if self._asked_ns is not None and self._within_limit():
            asked_ns, self._asked_ns = self._asked_ns, None
            self._context.run(self._begin, asked_ns)

    def _miss(self, count: int) -> None:
        self._lost_since += count
        self.count_lost(count)

    # One reading.

    def _begin(self, timestamp_ns: int) -> None:
        assert self._loop is not None
        self._task = self._loop.create_task(self._take_reading(timestamp_ns, self._lost_since), name=self.name)
        self._task.add_done_callback(self._ended)

    async def _take_reading(self, timestamp_ns: int, lost: int) -> None:
        try:
            value = await self._read()
        except Exception as error:
            if not self._closed:
                self._count_failure(error)
            return
        if self._closed:
            return
        self._in_outage = False
        self._lost_since -= lost
        self.deliver(Reading(value, timestamp_ns, self._now_ns(), lost))

    def _count_failure(self, error: Exception) -> None:
        self._errors += 1
        self._miss(1)
        if not self._in_outage:
            self._in_outage = True
            self._report(f"{self.name}: a reading failed; it is tried again each time one is due", error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() and not self._closed:
            self._miss(1)
        if self._reading:
            self._begin_asked()
