"""Calls of CPython's C interface in the compiled core, and the same calls in Python without it.

`native.pxd` declares the C functions; a compiled module calls those, and this module then only says that nothing is
compiled. See docs/architecture.md, "The compiled core".
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context as copy_context
from heapq import heappop as heappop
from heapq import heappush as heappush
from typing import Any

COMPILED = False
"""Whether the module that imports this name is compiled. Here it is not; `native.pxd` says otherwise."""

new_handle: Callable[[Any], Any] = object.__new__
new_timer: Callable[[Any], Any] = object.__new__


def is_cancelled(handle: Any) -> bool:
    """Return whether a handle is cancelled."""
    return bool(handle._cancelled)


def succeeds(handle: Any) -> bool:
    """Call the callback of a compiled handle in its context. Return whether it was called and has not raised.

    If not, call `raise_pending` next. If that raises nothing, the handle is not compiled, and was not called.
    """
    raise NotImplementedError(handle)


def raise_pending() -> None:
    """Raise what a callback has raised, after `succeeds` returned False."""
    raise NotImplementedError


def nanoseconds(seconds: float) -> int:
    """Return `round(seconds * 1e9)`."""
    raise NotImplementedError(seconds)


def find_key(watched: Mapping[Any, Any], fd: int) -> Any:
    """Return the selector's key of a number, or None."""
    return watched.get(fd)


def data_of(key: Any) -> Any:
    """Return the data of a selector's key."""
    return key[3]


def read_clock(now: Callable[[], float]) -> float:
    """Return `now()`."""
    return now()


def is_plain(sock: socket.socket) -> bool:
    """Return whether `receive` and `send` can be used with a socket: neither a mock nor of a class of the program's."""
    raise NotImplementedError(sock)


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive from a socket that does not block, as `socket.recv` does."""
    raise NotImplementedError(sock, size)


def send(sock: socket.socket, data: bytes) -> int:
    """Send to a socket that does not block, as `socket.send` does."""
    raise NotImplementedError(sock, data)


def new_timerfd() -> int:
    """Return a new timerfd of CLOCK_MONOTONIC that does not block."""
    raise NotImplementedError


def set_alarm(fd: int, when: float) -> None:
    """Set a timerfd as `hwloop.core.clock.Alarm.set` does."""
    raise NotImplementedError(fd, when)


def count_durations(values: Sequence[float], counts: Counter[int]) -> tuple[float, float, float]:
    """Add durations to the buckets of `hwloop.core.counters.Histogram`. Return the least, the most and their sum."""
    raise NotImplementedError(values, counts)
