"""A poll of an epoll set that keeps the global interpreter lock, so that a busy loop does not starve other threads.

`select.epoll.poll(0)` releases the lock and takes it back at once. For a thread that waits for the lock this is worse
than nothing: it wakes, finds the lock taken again, and starts its wait of one switch interval (5 ms) over. With a poll
every 0.05 ms it hardly ever runs: gaps of 0.3 s were measured, against 15 ms on asyncio's loop. A poll that keeps the
lock leaves switching to the interpreter, which switches when the interval is over. It costs 0.8 µs instead of 0.4, so
only programs with other threads use it. The compiled core's own poll keeps the lock and needs no second one.
"""

from __future__ import annotations

import ctypes
import os
import struct

from hwloop.core.libc import c_library

_epoll_wait = c_library(keep_gil=True).epoll_wait  # AttributeError where the C library has no epoll

_IS_X86 = os.uname().machine in ("x86_64", "i386", "i686")
_EVENT = struct.Struct("=IiI" if _IS_X86 else "=I4xiI")
"""struct epoll_event of <sys/epoll.h>: the events, then 64 bits of data, which begin with the descriptor. On x86 both
touch; elsewhere the data is aligned. (A `ctypes.Structure` takes longer to define, and to read.)"""


class GilPoll:
    """A poll that keeps the lock: a call returns up to `most` (descriptor, mask) pairs that are ready now."""

    def __init__(self, epoll_fd: int, most: int) -> None:
        events = bytearray(_EVENT.size * most)
        self._events = memoryview(events)
        self._wait = _epoll_wait
        self._arguments = (epoll_fd, ctypes.byref(ctypes.c_char.from_buffer(events)), most, 0)

    def __call__(self) -> list[tuple[int, int]]:
        count = self._wait(*self._arguments)
        if count <= 0:  # nothing, or a signal: the loop polls again soon
            return []
        return [(fd, mask) for mask, fd, _ in _EVENT.iter_unpack(self._events[: count * _EVENT.size])]
