"""What all sources share: a descriptor on the loop, a bounded queue, callbacks, counters, and a way back from failure.

A source is anything with `fileno()` and `on_readable()`; that is all that `loop.register` asks for. `Source` is the
base for one's own. It promises:

- one failure stays one failure: an exception from the device closes this source (or, with `reopen=`, has it try
  again with growing pauses) and is reported once; one from a callback is reported, and the rest goes on;
- nothing is lost silently: what the device lost and what a full queue dropped is counted, and the next event
  delivered carries the count;
- closing is harmless when repeated and wakes whoever waits.

Sources work on any asyncio loop: hwloop's registers them with their priority, another one gets a plain `add_reader`.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Self, TypeVar

from hwloop.scheduling import Priority, as_priority
from hwloop.sources.rate_limit import Moderator, RateLimit
from hwloop.stats import SourceStatistics

E = TypeVar("E")
WhenFull = Literal["drop-oldest", "drop-newest", "pause"]
_POLICIES = ("drop-oldest", "drop-newest", "pause")


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts to reopen a source, in seconds: `initial`, then `factor` times the last, to `maximum`."""

    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 30.0

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1):
            raise ValueError(f"a backoff needs 0 < initial <= maximum and factor >= 1, not {self}")

    def pause(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt`, counted from 0."""
        # The exponent is capped where any useful factor is past its maximum, so that years of retries can't overflow.
        return min(self.initial * self.factor ** min(attempt, 64), self.maximum)


class Source(ABC, Generic[E]):
    """A device whose events arrive through a file descriptor.

    A subclass says how to `connect()`, `receive()` and `disconnect()`; users get `async with`, `async for`,
    callbacks, `statistics()` and `close()`.

    Parameters:
        name: for messages and statistics.
        priority: how soon its handler runs once the descriptor is readable.
        queue_size: events kept for `async for` (at least 1).
        when_full: "drop-oldest" (the newest state counts), "drop-newest" (the first reports count), or "pause":
            stop reading until there is room, so that the kernel's own buffer or the sender waits. With "pause" the
            queue may exceed its size by what one read brings.
        reopen: how to come back after the device fails; None closes the source for good.
        rate_limit: the most reads a second; over it the source is off the loop now and then, and the kernel's buffer
            collects. A read takes all that is there, so this bounds wakeups, not events. A `RateLimit` for the burst.

    Attributes:
        deadline: seconds within which the handler should run once a look has found the descriptor readable; None for
            no deadline. Set it before the source is opened. Misses are counted by the loop.
        at_end: functions that are called when the source is closed, or has failed for good.
    """

    deadline: float | None = None

    def __init__(
        self,
        *,
        name: str,
        priority: Priority = Priority.NORMAL,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        reopen: Backoff | None = None,
        rate_limit: RateLimit | float | None = None,
    ) -> None:
        if queue_size < 1:
            raise ValueError(f"{name}: queue_size must be at least 1, not {queue_size!r}")
        if when_full not in _POLICIES:
            raise ValueError(f"{name}: when_full must be one of {', '.join(_POLICIES)}, not {when_full!r}")
        if not (reopen is None or isinstance(reopen, Backoff)):
            raise TypeError(f"{name}: reopen must be a Backoff or None, not {reopen!r}")
        self.name = name
        self.priority = as_priority(priority)
        self._queue: collections.deque[E] = collections.deque()
        self._queue_size = queue_size
        self._when_full = when_full
        self._reopen = reopen
        self._limit: Moderator | None = None
        if rate_limit is not None:
            self._limit = Moderator(rate_limit, name, self._stop_reading, self._resume_reading)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._fd = -1
        self._reading = False
        self._closed = False
        self._iterated = False
        self.at_end: list[Callable[[], object]] = []
        self._callbacks: list[Callable[[E], object]] = []
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._failure: Exception | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._unreported_drops = 0
        self._wakeups = self._received = self._delivered = self._dropped = 0
        self._lost = self._errors = self._reopened = 0

    # What a subclass provides.

    @abstractmethod
    def connect(self) -> int:
        """Open the device and return the non-blocking descriptor to watch. Raise to refuse; leave nothing open then."""

    @abstractmethod
    def receive(self) -> Iterable[E]:
        """Read and decode what is there now, without blocking. Raise where the device is gone."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close what `connect()` opened."""

    def with_lost(self, event: E, lost: int) -> E:
        """`event` with `lost` added to its count of lost predecessors. Events without such a field stay as they are."""
        return event

    # What a user calls.

    def open(self) -> Self:
        """Open the device and register with the running loop. `async with` does it too."""
        if self._closed:
            raise RuntimeError(f"{self.name} is closed; make a new one")
        if self._loop is not None:
            raise RuntimeError(f"{self.name} is open already")
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        try:
            self._connect()
        except BaseException:
            self._loop = None
            raise
        return self

    def close(self) -> None:
        """Give the device back and wake whoever waits for an event. Events already queued can still be read."""
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        try:
            self._drop_device()
        finally:
            self._wake_all()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called or the device failed for good."""
        return self._closed

    @property
    def failure(self) -> Exception | None:
        """What the device failed with, where that has ended the source."""
        return self._failure

    @property
    def forked(self) -> bool:
        """Whether it was opened by a process of which this one is a forked child. Then only closing it makes sense."""
        return self._process not in (0, os.getpid())

    def fileno(self) -> int:
        """The descriptor being watched; -1 while there is none."""
        return self._fd

    def add_callback(self, callback: Callable[[E], object]) -> None:
        """Call `callback(event)` straight from the reader: the low-latency way. One that raises is reported.

        With callbacks and no `async for`, events are not queued.
        """
        if not callable(callback):
            raise TypeError(f"{self.name}: a callback must be callable, not {callback!r}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"{self.name}: a callback must be a plain function; for coroutines use 'async for'")
        self._callbacks.append(callback)

    def remove_callback(self, callback: Callable[[E], object]) -> None:
        """Take a callback off again. ValueError if it is not there."""
        self._callbacks.remove(callback)

    def statistics(self) -> SourceStatistics:
        """The counters so far."""
        return SourceStatistics(
            name=self.name,
            wakeups=self._wakeups,
            received=self._received,
            delivered=self._delivered,
            dropped=self._dropped,
            lost=self._lost,
            errors=self._errors,
            reopened=self._reopened,
            queued=len(self._queue),
            limited=self._limit.times if self._limit is not None else 0,
            limited_seconds=self._limit.seconds if self._limit is not None else 0.0,
        )

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        self._iterated = True
        return self

    async def __anext__(self) -> E:
        while not self._queue:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            if self._loop is None:
                raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
            await self._wait()
        return self._take()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._fd >= 0 else "waiting" if self._retry else "new"
        return f"<{type(self).__name__} {self.name} {state}>"

    # How it runs.

    def on_readable(self) -> None:
        """The descriptor is readable: called by the loop."""
        self._wakeups += 1
        if not self._within_limit():
            return
        try:
            for event in self.receive():
                self.deliver(event)
                if self._closed:  # by a callback, which then wants no more
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except Exception as error:
            self.fail(error)

    def deliver(self, event: E) -> None:
        """Hand one event to the callbacks and the queue."""
        self._received += 1
        if self._callbacks:
            self._call(event)
            if not self._iterated:
                self._delivered += 1
                return
        queue = self._queue
        if len(queue) >= self._queue_size:
            if self._when_full == "pause":
                self._stop_reading()
            else:
                self._dropped += 1
                self._unreported_drops += 1
                if self._when_full == "drop-newest":
                    return
                queue.popleft()
        elif self._unreported_drops and self._when_full == "drop-newest":
            event = self.with_lost(event, self._unreported_drops)
            self._unreported_drops = 0
        queue.append(event)
        self._wake_one()

    def count_lost(self, count: int) -> None:
        """Count events that the device or the kernel lost. The subclass puts the number on the next event itself."""
        self._lost += count

    def fail(self, error: Exception) -> None:
        """The device failed: close it, then come back later (with `reopen=`) or end the source with `error`."""
        self._errors += 1
        try:
            self._drop_device()
        except Exception as second:
            error.add_note(f"closing it then failed too: {second!r}")
        if self._reopen is not None and not self._closed:
            self._report(f"{self.name} failed; it is reopened as soon as that works", error)
            self._schedule_reopen(0)
            return
        waited_for = any(not waiter.done() for waiter in self._waiters)
        self._closed = True
        self._failure = error
        if not waited_for:
            self._report(f"{self.name} failed and is closed", error)
        self._wake_all()

    def _now_ns(self) -> int:
        """The loop's time: nanoseconds, on a real board CLOCK_MONOTONIC."""
        assert self._loop is not None
        return round(self._loop.time() * 1e9)

    def _take(self) -> E:
        event = self._queue.popleft()
        self._delivered += 1
        if self._unreported_drops and self._when_full == "drop-oldest":
            event = self.with_lost(event, self._unreported_drops)
            self._unreported_drops = 0
        if not self._reading and len(self._queue) <= self._queue_size // 2:
            self._resume_reading()
        return event

    async def _wait(self) -> None:
        assert self._loop is not None
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            # Woken and cancelled in the same turn: hand the wake-up on, or the next consumer would sleep on it.
            if waiter.done() and not waiter.cancelled():
                self._wake_one()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiters:
            self._wake_one()
        for callback in tuple(self.at_end):
            callback()

    def _call(self, event: E) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception as error:
                self._errors += 1
                self._report(f"{self.name}: exception in callback {callback!r}", error)

    def _connect(self) -> None:
        """Open the device and watch it; where either fails, nothing is left open."""
        self._fd = self.connect()
        try:
            self._start_reading()
        except BaseException:
            self._drop_device()
            raise

    def _start_reading(self) -> None:
        assert self._loop is not None
        register = getattr(self._loop, "register", None)
        if register is not None:
            register(self)
        else:
            self._loop.add_reader(self._fd, self.on_readable)
        self._reading = True

    def _stop_reading(self) -> None:
        if not self._reading:
            return
        assert self._loop is not None
        self._reading = False
        # A forked child shares the parent's epoll set: what it takes out is gone for both.
        if self._loop.is_closed() or self.forked:
            return
        unregister = getattr(self._loop, "unregister", None)
        if unregister is None:
            self._loop.remove_reader(self._fd)
            return
        try:
            unregister(self)
        except KeyError:
            pass  # the loop is being closed and has let go of it already

    def _within_limit(self) -> bool:
        """Whether the device may be read once more now; if not, reading stops until the rate limit allows it."""
        if self._limit is None:
            return True
        assert self._loop is not None
        return self._limit.admit(self._loop)

    def _resume_reading(self) -> None:
        """Read again, unless there is another reason not to."""
        limited = self._limit is not None and self._limit.off
        full = self._when_full == "pause" and len(self._queue) >= self._queue_size
        if self._fd >= 0 and not limited and not full:
            self._start_reading()

    def _drop_device(self) -> None:
        if self._limit is not None:
            self._limit.end()
        if self._fd >= 0:
            try:
                self._stop_reading()
            finally:
                try:
                    self.disconnect()
                finally:
                    self._fd = -1

    def _schedule_reopen(self, attempt: int) -> None:
        assert self._loop is not None
        assert self._reopen is not None
        self._retry = self._loop.call_later(self._reopen.pause(attempt), self._try_reopen, attempt)

    def _try_reopen(self, attempt: int) -> None:
        self._retry = None
        try:
            self._connect()
        except Exception:
            # The outage was reported when it began; each vain attempt is counted only.
            self._errors += 1
            self._schedule_reopen(attempt + 1)
        else:
            self._reopened += 1

    def _report(self, message: str, error: Exception) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler({"message": message, "exception": error, "source": self})
