"""The events of a source on their way to the consumers that iterate over it.

The queue is bounded, and its account is exact over any history: each event that was put in has been taken, was dropped,
or is still there. A dropped event takes its own `lost` count with it, so what the queue still owes is the drops *and*
the losses that the dropped events knew of; the next event taken carries the sum.

An event belongs in the queue if somebody wants it. Without callbacks that is always so, for a consumer may come later.
Beside callbacks, only those who wait at the moment want it (`wait`), and those who hold an `Iteration`: the fact that
decides it is that `async for` drops its iterator as soon as the loop is left, by `break`, an exception or a
cancellation, so an iterator that has been freed is a consumer that has gone.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, Self, TypeVar

E = TypeVar("E")
WhenFull = Literal["drop-oldest", "drop-newest", "pause"]
POLICIES = ("drop-oldest", "drop-newest", "pause")


class EventQueue(Generic[E]):
    """A bounded queue with one of three policies, and the consumers that wait for its events.

    Parameters:
        name: the source's, for messages.
        size: events kept, at least 1. With "pause" there may be more: what one read brought.
        when_full: which event gives way to a new one, or "pause".

    Attributes:
        consumers: waiting consumers and open iterations: those who want each event, whatever callbacks do with it.
        dropped: events that gave way.
        taken: events that a consumer took.
        owed: events lost or dropped that no delivered event has told of.
    """

    __slots__ = ("_size", "_waiters", "consumers", "dropped", "events", "owed", "taken", "when_full")

    def __init__(self, name: str, size: int, when_full: WhenFull) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name}: queue_size must be a whole number, not {size!r}")
        if size < 1:
            raise ValueError(f"{name}: queue_size must be at least 1, not {size!r}")
        if when_full not in POLICIES:
            raise ValueError(f"{name}: when_full must be one of {', '.join(POLICIES)}, not {when_full!r}")
        self.when_full = when_full
        self.events: collections.deque[E] = collections.deque()
        self.consumers = self.dropped = self.taken = self.owed = 0
        self._size = size
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()

    @property
    def full(self) -> bool:
        """Whether there is no room for another event."""
        return len(self.events) >= self._size

    @property
    def emptied(self) -> bool:
        """Whether there is so much room again that a paused source had better be read."""
        return len(self.events) <= self._size // 2

    @property
    def waited_for(self) -> bool:
        """Whether a consumer waits that nothing has woken yet."""
        return any(not waiter.done() for waiter in self._waiters)

    @property
    def owed_by_new(self) -> bool:
        """Whether what is owed belongs to an event that comes now: the dropped ones came after all that are here."""
        return self.owed > 0 and (self.when_full == "drop-newest" or not self.events)

    def put(self, event: E) -> bool:
        """Append an event, or drop one as the policy says, and wake a consumer. False if reading should pause."""
        events = self.events
        room = len(events) < self._size
        if not room and self.when_full != "pause":
            room = True
            newest = self.when_full == "drop-newest"
            self.drop(event if newest else events.popleft())
            if newest:
                return True
        events.append(event)
        if self._waiters:
            self.wake()
        return room

    def drop(self, event: E) -> None:
        """Count an event that nobody will get, and owe it to the next one."""
        self.dropped += 1
        self.owed += 1 + lost_in(event)

    def clear(self) -> None:
        """Drop all that is here."""
        while self.events:
            self.drop(self.events.popleft())

    def settle(self) -> int:
        """Return what is owed, and owe it no more: the next event tells of it."""
        owed, self.owed = self.owed, 0
        return owed

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until there may be an event, or the source has ended."""
        waiter = loop.create_future()
        self._waiters.append(waiter)
        self.consumers += 1
        try:
            await waiter
        except BaseException:
            # Woken and cancelled in the same turn: hand the wake-up on, or the next consumer would sleep on it.
            if waiter.done() and not waiter.cancelled():
                self.wake()
            raise
        finally:
            self.consumers -= 1
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Wake the consumer that has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake every consumer."""
        while self._waiters:
            self.wake()


class Iteration(Generic[E]):
    """An iterator over a source's events: what `async for` holds while it runs. Freed, it is a consumer less.

    Parameters:
        queue: the source's.
        take: waits for an event and returns it.
        left: called when the iterator has been freed, possibly in another thread.
    """

    __slots__ = ("_left", "_queue", "_take")

    def __init__(
        self, queue: EventQueue[E], take: Callable[[], Coroutine[Any, Any, E]], left: Callable[[], object]
    ) -> None:
        self._queue = queue
        self._take = take
        self._left = left
        queue.consumers += 1

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, E]:
        return self._take()

    def __del__(self) -> None:
        self._queue.consumers -= 1
        self._left()


def lost_in(event: object) -> int:
    """Return the `lost` count of an event; 0 where it has none."""
    try:
        lost = getattr(event, "lost", 0)
        return lost if isinstance(lost, int) else 0
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        return 0
