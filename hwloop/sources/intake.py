"""The intake of a channel: where a source puts its events, which go to the callbacks and into the queue.

It is the half of `hwloop.sources.channel` that each event passes, whoever takes it, and counts. The compiled core makes
it an extension type.
"""

from __future__ import annotations

import asyncio
import collections
import sys
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal, Protocol, TypeVar, get_args

from hwloop.core.naming import named_place, short_name
from hwloop.sources.containment import EXITS

E = TypeVar("E")
WhenFull = Literal["drop-oldest", "drop-newest", "pause"]


class Owner(Protocol):
    """The source that a channel belongs to, as the channel sees it."""

    name: str

    def with_lost(self, event: Any, lost: int, /) -> Any:
        """Return `event` with `lost` added to its count of lost predecessors."""

    def report_failure(self, what: str, error: BaseException, /) -> None:
        """Count and report what user code raised."""

    def pause_reading(self) -> None:
        """The queue is full under the policy "pause": stop putting, and set `halted`."""

    def resume_reading(self) -> None:
        """There is room again, or no consumer is left to wait for: go on putting, unless something else forbids it."""


class Intake:
    """The events of one source on their way in.

    Parameters:
        owner: the source. It is referenced weakly, so that a closed source is freed at once.
        queue_size: events kept for consumers, at least 1. With "pause" there may be more: what one read brought.
        when_full: "drop-oldest", "drop-newest" or "pause".

    Attributes:
        events: those queued, oldest first.
        callbacks: called for each event.
        consumers: waiting consumers and open iterations: those that want each event, whatever callbacks do with it.
        received: events put in.
        dropped: events discarded by the full queue.
        lost: events that never reached the channel, as its owner counted them.
        owed: drops and losses of dropped events that no delivered event has carried yet.
        halted: whether the owner has stopped putting and waits for `resume_reading`.

    Raises TypeError or ValueError for a size or policy that does not exist.
    """

    __slots__ = (
        "_by_newest",
        "_direct",
        "_owner",
        "_size",
        "_waiters",
        "callbacks",
        "consumers",
        "dropped",
        "events",
        "halted",
        "lost",
        "owed",
        "received",
        "when_full",
    )

    def __init__(self, owner: Owner, queue_size: int, when_full: WhenFull) -> None:
        if isinstance(queue_size, bool) or not isinstance(queue_size, int):
            raise TypeError(f"{owner.name}: queue_size must be a whole number, not {short_name(queue_size)}")
        if queue_size < 1:
            raise ValueError(f"{owner.name}: queue_size must be at least 1, not {queue_size!r}")
        if queue_size > sys.maxsize:
            raise ValueError(f"{owner.name}: queue_size must be at most {sys.maxsize}")
        if when_full not in get_args(WhenFull):
            policies = ", ".join(get_args(WhenFull))
            raise ValueError(f"{owner.name}: when_full must be one of {policies}, not {short_name(when_full)}")
        self._owner = weakref.ref(owner)
        self._size = queue_size
        self.when_full = when_full
        self._by_newest = when_full == "drop-newest"
        self.events: collections.deque[Any] = collections.deque()
        self.callbacks: list[Callable[[Any], object]] = []
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self.consumers: int = 0
        self.received: int = 0
        self.dropped: int = 0
        self.lost: int = 0
        self.owed: int = 0
        self._direct = 0
        self.halted: bool = False

    def put(self, event: Any) -> None:
        """Hand one event to the callbacks, and queue it if a consumer may want it."""
        self.received += 1
        callbacks, events = self.callbacks, self.events
        room = len(events) < self._size
        beside = callbacks and not self.consumers
        if self.owed and (self._by_newest or not events) and (room or beside):
            event = self._carry(event)
        if beside:
            self._direct += 1
        elif room:
            events.append(event)
            if self._waiters:
                self._wake()
        else:
            self._overflow(event)
        if callbacks:
            for callback in tuple(callbacks):
                try:
                    callback(event)
                except EXITS:
                    raise
                except BaseException as error:
                    self._failed(f"exception in callback {named_place(callback)}", error)

    def put_all(self, events: Iterable[Any], is_over: Callable[[], bool] | None = None) -> bool:
        """Put events until none is left, the owner is halted, or `is_over()`. Return whether none is left."""
        for event in events:
            self.put(event)
            if self.halted or (is_over is not None and is_over()):
                return False
        return True

    def bypass(self, event: Any) -> Any:
        """Count an event that reaches its receiver without the queue, and return it with what it has to carry."""
        self.received += 1
        self._direct += 1
        return self._carry(event) if self.owed and (self._by_newest or not self.events) else event

    def take_back(self, event: Any) -> None:
        """Count an event as dropped that bypassed the queue and whose receiver has gone."""
        self._direct -= 1
        self._drop(event)

    def discard(self, event: Any) -> None:
        """Count an event that nobody will get."""
        self.received += 1
        self._drop(event)

    def discard_all(self, events: Iterable[Any]) -> None:
        """Count events that were read and that nobody will get. Those of a generator have not been read yet."""
        if not isinstance(events, Generator):
            for event in events:
                self.discard(event)

    def clear(self) -> None:
        """Drop all that is queued."""
        while self.events:
            self._drop(self.events.popleft())

    def _overflow(self, event: Any) -> None:
        """Make room for an event as the policy says, or drop it."""
        if self._by_newest:
            self._drop(event)
            return
        pausing = self.when_full == "pause"
        if not pausing:
            self._drop(self.events.popleft())
        self.events.append(event)
        self._wake()
        if pausing and (owner := self._owner()) is not None:
            owner.pause_reading()

    def _drop(self, event: Any) -> None:
        self.dropped += 1
        self.owed += 1 + lost_in(event)

    def _carry(self, event: Any) -> Any:
        """Return `event` with what is owed added to its losses."""
        owner = self._owner()
        owed, self.owed = self.owed, 0
        if owner is None:
            return add_lost(event, owed)
        try:
            return owner.with_lost(event, owed)
        except EXITS:
            raise
        except BaseException as error:
            self._failed(f"with_lost() failed; no event carries its count of {owed} lost events", error)
            return event

    def _wake(self) -> None:
        """Wake the consumer that has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _failed(self, what: str, error: BaseException) -> None:
        if (owner := self._owner()) is not None:
            owner.report_failure(what, error)


def lost_in(event: object) -> int:
    """Return the `lost` count of an event; 0 where it has none."""
    try:
        lost = getattr(event, "lost", 0)
        return lost if isinstance(lost, int) else 0
    except EXITS:
        raise
    except BaseException:
        return 0


def add_lost(event: E, lost: int) -> E:
    """Return a named tuple with `lost` added to its field of that name. Other events are returned as they are."""
    replace = getattr(event, "_replace", None)
    if replace is None or "lost" not in getattr(event, "_fields", ()):
        return event
    changed: E = replace(lost=lost_in(event) + lost)
    return changed
