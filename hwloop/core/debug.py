"""The loop's slow paths: debug mode, unusual arguments, and reports of failed callbacks.

asyncio checks and reports all of this in its own way, to the word and to the line of the traceback. So this code
follows asyncio's, and CPython's own tests hold it to that (tests/conformance). The traceback that a handle keeps in
debug mode ends with the caller's frame, so these functions cut off their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import traceback
import types
from asyncio import base_events, format_helpers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.handles import ThreadSafeHandle, TimerHandle, Watcher
from hwloop.core.monitor import Monitor
from hwloop.core.naming import place_of, short_name
from hwloop.core.periodic_timer import checked_tolerance
from hwloop.errors import check_range

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop

_base: Any = base_events

LATEST = 1e18
"""Seconds of loop time. A tolerant timer with a later time is a mistake."""

LONGEST = 500
"""Characters of a value's text in a report. Longer ones are shortened to a name."""

_CORE = os.path.join(os.path.dirname(__file__), "")

_SHOWN_BY_ASYNCIO = ("message", "exception", "source_traceback", "handle_traceback")


def checked_handle(
    loop: SelectorEventLoop,
    method: str,
    callback: Callable[..., object],
    args: tuple[Any, ...],
    context: contextvars.Context | None,
) -> Any:
    """Return a handle for the loop's `method`, which calls this, with the checks that asyncio makes there."""
    loop._check_closed()
    if loop.get_debug():
        if method != "call_soon_threadsafe":
            loop._check_thread()
        loop._check_callback(callback, method)
    threadsafe = method == "call_soon_threadsafe" and ThreadSafeHandle is not None
    make: Any = ThreadSafeHandle if threadsafe else asyncio.Handle
    handle: Any = make(callback, args, loop, context)
    if handle._source_traceback:
        _cut_own_frames(handle._source_traceback, 1 + threadsafe)
    return handle


def checked_timer(
    loop: SelectorEventLoop,
    when: float,
    callback: Callable[..., object],
    args: tuple[Any, ...],
    context: contextvars.Context | None,
) -> Any:
    """Return a timer for the loop's `call_at` or `call_later`, with the checks that asyncio makes there."""
    if when is None:
        raise TypeError("when cannot be None")
    if not (when + 0.0 > 0 or when <= 0):  # a value that is not a time raises here, before the timer is queued
        raise ValueError("a timer needs a time, not NaN")
    loop._check_closed()
    if loop.get_debug():
        loop._check_thread()
        loop._check_callback(callback, "call_at")
        make: Any = asyncio.TimerHandle
        timer: Any = make(when, callback, args, loop, context)
        _cut_own_frames(timer._source_traceback, 1)
        return timer
    return TimerHandle(when, callback, args, loop, contextvars.copy_context() if context is None else context)


def check_tolerant(loop: SelectorEventLoop, when: float, callback: Callable[..., object], tolerance: float) -> None:
    """Check the arguments of the loop's `call_tolerant`. Raises ValueError or TypeError for invalid ones."""
    check_range("when (loop time)", when, -LATEST, LATEST)
    checked_tolerance(tolerance)
    loop._check_closed()
    if loop.get_debug():
        loop._check_thread()
        loop._check_callback(callback, "call_tolerant")


def cut_creation(future: asyncio.Future[Any]) -> None:
    """In debug mode, have a new future name the caller of `create_future()` as the place where it was made."""
    stack: Any = future._source_traceback  # type: ignore[attr-defined]
    if stack:
        _cut_own_frames(stack, 0)


def _cut_own_frames(stack: traceback.StackSummary, own: int) -> None:
    """Cut off the `own` frames of this module, and those of the loop's methods; a compiled method has none."""
    del stack[len(stack) - own :]
    own_names = ("call_", "create_future", "_send")
    while stack and stack[-1].name.startswith(own_names) and stack[-1].filename.startswith(_CORE):
        del stack[-1:]


def run_timed(handle: Any, monitor: Monitor, failed: Callable[[Any, BaseException], None]) -> None:
    """Run a handle and measure its time; call `failed` if it raises. In debug mode, warn if it was slow."""
    loop = handle._loop
    loop._current_handle = handle
    try:
        start = loop.time()
        try:
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            failed(handle, error)
        took = loop.time() - start
        if monitor.is_measuring:
            monitor.measured(handle, took)
        if loop.get_debug() and took >= loop.slow_callback_duration:
            _warn_of_slow(handle, took)
    finally:
        loop._current_handle = handle = None


def report_failure(handle: Any, error: BaseException) -> None:
    """Pass the exception of a callback to the loop's exception handler."""
    loop = handle._loop
    source = handle.source if isinstance(handle, Watcher) else None
    if source is not None:
        report: dict[str, Any] = {"message": f"{short_name(source)} failed and is closed", "source": source}
    else:
        report = {"message": f"Exception in callback {_shown(handle)}"}
    report.update(exception=error, handle=handle)
    if handle._source_traceback:
        report["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(report)


def shown_context(context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of a report with values whose repr neither raises nor fills the log."""
    return {key: value if key in _SHOWN_BY_ASYNCIO else _ShortRepr(value) for key, value in context.items()}


class _ShortRepr:
    """A value whose repr neither raises nor fills the log."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        try:
            shown = repr(self._value)
            if len(shown) <= LONGEST:
                return shown
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            pass
        return short_name(self._value)


def _warn_of_slow(handle: Any, took: float) -> None:
    """Log a slow callback as asyncio's debug mode does."""
    try:
        # A thread-safe handle stands behind the one that was queued, see call_soon_threadsafe.
        behind = handle._callback.__self__ if type(handle._callback) is types.MethodType else None
        shown = behind if isinstance(behind, asyncio.Handle) else handle
        _base.logger.warning("Executing %s took %.3f seconds", _shown(shown, _base._format_handle), took)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report = {"message": "a slow callback could not be reported", "exception": error}
        handle._loop.call_exception_handler(report)


def _shown(handle: Any, show: Callable[[Any], str] | None = None) -> str:
    """Return a callback as asyncio shows it in reports, or only its name where that fails or is too long."""
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
