"""Descriptors in virtual time: which are ready now, and which belong to the real world.

The selector is poll(2), not epoll: where a port is a pseudo-terminal, a thread of the kernel passes data from one side
to the other, which poll hurries along and epoll waits for.
"""

from __future__ import annotations

import errno
import functools
import os
import selectors
import stat
from collections.abc import Callable, Iterable, Set
from typing import Any


class Lookout(selectors.PollSelector):
    """poll(2), which a loop in virtual time calls directly before each jump."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: int = 0
        """How often a descriptor was added or removed."""
        self.ready_now: Callable[[], list[tuple[int, int]]] = functools.partial(self._selector.poll, 0)  # type: ignore[attr-defined]
        """Returns the descriptors that are ready now, each with its mask, which has the bits of epoll."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor. Raises the OSErrors of epoll_ctl(2), where poll(2) would accept anything."""
        found = os.fstat(fileobj if isinstance(fileobj, int) else fileobj.fileno())
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self.changes += 1
        return super().register(fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self.changes += 1
        return super().modify(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        self.changes += 1
        return super().unregister(fileobj)


def any_real(watched: Iterable[int], claimed: Set[int]) -> bool:
    """Return whether a descriptor is neither claimed by a simulated board nor another end of one that is."""
    same = {_identity(fd) for fd in claimed} - {None}
    return any(fd not in claimed and _identity(fd) not in same for fd in watched)


def _identity(fd: int) -> tuple[int, int] | None:
    """Return a value that all descriptors of one FIFO, terminal or end of a socket share; None for others."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    shared = stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISSOCK(found.st_mode)
    return (found.st_dev, found.st_ino) if shared else None
