"""The channel of a source: events on their way to callbacks and to the consumers that iterate over it.

A channel is a bounded queue with an overflow policy, the callbacks beside it, the consumers that wait, and the counters
of all of them. It knows no device and no schedule. Events come in through its `Intake`. It guarantees over any history:

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
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from hwloop.core.naming import short_name
from hwloop.sources.intake import Intake, Owner, WhenFull

E = TypeVar("E")


class Channel(Intake, Generic[E]):
    """The events of one source.

    Parameters:
        owner, queue_size, when_full: of its `Intake`.

    Attributes:
        ended: whether no more events will come.
        failure: the exception that has ended the channel, if one has.
    """

    __slots__ = ("_loop", "_taken", "ended", "failure")

    events: collections.deque[E]
    callbacks: list[Callable[[E], object]]
    consumers: int

    def __init__(self, owner: Owner, queue_size: int, when_full: WhenFull) -> None:
        super().__init__(owner, queue_size, when_full)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken = 0
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

    def _release(self) -> None:
        """Let an owner that waits for room look again. From any thread."""
        loop = self._loop
        owner = self._owner()
        if not self.halted or owner is None or loop is None or loop.is_closed():
            return
        call = loop.call_soon if asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # closed meanwhile, by another thread
            call(owner.resume_reading)


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
