"""Handles: scheduled callbacks. asyncio's own classes, cheaper to construct, and one for a watched descriptor.

They are genuine subclasses, because asyncio, its C code and its tests look into them. Constructing one is much of what
a `call_soon` costs, so these fill their slots and do nothing else. In debug mode the loop makes asyncio's own handles,
which also keep the traceback of the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from hwloop.core.bases import AnyHandle, AnyTimerHandle
from hwloop.core.urgency import Priority

ThreadSafeHandle: Any = getattr(asyncio.events, "_ThreadSafeHandle", None)
"""From Python 3.14 on: a handle that another thread may cancel; `cancel` then waits while its callback runs."""


class Pollable(Protocol):
    """A source as `EventLoop.register` takes it.

    Optional attributes: `priority` (a `Priority`), `deadline` (seconds from readiness) and `close()`, which the loop
    calls if the source fails.
    """

    def fileno(self) -> int:
        """Return the descriptor to watch."""

    def on_readable(self) -> object:
        """Called whenever the descriptor is readable."""


class Handle(AnyHandle):
    """A scheduled callback."""

    __slots__ = ()
    # The class's values stand in for slots that only debug mode would fill.
    _repr = None
    _source_traceback = None

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Context) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class TimerHandle(AnyTimerHandle):
    """A callback with a time. `_scheduled` is true from its admission to the timer queue until it is due."""

    __slots__ = ()
    _repr = None
    _source_traceback = None

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Context
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False
        self._scheduled = False

    def cancel(self) -> None:
        if not self._cancelled:
            if self._scheduled:
                self._loop._timer_handle_cancelled(self)
            self._cancelled = True
            self._callback = self._args = None  # type: ignore[assignment]


class TolerantHandle(TimerHandle):
    """A timer that may run up to `tolerance` seconds after its time."""

    __slots__ = ("tolerance",)
    tolerance: float


class Watcher(AnyHandle):
    """The callback of one direction of a descriptor.

    `_scheduled` is true from the poll that found the descriptor ready until the callback runs, and `_when` is the loop
    time of that poll.

    Attributes:
        deadline: seconds from that poll within which the callback should run; None for no deadline.
        fd: the number of the descriptor, once it is registered.
        is_ordinary: whether it has neither a deadline nor a priority other than NORMAL.
        priority: its priority.
        source: the registered source, if it belongs to one.
    """

    __slots__ = ("_scheduled", "_when", "deadline", "fd", "is_ordinary", "priority", "source")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Any,
        priority: Priority,
        source: Pollable | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__(callback, args, loop, None)
        stack = self._source_traceback  # type: ignore[attr-defined]  # asyncio's, in debug mode
        if stack and stack[-1].filename == __file__:
            del stack[-1]  # this frame, which there is not if this is compiled
        self.fd: int = -1
        self.deadline: float | None = deadline
        self.is_ordinary: bool = priority is Priority.NORMAL and deadline is None
        self.priority: Priority = priority
        self.source: Pollable | None = source
        self._scheduled = False
        self._when = 0.0
