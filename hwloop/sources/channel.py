"""The channel of a source: events on their way to callbacks and to the consumers that iterate over it.

A channel is a bounded queue with an overflow policy, the callbacks beside it, the consumers that wait, and the counters
of all of them. It knows no device and no schedule. It guarantees over any history:

- each event that was put in has been delivered, was dropped, or is still queued: received = delivered + dropped +
  queued;
- a dropped event takes its own `lost` count with it. The channel owes the drops *and* the losses that the dropped
  events carried, and the next delivered event carries the sum;
- consumers are woken in the order in which they began to wait, and one that is cancelled as it is woken passes the
  wakeup on;
- a callback that raises is reported and harms neither the other callbacks nor the consumers.

An event is queued if somebody wants it. Without callbacks that is always so, for a consumer may come later. Beside
callbacks, only consumers that wait at the moment want it, and those that hold an `Iteration`: `async for` drops its
iterator as soon as the loop is left, by `break`, an exception or a cancellation, so a freed iterator is a consumer that
has gone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, get_args

from hwloop.core.naming import named_place, short_name
from hwloop.sources.containment import EXITS

E = TypeVar("E")
WhenFull = Literal["drop-oldest", "drop-newest", "pause"]


class Owner(Protocol[E]):
    """The source that a channel belongs to, as the channel sees it."""

    name: str

    def with_lost(self, event: E, lost: int, /) -> E:
        """Return `event` with `lost` added to its count of lost predecessors."""

    def report_failure(self, what: str, error: BaseException, /) -> None:
        """Count and report what user code raised."""

    def pause_reading(self) -> None:
        """The queue is full under the policy "pause": stop putting, and set `Channel.halted`."""

    def resume_reading(self) -> None:
        """There is room again, or no consumer is left to wait for: go on putting, unless something else forbids it."""


class Channel(Generic[E]):
    """The events of one source.

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
        ended: whether no more events will come.
        failure: the exception that has ended the channel, if one has.

    Raises TypeError or ValueError for a size or policy that does not exist.
    """

    __slots__ = (
        "_by_newest",
        "_direct",
        "_loop",
        "_owner",
        "_size",
        "_taken",
        "_waiters",
        "callbacks",
        "consumers",
        "dropped",
        "ended",
        "events",
        "failure",
        "halted",
        "lost",
        "owed",
        "received",
        "when_full",
    )

    def __init__(self, owner: Owner[E], queue_size: int, when_full: WhenFull) -> None:
        if isinstance(queue_size, bool) or not isinstance(queue_size, int):
            raise TypeError(f"{owner.name}: queue_size must be a whole number, not {short_name(queue_size)}")
        if queue_size < 1:
            raise ValueError(f"{owner.name}: queue_size must be at least 1, not {queue_size!r}")
        if when_full not in get_args(WhenFull):
            policies = ", ".join(get_args(WhenFull))
            raise ValueError(f"{owner.name}: when_full must be one of {policies}, not {short_name(when_full)}")
        self._owner = weakref.ref(owner)
        self._size = queue_size
        self.when_full = when_full
        self._by_newest = when_full == "drop-newest"
        self.events: collections.deque[E] = collections.deque()
        self.callbacks: list[Callable[[E], object]] = []
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.consumers: int = 0
        self.received: int = 0
        self.dropped: int = 0
        self.lost: int = 0
        self.owed: int = 0
        self._taken = 0
        self._direct = 0
        self.halted: bool = False
        self.ended: bool = False
        self.failure: Exception | None = None

    @property
    def delivered(self) -> int:
        """Events that a callback, a consumer or their receiver got."""
        return self._direct + self._taken

    @property
    def full(self) -> bool:
        """Whether the queue has no room for another event."""
        return len(self.events) >= self._size

    @property
    def wanted(self) -> bool:
        """Whether a callback or a consumer wants the next event."""
        return self.consumers > 0 or bool(self.callbacks)

    @property
    def waited_for(self) -> bool:
        """Whether a consumer is waiting that nothing has woken yet."""
        return any(not waiter.done() for waiter in self._waiters)

    @property
    def holds_up(self) -> bool:
        """Whether the owner has to wait for room: the queue is full, and its policy is "pause"."""
        return self.when_full == "pause" and self.full and (self.consumers > 0 or not self.callbacks)

    # For the owner.

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let consumers wait, on `loop`."""
        self._loop = loop

    def end(self, failure: Exception | None = None) -> None:
        """Wake every consumer. Queued events can still be taken; then `failure` is raised, or the iteration ends."""
        self.ended = True
        self.failure = failure
        self.wake_all()

    def put(self, event: E) -> None:
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

    def bypass(self, event: E) -> E:
        """Count an event that reaches its receiver without the queue, and return it with what it has to carry."""
        self.received += 1
        self._direct += 1
        return self._carry(event) if self.owed and (self._by_newest or not self.events) else event

    def take_back(self, event: E) -> None:
        """Count an event as dropped that bypassed the queue and whose receiver has gone."""
        self._direct -= 1
        self._drop(event)

    def discard(self, event: E) -> None:
        """Count an event that nobody will get."""
        self.received += 1
        self._drop(event)

    def clear(self) -> None:
        """Drop all that is queued."""
        while self.events:
            self._drop(self.events.popleft())

    # For callbacks and consumers.

    def add_callback(self, callback: Callable[[E], object]) -> None:
        """Call `callback(event)` for each event. Raises TypeError for a coroutine function."""
        owner = self._owner()
        if not callable(callback):
            raise TypeError(f"{short_name(owner)}: a callback must be callable, not {short_name(callback)}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"{short_name(owner)}: a callback must be a plain function; for coroutines use 'async for'")
        self.callbacks.append(callback)
        self._release()  # a full queue may have held up what goes to the callback now

    async def get(self) -> E:
        """Wait for the next event. Raises `failure` or StopAsyncIteration when no more will come."""
        events = self.events
        while not events:
            await self.wait()
        event = events.popleft()
        self._taken += 1
        if self.owed and not self._by_newest:
            event = self._carry(event)
        if self.halted and len(events) <= self._size // 2 and (owner := self._owner()) is not None:
            owner.resume_reading()
        return event

    async def wait(self) -> None:
        """Wait for an event, or for `wake_all()`. Raises as `check_open()` does."""
        loop = self._loop
        if loop is None or self.ended:
            loop = self.check_open()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        self.consumers += 1
        try:
            await waiter
        except BaseException:
            # Woken and cancelled in the same turn: the next consumer gets the wakeup, or it would sleep on it.
            if waiter.done() and not waiter.cancelled():
                self._wake()
            raise
        finally:
            self.consumers -= 1
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def check_open(self) -> asyncio.AbstractEventLoop:
        """Return the loop. Raises `failure` or StopAsyncIteration at the end, RuntimeError before the beginning."""
        if self.failure is not None:
            raise self.failure
        if self.ended:
            raise StopAsyncIteration
        if self._loop is None:
            raise RuntimeError(f"{short_name(self._owner())} is not open; use 'async with' or call open() first")
        return self._loop

    def wake_all(self) -> None:
        """Let every waiting consumer look again."""
        while self._waiters:
            self._wake()

    def leave(self) -> None:
        """A consumer has gone. Called from any thread."""
        self.consumers -= 1
        self._release()

    def _overflow(self, event: E) -> None:
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

    def _drop(self, event: E) -> None:
        self.dropped += 1
        self.owed += 1 + lost_in(event)

    def _carry(self, event: E) -> E:
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

    def _release(self) -> None:
        """Let an owner that waits for room look again. From any thread."""
        loop = self._loop
        owner = self._owner()
        if not self.halted or owner is None or loop is None or loop.is_closed():
            return
        call = loop.call_soon if asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # closed meanwhile, by another thread
            call(owner.resume_reading)

    def _failed(self, what: str, error: BaseException) -> None:
        if (owner := self._owner()) is not None:
            owner.report_failure(what, error)


class Iteration(Generic[E]):
    """An iterator over a channel's events: what `async for` holds while it runs. Freed, it is a consumer less.

    Parameters:
        owner: the source, which an iteration keeps alive.
        channel: the source's.
        take: waits for an event and returns it.
    """

    __slots__ = ("_channel", "_owner", "_take")

    def __init__(self, owner: object, channel: Channel[E], take: Callable[[], Coroutine[Any, Any, E]]) -> None:
        self._owner = owner
        self._channel = channel
        self._take = take
        channel.consumers += 1

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, E]:
        return self._take()

    def __del__(self) -> None:
        self._channel.leave()


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
