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

from hwloop.board import Edge
from hwloop.core import clock
from hwloop.core.naming import short_name, users_place
from hwloop.core.urgency import Priority
from hwloop.scheduling.cooperative import scheduled
from hwloop.scheduling.periodic import Schedule
from hwloop.sources.base import Source, WhenFull
from hwloop.sources.containment import EXITS, ends_task, logger
from hwloop.sources.i2c.data_ready import DataReady
from hwloop.sources.rate_limit import RateLimit

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

    The first reading is made at once, for a data-ready line that was active before anybody looked would never give an
    edge. After each reading the trigger's level is looked at, and while it is active, the poll reads again: at once,
    then with pauses that grow from 1 ms to 0.1 s (to 1 s while readings fail). A lost edge is found by one more look
    0.05 s after the line was left idle. See `data_ready` for how the active level is known.
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
            raise TypeError(f"{name}: read must be a function that returns an awaitable, not {short_name(read)}")
        if (every is None) == (trigger is None):
            raise ValueError(f"{name}: give either every= (seconds) or trigger= (a source of edges)")
        self._device = through.fileno
        self._read = read
        self._schedule = None if every is None else Schedule(every, None, "skip")
        self._due_ns = 0
        self._trigger = trigger
        self._ready = None if trigger is None else DataReady(trigger)
        self._place = users_place(read)
        self._context = contextvars.Context()
        self._timer: asyncio.TimerHandle | None = None
        self._asked_ns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost_since = 0
        self._failures = 0  # in a row

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
            self._trigger.at_reopen.append(self._look)
            self._asked_ns = self._due_ns
        return fd

    def receive(self) -> Iterable[Reading[T]]:
        return ()

    def disconnect(self) -> None:
        if self._trigger is not None:
            self._trigger.remove_callback(self._on_trigger)
            self._trigger.at_reopen.remove(self._look)
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
        else:
            self._look()

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
        assert self._ready is not None
        self._ready.edge()
        # While a reading is under way, what this edge announces may be newer: read once more afterwards, for the last.
        if self._asked_ns is not None:
            self._miss(1)
        self._asked_ns = edge.timestamp_ns
        if self._task is None and self._reading:
            self._begin_asked()

    def _begin_asked(self) -> None:
        if self._asked_ns is not None and self._within_limit():
            asked_ns, self._asked_ns = self._asked_ns, None
            self._set_timer(None)
            self._context.run(self._begin, asked_ns)

    # A trigger's level.

    def _look(self) -> None:
        """Read if an edge has come, or if the line is active although none has."""
        assert self._ready is not None
        self._set_timer(None)
        if self._task is not None or not self._reading:
            return
        if self._asked_ns is None and self._ready.wants(self._failures > 0):
            self._asked_ns = self._now_ns()
        self._begin_asked()

    def _look_again(self) -> None:
        """A reading has ended: read again while the line is active, and see later whether an edge was lost."""
        assert self._ready is not None
        pause = self._ready.next_look(self._failures > 0)
        if self._asked_ns is not None:
            self._begin_asked()
        else:
            self._set_timer(pause)

    def _set_timer(self, pause: float | None) -> None:
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if pause is None else self._loop.call_later(pause, self._look)

    def _miss(self, count: int) -> None:
        self._lost_since += count
        self.count_lost(count)

    # One reading.

    def _begin(self, timestamp_ns: int) -> None:
        assert self._loop is not None
        if self._ready is not None:
            self._ready.begin()
        self._task = self._loop.create_task(self._take_reading(timestamp_ns, self._lost_since), name=self.name)
        self._task.add_done_callback(self._ended)

    async def _take_reading(self, timestamp_ns: int, lost: int) -> None:
        assert self._loop is not None
        try:
            value = await self._read()
        except EXITS:
            raise
        except BaseException as error:
            if ends_task(self._loop, error):
                raise
            if not self._closed:
                self._count_failure(error)
            return
        if self._closed:
            return
        if self._failures:
            logger.warning("%s: readings succeed again, after %d failed", short_name(self), self._failures)
            self._failures = 0
        self._lost_since -= lost
        self.deliver(Reading(value, timestamp_ns, self._now_ns(), lost))

    def _count_failure(self, error: BaseException) -> None:
        self._errors += 1
        self._failures += 1
        self._miss(1)
        if self._failures == 1:
            message = f"{short_name(self)}: a reading failed ({self._place}); it is tried again each time one is due"
            self._report(message, error, outage=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() and not self._closed:
            self._miss(1)
        if self._reading and self._ready is not None:
            self._look_again()
