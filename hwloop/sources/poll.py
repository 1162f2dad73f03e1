"""Readings taken again and again: on a schedule that does not drift, or whenever a trigger signals that data is ready.

A sensor on a bus does not report by itself; somebody has to ask. `Poll` asks, and its `Channel` delivers the answers.
At most one reading is under way: where the bus is slower than the schedule, readings are skipped and counted, never
piled up. A failed reading is counted too and reported once for each outage, and the poll goes on.

One reading takes these steps: `_on_time` (or `_on_trigger`) starts the task, `_take_reading` awaits the program's
`read` and puts the value into the channel, and the consumer takes it from there.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from hwloop.board import Edge
from hwloop.core import clock
from hwloop.core.naming import short_name, users_place
from hwloop.core.periodic_timer import Schedule
from hwloop.core.statistics import SourceStatistics
from hwloop.core.urgency import Priority, as_priority
from hwloop.scheduling.cooperative import scheduled
from hwloop.sources.containment import EXITS, ends_task, logger, run_hooks
from hwloop.sources.data_ready import DataReady
from hwloop.sources.event_stream import EventStream
from hwloop.sources.intake import WhenFull
from hwloop.sources.rate_limit import Moderator, RateLimit
from hwloop.sources.source import Source

T = TypeVar("T")


class Reading(NamedTuple, Generic[T]):
    """One answer."""

    value: T
    timestamp_ns: int
    """When the reading began or, with a trigger, the kernel's timestamp of its edge: nanoseconds, CLOCK_MONOTONIC."""
    received_ns: int
    """When the loop had the value; same clock."""
    lost: int
    """Readings due between the previous delivered one and this: skipped, failed, or dropped by a full queue."""


class Opened(Protocol):
    """A bus or port that can be open or not."""

    def fileno(self) -> int:
        """Its descriptor; -1 while it is not open."""


class Poll(EventStream[Reading[T]]):
    """A stream of readings; made by the method `poll` of a bus or device.

    Parameters:
        through: the bus that the readings use. It has to be open before the poll is.
        read: called on the loop for each reading; returns an awaitable of the value.
        every: seconds from one reading to the next.
        trigger: a source of edges, such as `gpio.watch`; each edge causes a reading.
        rate_limit: readings a second, at most. Edges of the trigger that come meanwhile count as one.
        name, priority, queue_size, when_full: as for every `Source`. With "pause", no reading is made while the queue
            is full.

    The first reading is made at once, for a data-ready line that became active before the poll was opened never causes
    an edge. After each reading the poll reads the trigger's level, and while it is active, the poll reads again: at
    once, then with pauses that grow from 1 ms to 0.1 s (to 1 s while readings fail). A lost edge is found by one more
    look 0.05 s after the line was left idle. `data_ready` explains how the active level is known.

    Raises TypeError or ValueError for arguments that make no sense.
    """

    def __init__(
        self,
        through: Opened,
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
        super().__init__(name, queue_size, when_full)
        if not callable(read):
            raise TypeError(f"{name}: read must be a function that returns an awaitable, not {short_name(read)}")
        if (every is None) == (trigger is None):
            raise ValueError(f"{name}: give either every= (seconds) or trigger= (a source of edges)")
        self.priority: Priority = as_priority(priority)
        self._through = through
        self._read = read
        self._schedule = None if every is None else Schedule(every, None, "skip")
        self._due_ns = 0
        self._trigger = trigger
        self._ready = None if trigger is None else DataReady(trigger)
        self._limit: Moderator | None = None
        if rate_limit is not None:
            self._limit = Moderator(rate_limit, name, self.pause_reading, self.resume_reading)
        self._place = users_place(read)
        self._context = contextvars.Context()
        self._reading = False  # whether the schedule or the trigger is followed
        self._timer: asyncio.TimerHandle | None = None
        self._asked_ns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost_since = 0
        self._failures = 0  # in a row

    def open(self) -> Self:
        """Begin to read. `async with` and `async for` do it too.

        Raises RuntimeError without a running loop, for a poll that is open or closed, or if its bus is not open.
        """
        loop = self._loop_to_open_on()
        if self._through.fileno() < 0:
            raise RuntimeError(f"{self.name}: {short_name(self._through)} is not open; open it first")
        if self._trigger is not None:
            self._trigger.add_callback(self._on_trigger)
            self._trigger.at_reopen.append(self._look)
        self._note_open(loop)
        with scheduled(priority=self.priority):
            self._context = contextvars.copy_context()
        self._due_ns = self._now_ns()
        if self._trigger is not None:
            self._asked_ns = self._due_ns
        self._start_reading()
        return self

    def close(self) -> None:
        """Cancel the reading under way and wake the waiting consumers. Harmless when repeated.

        Queued readings can still be read.
        """
        if self.closed:
            return
        self._channel.ended = True
        try:
            if self._loop is not None:
                run_hooks((self._stop,), "closing it failed:", self.report_failure)
        finally:
            self._end()

    def statistics(self) -> SourceStatistics:
        """Return the counters so far. `errors` counts failed readings."""
        if self._limit is None:
            return super().statistics()
        return dataclasses.replace(super().statistics(), limited=self._limit.times, limited_seconds=self._limit.seconds)

    def __aiter__(self) -> AsyncIterator[Reading[T]]:
        # `async for reading in bus.poll(...)` is the shortest program there is, so it opens the poll.
        if self._loop is None and not self.closed:
            self.open()
        return super().__aiter__()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "new" if self._loop is None else "open"
        return f"<Poll {short_name(self)} {state}>"

    # For the channel and the rate limit: reading pauses and resumes.

    def pause_reading(self) -> None:
        """Begin no more readings."""
        self._reading = False
        self._channel.halted = True
        self._set_timer(None)

    def resume_reading(self) -> None:
        """Follow the schedule or the trigger again, unless the rate limit or a full queue forbids it."""
        limited = self._limit is not None and self._limit.off
        if not (self._reading or self.closed or limited or self._channel.holds_up):
            self._start_reading()

    def _start_reading(self) -> None:
        self._reading = True
        self._channel.halted = False
        if self._trigger is None:
            self._arm()
        else:
            self._look()

    def _stop(self) -> None:
        self.pause_reading()
        if self._limit is not None:
            self._limit.end()
        if self._trigger is not None:
            self._trigger.remove_callback(self._on_trigger)
            self._trigger.at_reopen.remove(self._look)
        if self._task is not None:
            self._task.cancel()

    def _within_limit(self) -> bool:
        assert self._loop is not None
        return self._limit is None or self._limit.admit(self._loop)

    # The schedule: the first reading at once, and whole periods from there, however late the readings before were.

    def _arm(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_at(clock.from_ns(self._due_ns), self._on_time, context=self._context)

    def _on_time(self) -> None:
        assert self._schedule is not None
        now_ns = self._now_ns()
        self._due_ns, skipped = self._schedule.next(now_ns)
        while self._due_ns <= now_ns:  # so late that this reading stands for the next one too
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
        # A reading under way may be older than the data that this edge announces: read once more afterwards.
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if pause is not None:
            assert self._loop is not None
            self._timer = self._loop.call_later(pause, self._look)

    def _miss(self, count: int) -> None:
        self._lost_since += count
        self._channel.lost += count

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
            if not self.closed:
                self._count_failure(error)
            return
        if self.closed:
            return
        if self._failures:
            logger.warning("%s: readings succeed again, after %d failed", short_name(self), self._failures)
            self._failures = 0
        self._lost_since -= lost
        self._channel.put(Reading(value, timestamp_ns, self._now_ns(), lost))

    def _count_failure(self, error: BaseException) -> None:
        self._errors += 1
        self._failures += 1
        self._miss(1)
        if self._failures == 1:
            message = f"{short_name(self)}: a reading failed ({self._place}); it is tried again each time one is due"
            self._report(message, error, outage="retried")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() and not self.closed:
            self._miss(1)
        if self._reading and self._ready is not None:
            self._look_again()
