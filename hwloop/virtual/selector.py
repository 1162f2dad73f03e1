"""Descriptors in virtual time: what is ready now, and which of them belong to the real world.

What is readable is asked of poll(2), not epoll: what one side of a pseudo-terminal writes is handed to the other by a
thread of the kernel, which poll hurries along and epoll waits for.
"""

from __future__ import annotations

import functools
import os
import selectors
import stat
from collections.abc import Callable, Iterable, Set


class Lookout(selectors.PollSelector):
    """poll(2), which a loop in virtual time calls before each jump, without ceremony."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], list[tuple[int, int]]] = functools.partial(self._selector.poll, 0)  # type: ignore[attr-defined]
        """Returns the descriptors that are ready now, each with its mask, whose bits are those of epoll."""


def any_real(watched: Iterable[int], claimed: Set[int]) -> bool:
    """Whether a descriptor is neither claimed by a simulated board nor another end of one that is."""
    same = {_identity(fd) for fd in claimed} - {None}
    return any(fd not in claimed and _identity(fd) not in same for fd in watched)


def _identity(fd: int) -> tuple[int, int] | None:
    """What tells that two descriptors are of one FIFO or terminal. Others have none."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) else None
