"""A poll of an epoll set that keeps the global interpreter lock, so that a busy loop does not starve other threads.

`select.epoll.poll(0)` releases the lock and takes it back at once. For a thread that waits for the lock this is worse
than nothing: it wakes, finds the lock taken again, and starts its wait of one switch interval (5 ms) over. With a poll
every 0.05 ms it hardly ever runs: gaps of 0.3 s were measured, against 15 ms on asyncio's loop. A poll that keeps the
lock leaves switching to the interpreter, which switches when the interval is over. It costs 0.8 µs instead of 0.4, so
only programs with other threads use it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from hwloop.core.libc import c_library

_epoll_wait = c_library(keep_gil=True).epoll_wait  # AttributeError where the C library has no epoll


class _PackedEvent(ctypes.Structure):
    """struct epoll_event of <sys/epoll.h> on x86, where its two members touch."""

    _fields_ = [("events", ctypes.c_uint32), ("fd", ctypes.c_int32), ("_rest", ctypes.c_uint32)]


class _AlignedEvent(ctypes.Structure):
    """The same elsewhere: the second member is a union of 64 bits, and the descriptor is the first 32 of them."""

    _fields_ = [("events", ctypes.c_uint32), ("_hole", ctypes.c_uint32), *_PackedEvent._fields_[1:]]


@functools.cache
def _array_of(most: int) -> type[ctypes.Array[Any]]:
    """One class for all loops: ctypes would make another for each, and leave it in a cycle."""
    return (_PackedEvent if os.uname().machine in ("x86_64", "i386", "i686") else _AlignedEvent) * most


class GilPoll:
    """A poll that keeps the lock: a call returns up to `most` (descriptor, mask) pairs that are ready now."""

    def __init__(self, epoll_fd: int, most: int) -> None:
        self._wait = _epoll_wait
        self._events = _array_of(most)()
        self._arguments = (epoll_fd, self._events, most, 0)

    def __call__(self) -> list[tuple[int, int]]:
        count = self._wait(*self._arguments)
        if count <= 0:  # nothing, or a signal: the loop polls again soon
            return []
        return [(event.fd, event.events) for event in self._events[:count]]
