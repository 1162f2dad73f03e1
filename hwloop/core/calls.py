"""The calls that feed a loop's queues: `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`, `call_tolerant`.

Programs make these calls most often, and asyncio's tasks and futures are among the callers. So they are hot: they
construct their handles in place and append them to the queue themselves, because one more call costs 7 % of a
`call_soon`. They stand apart from the rest of the loop's class because the compiled core makes them, with the objects
that they use, an extension type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

from hwloop.core.bases import LoopBase
from hwloop.core.debug import LATEST, check_tolerant, checked_handle, checked_timer, cut_creation
from hwloop.core.dispatch import SLICE
from hwloop.core.handles import Handle, ThreadSafeHandle, TimerHandle, TolerantHandle
from hwloop.core.native import copy_context, new_handle, new_timer
from hwloop.core.parts import Parts
from hwloop.core.urgency import NORMAL

_Future = asyncio.Future
Ts = TypeVarTuple("Ts")


class LoopCalls(LoopBase):
    """The hot calls of a loop, and the parts that they use."""

    # A dictionary of more than 30 attributes is read more slowly, and made anew for each loop.
    __slots__ = ("_clock", "_guarded", "_inbox", "_ordinary", "_poller", "_run_queue", "_timers", "_urgencies")

    def __init__(self, parts: Parts) -> None:
        self._clock = parts.clock
        self._run_queue = parts.run_queue
        self._inbox = parts.run_queue.inbox
        self._timers = parts.timers
        self._poller = parts.poller
        self._urgencies = parts.urgencies
        self._guarded = False  # closed, or in debug mode: calls are checked
        super().__init__(parts.selector)
        self._ordinary = self._ready = parts.run_queue.ordinary  # `_ready` is asyncio's name, where test helpers look

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: Context | None = None
    ) -> asyncio.Handle:
        if self._guarded:
            checked: Any = checked_handle(self, "call_soon", callback, args, context)
            self._run_queue.take_inbox()
            self._run_queue.add(checked)
            return checked  # type: ignore[no-any-return]
        handle = new_handle(Handle)  # `Handle.__init__`, inlined: a fifth of the cost
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = copy_context() if context is None else context
        handle._cancelled = False
        if self._inbox:
            self._run_queue.take_inbox()
        if self._urgencies.in_use:
            self._run_queue.add(handle)
        else:
            self._ordinary.append(handle)
        return handle  # type: ignore[no-any-return]

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: Context | None = None
    ) -> asyncio.Handle:
        if self._guarded or ThreadSafeHandle is not None:
            return self._send(callback, args, context)
        handle = new_handle(Handle)  # inlined, as in `call_soon`
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = copy_context() if context is None else context
        handle._cancelled = False
        self._inbox.append(handle)
        if self._poller.is_sleeping and not self._poller.wake():
            self._write_to_self()
        return handle  # type: ignore[no-any-return]

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._guarded or delay is None or not (when := (now := self._clock.now()) + delay) > now + SLICE:  # no int
            if delay is None:
                raise TypeError("delay must not be None")
            return self._add_timer(checked_timer(self, self.time() + delay, callback, args, context))  # type: ignore[no-any-return]
        timer = new_timer(TimerHandle)  # inlined, as in `call_soon`
        timer._when = when
        timer._callback = callback
        timer._args = args
        timer._loop = self
        timer._context = copy_context() if context is None else context
        timer._cancelled = timer._scheduled = False
        self._timers.new.append(timer)
        return timer  # type: ignore[no-any-return]

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._guarded or type(when) is not float or not when > self._clock.now() + SLICE:
            return self._add_timer(checked_timer(self, when, callback, args, context))  # type: ignore[no-any-return]
        timer = TimerHandle(when, callback, args, self, copy_context() if context is None else context)
        self._timers.new.append(timer)
        return timer

    def call_tolerant(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        tolerance: float,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Like `call_at`, but the loop need not wake for it until `tolerance` seconds after `when` (loop time).

        Timers within each other's tolerance share one wakeup. The callback runs at `when` or at the first poll after
        it, if the loop is awake anyway; never before. Raises ValueError for a time or tolerance that is not finite or
        is negative.
        """
        if self._guarded or not (0 <= tolerance <= 1e9 and -LATEST <= when <= LATEST):
            check_tolerant(self, when, callback, tolerance)
        when, tolerance = when + 0.0, tolerance + 0.0  # floats, or TypeError now instead of in the run
        timer = new_timer(TolerantHandle)  # inlined, as in `call_soon`
        timer._when = when
        timer._callback = callback
        timer._args = args
        timer._loop = self
        timer._context = copy_context() if context is None else context
        timer._cancelled = timer._scheduled = False
        timer.tolerance = tolerance
        self._timers.new.append(timer)
        return timer  # type: ignore[no-any-return]

    def get_debug(self) -> bool:
        """As in asyncio, whose futures and tasks call it when they are made."""
        return self._debug

    def create_future(self) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = _Future(loop=self)
        if self._guarded:
            cut_creation(future)
        return future

    def _send(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> asyncio.Handle:
        """As `call_soon_threadsafe`, with asyncio's checks, or with a handle that another thread may cancel."""
        if self._guarded:
            handle: Any = checked_handle(self, "call_soon_threadsafe", callback, args, context)
        else:
            handle = ThreadSafeHandle(callback, args, self, copy_context() if context is None else context)
        if ThreadSafeHandle is None:
            self._inbox.append(handle)
        else:
            # Only its own _run takes its lock. It enters the handle's context, which can't be entered twice: a copy.
            own = handle._context.copy() if isinstance(handle._context, Context) else handle._context
            self._inbox.append(Handle(handle._run, (), self, own))
        if self._poller.is_sleeping and not self._poller.wake():
            self._write_to_self()
        return handle  # type: ignore[no-any-return]

    def _add_timer(self, timer: Any) -> Any:
        """Keep a new timer. If it is due by the end of the batch, poll no later than that, as asyncio does."""
        now = self.time()
        if timer._when <= now and self._urgencies.of(timer) == NORMAL:
            self._timers.add_overdue(timer)
        else:
            self._timers.new.append(timer)
        if timer._when <= now + SLICE:
            self._run_queue.poll_after_batch = True  # last: this may be another thread than the loop's
        return timer
