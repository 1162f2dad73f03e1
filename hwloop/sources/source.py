"""Sources: devices on the loop, with a way back from failure.

A source is anything with `fileno()` and `on_readable()`; that is all that `loop.register` asks for. `Source` is the
base for sources of hwloop and of programs. Its events travel through a `Channel`. It guarantees:

- one failure stays one failure: an exception from the device closes this source (or, with `reopen=`, makes it try
  again with growing pauses) and is reported once (`reopening`); one from a callback or hook is reported, and everything
  else goes on (`containment`);
- nothing is lost silently: losses of the device and drops of a full queue are counted, and the next delivered event
  carries the count (`channel`);
- closing is harmless when repeated, completes whatever the device raises, and wakes the waiting consumers.

Sources work on any asyncio loop: hwloop's registers them with their priority, other loops get a plain `add_reader`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Self, TypeVar

from hwloop.core.naming import error_text, short_name
from hwloop.core.slices import slice_end
from hwloop.core.statistics import SourceStatistics
from hwloop.core.urgency import Priority, as_priority
from hwloop.sources.containment import EXITS, as_failure, run_hooks
from hwloop.sources.event_stream import EventStream
from hwloop.sources.intake import WhenFull
from hwloop.sources.rate_limit import Moderator, RateLimit
from hwloop.sources.reopening import Backoff, HookRunner, ReopenHook, Reopening

E = TypeVar("E")


class Source(EventStream[E]):
    """A device whose events arrive through a file descriptor.

    A subclass implements `connect()`, `receive()` and `disconnect()`; programs get `async with`, `async for`,
    callbacks, `statistics()` and `close()`.

    Parameters:
        name: for messages and statistics.
        priority: of the handler, once the descriptor is readable.
        queue_size: events kept for `async for` (at least 1).
        when_full: "drop-oldest" (keeps the newest state), "drop-newest" (keeps the first reports), or "pause": stop
            reading until there is room, so that the kernel's own buffer or the sender waits. With "pause" the queue may
            exceed its size by the events of one read.
        reopen: the pauses between attempts to reopen a device that failed; None closes the source for good.
        on_reopen: a function or coroutine function, called with the source each time it has come back, to restore the
            settings that the device has forgotten. One that raises is reported; a new failure cancels one that still
            runs.
        rate_limit: reads a second, at most; over the limit the source is off the loop for a while, and the kernel's
            buffer collects. A read takes everything that is there, so this bounds wakeups, not events. A `RateLimit`
            sets the burst as well.

    Attributes:
        deadline: seconds within which the handler should run after a poll has found the descriptor readable; None for
            no deadline. Set it before the source is opened. The loop counts misses.
        at_end: functions that are called when the source is closed, or has failed for good.
        at_reopen: functions that are called when it has come back, before `on_reopen`.

    Raises TypeError or ValueError for an argument that makes no sense.
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
        super().__init__(name, queue_size, when_full)
        if not (reopen is None or isinstance(reopen, Backoff)):
            raise TypeError(f"{name}: reopen must be a Backoff or None, not {short_name(reopen)}")
        self.priority: Priority = as_priority(priority)
        self._reopening = Reopening(reopen, name) if reopen is not None else None
        self._hook = HookRunner(on_reopen) if on_reopen is not None else None
        self._limit: Moderator | None = None
        if rate_limit is not None:
            self._limit = Moderator(rate_limit, name, self.pause_reading, self.resume_reading)
        self._process = 0
        self._fd = -1
        self._reading = False
        self._closed = False
        self._away = False  # the device has failed, and is not back
        self._opening = self._dropping = False
        self._failed_opening: BaseException | None = None
        self.at_reopen: list[Callable[[], object]] = []
        self._wakeups = self._received_before = 0
        self._undelivered: Iterator[E] | None = None  # of a read, for the next turn
        self._undelivered_tail: list[E] | None = None  # its end: events that came meanwhile
        self._has_next_turn = False  # whether that turn has been asked for

    # For a subclass to implement.

    @abstractmethod
    def connect(self) -> int:
        """Open the device and return the non-blocking descriptor to watch. If it raises, it leaves nothing open."""

    @abstractmethod
    def receive(self) -> Iterable[E]:
        """Read and decode everything that is there now, without blocking. Raise where the device is gone."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close the device that `connect()` opened."""

    # For programs.

    def open(self) -> Self:
        """Open the device and register with the running loop. `async with` does it too.

        Raises what `connect()` raises, and RuntimeError without a running loop, or for a source that is open or closed.
        """
        self._loop = self._loop_to_open_on()
        self._process = os.getpid()
        try:
            self._connect()
        except BaseException:
            self._loop = None
            raise
        self._note_open(self._loop)
        return self

    def close(self) -> None:
        """Close the device and wake the waiting consumers. Harmless when repeated. Queued events can still be read.

        Raises the exception of `disconnect()`, after everything else is done.
        """
        if self._closed:
            return
        self._closed = True
        self._stop_reopening()
        try:
            error = self._drop_device()
        finally:
            self._end()
        if isinstance(error, Exception):
            raise error
        if error is not None:  # it would end the caller's task
            self.report_failure("closing it failed", error)

    @property
    def closed(self) -> bool:
        """Whether `close()` was called or the device failed for good."""
        return self._closed

    @property
    def forked(self) -> bool:
        """Whether this process is a forked child of the one that opened it. Then only closing it makes sense."""
        return self._process not in (0, os.getpid())

    def fileno(self) -> int:
        """Return the descriptor being watched; -1 while there is none."""
        return self._fd

    def statistics(self) -> SourceStatistics:
        """Return the counters so far."""
        reopening, limit = self._reopening, self._limit
        return dataclasses.replace(
            super().statistics(),
            wakeups=self._wakeups,
            errors=self._errors + (0 if reopening is None else reopening.failed),
            reopened=0 if reopening is None else reopening.succeeded,
            limited=0 if limit is None else limit.times,
            limited_seconds=0.0 if limit is None else limit.seconds,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "waiting" if self._away else "open" if self._fd >= 0 else "new"
        return f"<{type(self).__name__} {short_name(self)} {state}>"

    # For the loop.

    def on_readable(self) -> None:
        """Read the device and deliver its events: called by the loop when the descriptor is readable."""
        if self._undelivered is not None:
            self._hand_over()
            return
        self._wakeups += 1
        if self._limit is not None and self._loop is not None and not self._limit.admit(self._loop):
            return
        try:
            received = self.receive()
            if type(received) is list and len(received) <= 1:  # most reads; none is a part of a frame
                for event in received:
                    self._channel.put(event)
                return
            self._undelivered, self._undelivered_tail = iter(received), None
        except (BlockingIOError, InterruptedError):
            return
        except EXITS:
            raise
        except BaseException as error:
            self.fail(error)
            return
        self._hand_over()

    # For a subclass to call.

    def deliver(self, event: E) -> None:
        """Deliver an event that did not come from `receive()`, but from a timer, say."""
        if self._undelivered is None or isinstance(self._undelivered, Generator):
            self._hand_over(at_once=True)
            self._channel.put(event)
        else:
            if self._undelivered_tail is None:
                self._undelivered_tail = []
                self._undelivered = itertools.chain(self._undelivered, self._undelivered_tail)
            self._undelivered_tail.append(event)

    def read_now(self) -> None:
        """Read the device at once, after all that is left of the last read has been delivered."""
        self._hand_over(at_once=True)
        self.on_readable()

    def count_lost(self, count: int) -> None:
        """Count events that the device or the kernel lost. The subclass adds the number to its next event itself."""
        self._channel.lost += count

    def fail(self, error: BaseException) -> None:
        """Close the device, which failed; then reopen it later (with `reopen=`), or end the source with `error`.

        A failure that is noticed again, by a writer and then by the reader, is the same one.
        """
        if self._opening:
            self._failed_opening = error
            return
        if self._closed or self._away:
            return
        self._away = True
        self._stop_reopening()
        try:
            if not isinstance(self._undelivered, Generator):  # which would read the device
                self._hand_over(at_once=True)
        except EXITS:
            self._away = False  # the next read or write fails again
            raise
        self._errors += 1
        self._drop_failed(error)
        if self._closed:  # meanwhile, by the device's own code
            self._report(f"{short_name(self)} failed and is closed", error, outage="final")
        elif self._reopening is not None and self._loop is not None:
            self._report(f"{short_name(self)} failed; it is reopened as soon as that works", error, outage="retried")
            worked = self._channel.received > self._received_before
            self._reopening.begin(self, self._loop, self._connect, worked=worked)
        else:
            self._closed = True
            failure = self._channel.failure = as_failure(short_name(self), error)
            if not self._channel.waited_for:
                self._report(f"{short_name(self)} failed and is closed", error, outage="final")
            self._end(failure)

    # For the channel, the rate limit and the subclass: reading pauses and resumes.

    def pause_reading(self) -> None:
        """Take the descriptor off the loop."""
        if not self._reading:
            return
        assert self._loop is not None
        self._reading = False
        self._channel.halted = True
        # A forked child shares the parent's epoll set: removing the descriptor there would remove it for both.
        if self._loop.is_closed() or self.forked:
            return
        if (unregister := getattr(self._loop, "unregister", None)) is None:
            self._loop.remove_reader(self._fd)
            return
        with contextlib.suppress(KeyError):  # the loop is being closed and has let go of it already
            unregister(self)

    def resume_reading(self) -> None:
        """Read again, unless the device is closed, the rate limit forbids it, or a full queue still holds it up."""
        limited = self._limit is not None and self._limit.off
        if self._fd >= 0 and not self._reading and not limited and not self._channel.holds_up:
            run_hooks((self._start_reading,), "", lambda _, error: self.fail(error))

    def _start_reading(self) -> None:
        assert self._loop is not None
        if (register := getattr(self._loop, "register", None)) is not None:
            register(self)
        else:
            self._loop.add_reader(self._fd, self.on_readable)
        self._reading = True
        self._channel.halted = False
        if self._undelivered is not None:
            self._take_next_turn()

    def _hand_over(self, *, at_once: bool = False) -> None:
        """Deliver what is left of a read: `at_once`, or until the slice is used up, and then on in the next turn.

        For the loop, a read is one callback. The callbacks of its events must not make that one a long one.
        """
        events, tail, self._undelivered = self._undelivered, self._undelivered_tail, None
        if events is None:
            return
        is_over = slice_end(self._loop) if self._channel.callbacks and not at_once else None
        try:
            while not self._channel.put_all(events, is_over):
                # Closed by a callback, which then wants no more; or failed, and a generator would read a device that
                # is gone, perhaps through a descriptor that belongs to another one by now.
                if self._fd < 0 and (self._closed or isinstance(events, Generator)):
                    self._channel.discard_all(events)
                    return
                # A device that is gone has no next turn. And a callback may have read on, and left a rest of its own.
                if is_over is not None and is_over() and self._fd >= 0 and self._undelivered is None:
                    self._undelivered, self._undelivered_tail = events, tail
                    self._take_next_turn()
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except EXITS:
            self._channel.discard_all(events)
            raise
        except BaseException as error:
            self.fail(error)

    def _take_next_turn(self) -> None:
        """Deliver the rest of a read in the next turn, unless reading has stopped: then when it begins again."""
        if not self._reading or self._loop is None:
            return
        if (call_again := getattr(self._loop, "call_again", None)) is not None:
            call_again(self)
        elif not self._has_next_turn:
            self._has_next_turn = True
            self._loop.call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._has_next_turn = False
        if self._reading:
            self._hand_over()

    def _drop_undelivered(self) -> None:
        """Drop what is left of a read."""
        events, self._undelivered = self._undelivered, None
        self._channel.discard_all(events or ())

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
            if self._channel.holds_up:  # it has come back, and nobody has taken what was queued before
                self.pause_reading()
        except BaseException as error:
            self._failed_opening = None
            self._drop_failed(error)
            raise
        if self._away:
            self._away = False
            self._received_before = self._channel.received
            run_hooks(self.at_reopen, "exception in at_reopen function", self.report_failure)
            if self._hook is not None and self._loop is not None:
                self._hook.run(self, self._loop, self.report_failure)

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        if self._hook is not None:
            self._hook.cancel()

    def _drop_failed(self, error: BaseException) -> None:
        """Close a device that failed with `error`; a second error is added to it as a note."""
        if (second := self._drop_device()) is not None:
            error.add_note(f"closing it then failed too: {error_text(second)}")

    def _drop_device(self) -> BaseException | None:
        """Close the device. Return the error that this raised, if any."""
        if self._limit is not None:
            self._limit.end()
        if self._fd < 0 or self._dropping:
            self._drop_undelivered()
            return None
        self._dropping = True
        failures: list[BaseException] = []
        hooks = (self._drop_undelivered, self.pause_reading, self.disconnect)
        try:
            run_hooks(hooks, "", lambda _, error: failures.append(error))
        finally:
            self._dropping = False
            self._fd = -1
        return failures[0] if failures else None
