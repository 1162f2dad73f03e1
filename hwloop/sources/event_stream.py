"""The common interface of everything that yields events: sources, polls of a bus, and measurements made of edges.

A program opens and closes an event stream, iterates over it, and adds callbacks. The events travel through its
`Channel`.
"""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from hwloop.core.clock import to_ns
from hwloop.core.naming import short_name
from hwloop.core.statistics import SourceStatistics
from hwloop.sources.channel import Channel, Iteration
from hwloop.sources.containment import Outage, report, run_hooks
from hwloop.sources.intake import WhenFull, add_lost

E = TypeVar("E")


class EventStream(ABC, Generic[E]):
    """The base of sources, polls and measurements.

    Parameters:
        name: for messages and statistics.
        queue_size, when_full: of its `Channel`.

    Attributes:
        at_end: functions that are called when it is closed, or has failed for good.
    """

    def __init__(self, name: str, queue_size: int, when_full: WhenFull) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a source's name must be text, not {short_name(name)}")
        self.name = name
        self._channel: Channel[E] = Channel(self, queue_size, when_full)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._errors = 0
        self.at_end: list[Callable[[], object]] = []

    @abstractmethod
    def open(self) -> Self:
        """Begin on the running loop. `async with` does it too."""

    @abstractmethod
    def close(self) -> None:
        """End and wake the waiting consumers. Harmless when repeated. Queued events can still be read."""

    @property
    def closed(self) -> bool:
        """Whether `close()` was called or the device failed for good."""
        return self._channel.ended

    @property
    def failure(self) -> Exception | None:
        """The exception with which the device failed, where that has ended the source."""
        return self._channel.failure

    @property
    def callbacks(self) -> tuple[Callable[[E], object], ...]:
        """The callbacks, in the order in which they are called."""
        return tuple(self._channel.callbacks)

    def add_callback(self, callback: Callable[[E], object]) -> None:
        """Call `callback(event)` straight from the reader, with the lowest latency. One that raises is reported.

        With callbacks, an event is queued only if a consumer wants it: one that is in an `async for` (or keeps the
        iterator of `aiter(source)`), or that waits in `anext(source)` when the event comes. Both are served.
        """
        self._channel.add_callback(callback)

    def remove_callback(self, callback: Callable[[E], object]) -> None:
        """Remove a callback. Raises ValueError if it was not added."""
        self._channel.callbacks.remove(callback)

    def statistics(self) -> SourceStatistics:
        """Return the counters so far."""
        channel = self._channel
        return SourceStatistics(
            name=short_name(self),
            wakeups=0,
            received=channel.received,
            delivered=channel.delivered,
            dropped=channel.dropped,
            lost=channel.lost,
            errors=self._errors,
            reopened=0,
            queued=len(channel.events),
            limited=0,
            limited_seconds=0.0,
        )

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[E]:
        return Iteration(self, self._channel, self._channel.get)

    def __anext__(self) -> Coroutine[Any, Any, E]:
        return self._channel.get()

    # For its channel.

    def with_lost(self, event: E, lost: int) -> E:
        """Return `event` with `lost` added to its count of lost predecessors.

        A named tuple with a field `lost` is handled; override this for other kinds of events that have such a count.
        """
        return add_lost(event, lost)

    def report_failure(self, what: str, error: BaseException) -> None:
        """Count a failure of user code, and report it to the loop's exception handler as "<name>: <what>"."""
        self._errors += 1
        self._report(f"{short_name(self)}: {what}", error)

    def pause_reading(self) -> None:
        """Called by the channel when its queue is full and its policy is "pause"."""

    def resume_reading(self) -> None:
        """Called by the channel when there is room again."""

    # For subclasses.

    def _loop_to_open_on(self) -> asyncio.AbstractEventLoop:
        """Return the running loop. Raises RuntimeError without one, and for a stream that is open or closed."""
        if self.closed:
            raise RuntimeError(f"{self.name} is closed; make a new one")
        if self._loop is not None:
            raise RuntimeError(f"{self.name} is open already")
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"{self.name}: no running event loop; open it in a coroutine that hwloop.run() or asyncio.run() runs"
            ) from None

    def _note_open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let consumers wait, and list the stream among those that are open."""
        self._loop = loop
        self._channel.open(loop)
        _open[id(self)] = self

    def _report(self, message: str, error: BaseException, *, outage: Outage | None = None) -> None:
        report(self._loop, self, message, error, outage=outage)

    def _end(self, failure: Exception | None = None) -> None:
        _open.pop(id(self), None)
        self._channel.end(failure)
        run_hooks(self.at_end, "exception in at_end function", self.report_failure)

    def _now_ns(self) -> int:
        """The loop's time: nanoseconds, on a real board CLOCK_MONOTONIC."""
        assert self._loop is not None
        return to_ns(self._loop.time())


_open: weakref.WeakValueDictionary[int, EventStream[Any]] = weakref.WeakValueDictionary()
"""The streams that are open, by identity: a program's class may compare equal to anything."""


def open_streams(loop: asyncio.AbstractEventLoop) -> list[EventStream[Any]]:
    """Return the streams that are open on a loop, oldest first: also those whose device is away at the moment."""
    return [stream for stream in _open.values() if stream._loop is loop and not stream.closed]
