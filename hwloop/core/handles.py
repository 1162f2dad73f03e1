"""What waits to be run: asyncio's own handles, made with less ado, and the one of a watched descriptor.

They are genuine subclasses, because asyncio, its C code and its tests look into them. Making one is much of what a
`call_soon` costs, so their inits only fill the slots; what debug mode needs, its own handles have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from hwloop.core.urgency import Priority

ThreadSafeHandle: Any = getattr(asyncio.events, "_ThreadSafeHandle", None)
"""From Python 3.14 on: a handle that another thread may cancel, and which then waits while its callback runs."""


class Pollable(Protocol):
    """A source as `EventLoop.register` takes it.

    Optional attributes: `priority` (a `Priority`), `deadline` (seconds from readiness) and `close()`, which the loop
    calls if the source fails.
    """

    def fileno(self) -> int:
        """Return the descriptor to watch."""

    def on_readable(self) -> object:
        """Called whenever the descriptor is readable."""


class Handle(asyncio.Handle):
    """A scheduled callback: asyncio's own, made with less ado. In debug mode the loop makes asyncio's instead."""

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


class TimerHandle(asyncio.TimerHandle):
    """A callback with a time. `_scheduled` is true while it is in the heap or waits among the due ones."""

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


class Watcher(asyncio.Handle):
    """The callback of one direction of a descriptor. `_scheduled` is true from the look that found it until it runs."""

    __slots__ = ("_deadline", "_fd", "_ordinary", "_priority", "_scheduled", "_source", "_when")

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
        self._fd = -1  # what it watches, once registered
        self._deadline = deadline  # seconds from the look that finds it ready
        self._ordinary = priority is Priority.NORMAL and deadline is None
        self._priority = priority
        self._source = source
        self._scheduled = False
        self._when = 0.0  # loop time of that look
