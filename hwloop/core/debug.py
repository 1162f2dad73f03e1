"""What the hot half of the loop leaves out: debug mode, odd arguments, closed loops, failed and measured callbacks.

Every call here is one that asyncio checks and reports in its own way, to the word and to the line of the traceback. So
the code follows asyncio's, and CPython's own tests hold it to that (tests/conformance).
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import operator
import types
from asyncio import base_events, format_helpers
from collections.abc import Callable
from heapq import heapify
from typing import TYPE_CHECKING, Any

from hwloop.core.dispatch import SLICE
from hwloop.core.handles import ThreadSafeHandle, TimerHandle, Watcher
from hwloop.core.naming import place_of, short_name
from hwloop.core.urgency import NORMAL, Urgency

if TYPE_CHECKING:
    from hwloop.core.handles import Pollable
    from hwloop.core.run_queue import Bands

_base: Any = base_events

LONGEST = 500
"""Characters of asyncio's text for a callback in a report. It holds a whole repr where a callable has no name."""


class Checked:
    """A mixin of `hwloop.EventLoop`: its slow paths. The traceback that debug mode keeps ends with the user."""

    _debug: bool
    _measuring: bool
    _current_handle: Any
    _new_timers: list[Any]
    _timers: list[tuple[float, int, Any]]
    _timers_cancelled: int
    _due_timers: collections.deque[Any]
    _ready: collections.deque[Any]
    _events: collections.deque[Any]
    _inbox: collections.deque[Any]
    _bands: Bands
    _now: Callable[[], float]
    _look_next: bool
    _stopping: bool
    slow_callback_duration: float

    if TYPE_CHECKING:

        def time(self) -> float: ...
        def call_exception_handler(self, context: dict[str, Any]) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: object, method: str) -> None: ...
        def _take_inbox(self) -> None: ...
        def _add_ready(self, handle: Any) -> None: ...
        def _urgency(self, handle: Any) -> Urgency: ...
        def _run_handle(self, handle: Any) -> None: ...
        def _measured(self, handle: Any, took: float) -> None: ...
        def _discard(self, source: Pollable) -> None: ...

    def _make_checked_handle(
        self, method: str, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.Handle:
        self._check_closed()
        if self._debug:
            if method != "call_soon_threadsafe":
                self._check_thread()
            self._check_callback(callback, method)
        threadsafe = method == "call_soon_threadsafe" and ThreadSafeHandle is not None
        make: Any = ThreadSafeHandle if threadsafe else asyncio.Handle
        handle: Any = make(callback, args, self, context)
        if handle._source_traceback:
            del handle._source_traceback[-3 if threadsafe else -2 :]
        return handle  # type: ignore[no-any-return]

    def _call_soon_checked(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.Handle:
        handle: Any = self._make_checked_handle("call_soon", callback, args, context)
        if handle._source_traceback:
            del handle._source_traceback[-1]
        self._take_inbox()
        self._add_ready(handle)
        return handle  # type: ignore[no-any-return]

    def _call_at_checked(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        if not (when > 0 or when <= 0):  # TypeError for what has no order, before it is queued
            raise ValueError("a timer needs a time, not NaN")
        self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
            make: Any = asyncio.TimerHandle
            timer: Any = make(when, callback, args, self, context)
            del timer._source_traceback[-2:]
        else:
            timer = TimerHandle(when, callback, args, self, contextvars.copy_context() if context is None else context)
        self._set_timer(timer, self.time())
        return timer  # type: ignore[no-any-return]

    def _call_later_checked(
        self, delay: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        timer: Any = self._call_at_checked(self.time() + delay, callback, args, context)
        if timer._source_traceback:
            del timer._source_traceback[-1]
        return timer  # type: ignore[no-any-return]

    def _set_timer(self, timer: Any, now: float) -> None:
        """Keep a new timer. asyncio finds one that is due by the end of the batch then: look no later for it."""
        if timer._when <= now and self._urgency(timer) == NORMAL:
            self._due_timers.append(timer)
        else:
            self._new_timers.append(timer)
        if timer._when <= now + SLICE:
            self._look_next = True  # last: this may be another thread than the loop's

    def stop(self) -> None:
        """Stop when the current batch of callbacks has run; what they add runs when the loop does next."""
        self._stopping = self._look_next = True

    def _purge_timers(self) -> None:
        """Drop the cancelled timers, which are most of the heap. O(1) a timer, amortised."""
        self._timers_cancelled = 0
        self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
        heapify(self._timers)

    def _queue_due_timers(self) -> int:
        """A batch has ended: queue the timers that were due when it set them, by their times, and count them.

        asyncio's next look would find them, after all that is queued by now. Those with an urgency of their own are
        found by the next look here too.
        """
        self._look_next = self._stopping
        if self._inbox:
            self._take_inbox()
        due = []
        while self._due_timers:
            due.append(self._due_timers.popleft())
        due.sort(key=operator.attrgetter("_when"))
        for timer in due:
            self._add_ready(timer)
        return len(due)

    def _finish_batch(self, ahead: int, batch: int, first: int) -> None:
        """`stop()` was called: run what is left of the batch, and nothing that its callbacks add."""
        bands, events, ready = self._bands, self._events, self._ready
        while True:
            if bands.old and (handle := bands.pop_old(self._now(), ahead > 0 or batch > 0)) is not None:
                pass
            elif ahead and (first <= 0 or batch <= 0):
                handle = events.popleft()
                handle._scheduled = False
                ahead -= 1
                first = 1
            elif batch > 0:
                handle = ready.popleft()
                batch -= 1
                first -= 1
            else:
                return
            self._run_handle(handle)

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        """Report what a callback raised; a source that raised is given up."""
        source = handle._source if isinstance(handle, Watcher) else None
        if source is not None:
            report: dict[str, Any] = {"message": f"{short_name(source)} failed and is closed", "source": source}
        else:
            report = {"message": f"Exception in callback {_shown(handle)}"}
        report.update(exception=error, handle=handle)
        if handle._source_traceback:
            report["source_traceback"] = handle._source_traceback
        self.call_exception_handler(report)
        if source is not None:
            self._discard(source)

    def _run_timed(self, handle: Any) -> None:
        """Run a handle and see how long it takes. In debug mode, warn if that is long, as asyncio does."""
        self._current_handle = handle
        try:
            start = self.time()
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._callback_failed(handle, error)
            took = self.time() - start
            if self._measuring:
                self._measured(handle, took)
            if self._debug and took >= self.slow_callback_duration:
                self._warn_of_slow(handle, took)
        finally:
            self._current_handle = handle = None

    def _warn_of_slow(self, handle: Any, took: float) -> None:
        """Log a slow callback as asyncio's debug mode does."""
        try:
            # A thread-safe handle stands behind the one that was queued, see call_soon_threadsafe.
            behind = handle._callback.__self__ if type(handle._callback) is types.MethodType else None
            shown = behind if isinstance(behind, asyncio.Handle) else handle
            _base.logger.warning("Executing %s took %.3f seconds", _shown(shown, _base._format_handle), took)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "a slow callback could not be reported", "exception": error})


def _shown(handle: Any, show: Callable[[Any], str] | None = None) -> str:
    """A callback as asyncio shows it in reports, or only its name where that fails or is too long."""
    try:
        if show is not None:
            shown = show(handle)
        else:
            shown = format_helpers._format_callback_source(handle._callback, handle._args)
        if len(shown) <= LONGEST:
            return shown
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        pass
    return f"{short_name(handle._callback)} at {place_of(handle._callback) or 'an unknown place'}"
