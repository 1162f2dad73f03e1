"""What all sources share: a descriptor on the loop, a bounded queue, callbacks, counters, and a way back from failure.

A source is anything with `fileno()` and `on_readable()`; that is all that `loop.register` asks for. `Source` is the
base for one's own. It promises:

- one failure stays one failure: an exception from the device closes this source (or, with `reopen=`, has it try
  again with growing pauses) and is reported once; one from a callback or hook is reported, and the rest goes on
  (`containment` has the rule);
- nothing is lost silently: what the device lost and what a full queue dropped is counted, and the next event
  delivered carries the count (`event_queue` keeps the account);
- a callback and a consumer are both served, together or one after the other;
- closing is harmless when repeated, completes whatever the device raises, and wakes whoever waits.

Sources work on any asyncio loop: hwloop's registers them with their priority, another one gets a plain `add_reader`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Generic, Self, TypeVar

from hwloop.core.naming import error_text, named_place, short_name
from hwloop.core.statistics import SourceStatistics
from hwloop.core.urgency import Priority, as_priority
from hwloop.sources.containment import EXITS, as_failure, report, run_hooks
from hwloop.sources.event_queue import EventQueue, Iteration, WhenFull
from hwloop.sources.rate_limit import Moderator, RateLimit
from hwloop.sources.reopening import Backoff, HookRunner, ReopenHook, Reopening

E = TypeVar("E")

__all__ = ["Backoff", "ReopenHook", "Source", "WhenFull"]


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
        on_reopen: a function or coroutine function, called with the source each time it has come back, to set up again
            what the device has forgotten. One that raises is reported; a new failure cancels one that still runs.
        rate_limit: the most reads a second; over it the source is off the loop now and then, and the kernel's buffer
            collects. A read takes all that is there, so this bounds wakeups, not events. A `RateLimit` for the burst.

    Attributes:
        deadline: seconds within which the handler should run once a look has found the descriptor readable; None for
            no deadline. Set it before the source is opened. Misses are counted by the loop.
        at_end: functions that are called when the source is closed, or has failed for good.
        at_reopen: functions that are called when it has come back, before `on_reopen`.
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
        on_reopen: ReopenHook | None = None,
        rate_limit: RateLimit | float | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a source's name must be text, not {short_name(name)}")
        if not (reopen is None or isinstance(reopen, Backoff)):
            raise TypeError(f"{name}: reopen must be a Backoff or None, not {short_name(reopen)}")
        self.name = name
        self.priority = as_priority(priority)
        self._queue: EventQueue[E] = EventQueue(name, queue_size, when_full)
        self._reopening = Reopening(reopen) if reopen is not None else None
        self._hook = HookRunner(on_reopen) if on_reopen is not None else None
        self._limit: Moderator | None = None
        if rate_limit is not None:
            self._limit = Moderator(rate_limit, name, self._stop_reading, self._resume_reading)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._fd = -1
        self._reading = False
        self._closed = False
        self._away = False  # the device has failed, and is not back
        self._opening = self._dropping = False
        self._failed_opening: BaseException | None = None
        self.at_end: list[Callable[[], object]] = []
        self.at_reopen: list[Callable[[], object]] = []
        self._callbacks: list[Callable[[E], object]] = []
        self._failure: Exception | None = None
        self._wakeups = self._received = self._received_before = self._passed_by = self._lost = self._errors = 0

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
        """Give the device back and wake whoever waits. Events already queued can still be read.

        Raises what the device raised, after everything else is done."""
        if self._closed:
            return
        self._closed = True
        self._stop_reopening()
        try:
            error = self._drop_device()
        finally:
            self._wake_all()
        if isinstance(error, Exception):
            raise error
        if error is not None:  # it would end the caller's task
            self._report_failure(f"{short_name(self)}: closing it failed", error)

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

        With callbacks, an event is queued only if a consumer wants it: one that is in an `async for` (or keeps the
        iterator of `aiter(source)`), or that waits in `anext(source)` when the event comes. Both are served.
        """
        if not callable(callback):
            raise TypeError(f"{self.name}: a callback must be callable, not {short_name(callback)}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"{self.name}: a callback must be a plain function; for coroutines use 'async for'")
        self._callbacks.append(callback)
        self._release()  # what a full queue held up goes to the callback

    def remove_callback(self, callback: Callable[[E], object]) -> None:
        """Take a callback off again. ValueError if it is not there."""
        self._callbacks.remove(callback)

    def statistics(self) -> SourceStatistics:
        """The counters so far."""
        return SourceStatistics(
            name=short_name(self),
            wakeups=self._wakeups,
            received=self._received,
            delivered=self._passed_by + self._queue.taken,
            dropped=self._queue.dropped,
            lost=self._lost,
            errors=self._errors + (self._reopening.failed if self._reopening is not None else 0),
            reopened=self._reopening.succeeded if self._reopening is not None else 0,
            queued=len(self._queue.events),
            limited=self._limit.times if self._limit is not None else 0,
            limited_seconds=self._limit.seconds if self._limit is not None else 0.0,
        )

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[E]:
        return Iteration(self._queue, self.__anext__, self._release)

    async def __anext__(self) -> E:
        queue = self._queue
        while not queue.events:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            if self._loop is None:
                raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
            await queue.wait(self._loop)
        event = queue.events.popleft()
        queue.taken += 1
        if queue.owed and queue.when_full != "drop-newest":
            event = self._with_lost(event, queue.settle())
        if not self._reading and queue.emptied:
            self._resume_reading()
        return event

    def __repr__(self) -> str:
        state = "closed" if self._closed else "waiting" if self._away else "open" if self._fd >= 0 else "new"
        return f"<{type(self).__name__} {short_name(self)} {state}>"

    # How it runs.

    def on_readable(self) -> None:
        """The descriptor is readable: called by the loop."""
        self._wakeups += 1
        if not self._within_limit():
            return
        events: Iterator[E] = iter(())
        try:
            events = iter(self.receive())
            for event in events:
                self.deliver(event)
                # Closed by a callback, which then wants no more; or failed, and a generator would read a device that
                # is gone, perhaps through a descriptor that is another one's by now.
                if self._fd < 0 and (self._closed or isinstance(events, Generator)):
                    self._drop_rest(events)
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except EXITS:
            self._drop_rest(events)
            raise
        except BaseException as error:
            self.fail(error)

    def deliver(self, event: E) -> None:
        """Hand one event to the callbacks, and to the queue if somebody may want it there."""
        self._received += 1
        queue = self._queue
        callbacks = self._callbacks
        if callbacks and not queue.consumers:
            self._passed_by += 1
            if queue.owed and queue.owed_by_new:
                event = self._with_lost(event, queue.settle())
        elif not queue.put(event if not queue.owed else self._with_owed(event)):
            self._stop_reading()
        if not callbacks:
            return
        for callback in tuple(callbacks):
            try:
                callback(event)
            except EXITS:
                raise
            except BaseException as error:
                self._report_failure(f"{short_name(self)}: exception in callback {named_place(callback)}", error)

    def count_lost(self, count: int) -> None:
        """Count events that the device or the kernel lost. The subclass puts the number on the next event itself."""
        self._lost += count

    def fail(self, error: BaseException) -> None:
        """The device failed: close it, then come back later (with `reopen=`) or end the source with `error`.

        A failure that is noticed again, by a writer and then by the reader, is the same one.
        """
        if self._opening:
            self._failed_opening = error
            return
        if self._closed or self._away:
            return
        self._errors += 1
        self._away = True
        self._stop_reopening()
        self._drop_failed(error)
        if self._closed:  # meanwhile, by the device's own code
            self._report(f"{short_name(self)} failed and is closed", error, outage=True)
        elif self._reopening is not None and self._loop is not None:
            self._report(f"{short_name(self)} failed; it is reopened as soon as that works", error, outage=True)
            worked = self._received > self._received_before
            self._reopening.begin(self, self._loop, self._connect, worked=worked)
        else:
            waited_for = self._queue.waited_for
            self._closed = True
            self._failure = as_failure(short_name(self), error)
            if not waited_for:
                self._report(f"{short_name(self)} failed and is closed", error, outage=True)
            self._wake_all()

    def _now_ns(self) -> int:
        """The loop's time: nanoseconds, on a real board CLOCK_MONOTONIC."""
        assert self._loop is not None
        return round(self._loop.time() * 1e9)

    def _drop_rest(self, events: Iterator[E]) -> None:
        """Count what was read and nobody will get."""
        if not isinstance(events, Generator):
            for event in events:
                self._received += 1
                self._queue.drop(event)

    def _with_owed(self, event: E) -> E:
        """`event`, which is about to be queued, with what is owed if it belongs there."""
        queue = self._queue
        return self._with_lost(event, queue.settle()) if queue.owed_by_new and not queue.full else event

    def _with_lost(self, event: E, lost: int) -> E:
        try:
            return self.with_lost(event, lost)
        except EXITS:
            raise
        except BaseException as error:
            self._report_failure(f"{short_name(self)}: with_lost() failed; {lost} lost events go unmentioned", error)
            return event

    def _wake_all(self) -> None:
        self._queue.wake_all()
        run_hooks(self.at_end, f"{short_name(self)}: exception in at_end function", self._report_failure)

    def _connect(self) -> None:
        """Open the device and watch it; where either fails, nothing is left open."""
        self._opening, self._failed_opening = True, None
        try:
            self._fd = self.connect()
        finally:
            self._opening = False
        try:
            if self._failed_opening is not None:
                raise self._failed_opening
            if self._closed:
                raise RuntimeError(f"{short_name(self)} was closed while it was being opened")
            self._start_reading()
        except BaseException as error:
            self._failed_opening = None
            self._drop_failed(error)
            raise
        if self._away:
            self._away = False
            self._received_before = self._received
            run_hooks(self.at_reopen, f"{short_name(self)}: exception in at_reopen function", self._report_failure)
            if self._hook is not None and self._loop is not None:
                self._hook.run(self, self._loop, self._report_failure)

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
        with contextlib.suppress(KeyError):  # the loop is being closed and has let go of it already
            unregister(self)

    def _within_limit(self) -> bool:
        """Whether the device may be read once more now; if not, reading stops until the rate limit allows it."""
        return self._limit is None or self._loop is None or self._limit.admit(self._loop)

    def _resume_reading(self) -> None:
        """Read again, unless there is another reason not to."""
        limited = self._limit is not None and self._limit.off
        queue = self._queue
        full = queue.when_full == "pause" and queue.full and (queue.consumers or not self._callbacks)
        if self._fd >= 0 and not self._reading and not limited and not full:
            run_hooks((self._start_reading,), "", lambda _, error: self.fail(error))

    def _release(self) -> None:
        """A consumer has gone, or a callback has come: what the full queue held up may go on. From any thread."""
        loop = self._loop
        if self._reading or self._fd < 0 or loop is None or loop.is_closed():
            return
        call = loop.call_soon if asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # closed meanwhile, by another thread
            call(self._resume_reading)

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        if self._hook is not None:
            self._hook.cancel()

    def _drop_failed(self, error: BaseException) -> None:
        """Let go of a device that failed with `error`, which gets a note if that goes wrong too."""
        if (second := self._drop_device()) is not None:
            error.add_note(f"closing it then failed too: {error_text(second)}")

    def _drop_device(self) -> BaseException | None:
        """Let go of the device. Return what went wrong in that."""
        if self._limit is not None:
            self._limit.end()
        if self._fd < 0 or self._dropping:
            return None
        self._dropping = True
        failures: list[BaseException] = []
        try:
            run_hooks((self._stop_reading, self.disconnect), "", lambda _, error: failures.append(error))
        finally:
            self._dropping = False
            self._fd = -1
        return failures[0] if failures else None

    def _report(self, message: str, error: BaseException, *, outage: bool = False) -> None:
        report(self._loop, self, message, error, outage=outage)

    def _report_failure(self, message: str, error: BaseException) -> None:
        """Count and report a failure of user code."""
        self._errors += 1
        self._report(message, error)
