"""Noticing that a device is gone although its descriptor stays silent.

A driver that is unbound removes its device node. Newer kernels wake whoever polls a line of such a chip; Linux 6.1 lets
them sleep for ever, and lgpio's FIFO never ends. inotify(7) reports the removal of the node on every kernel and costs
nothing while nothing happens. Where it is not available (the user's limit of watches is reached) there is no alarm, and
everything else works.
"""

from __future__ import annotations

import os
from typing import Protocol

from hwloop.core.libc import c_library

_IN_ATTRIB = 0x004  # <sys/inotify.h>: the number of links changed, which is all that shows while the node is held open
_IN_DELETE_SELF = 0x400


class Removal(Protocol):
    """A descriptor that is readable once a device was removed."""

    def fileno(self) -> int:
        """Return the descriptor; -1 where there is none."""

    def drain(self) -> None:
        """Discard the notifications that came so far."""

    def close(self) -> None:
        """Close the descriptor. Harmless when repeated."""


class RemovalWatch:
    """A descriptor that is readable once the node at `path` was removed, or its permissions were changed."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        libc = c_library(keep_gil=True)
        if not path or not hasattr(libc, "inotify_init1"):
            return
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return
        if libc.inotify_add_watch(fd, os.fsencode(path), _IN_ATTRIB | _IN_DELETE_SELF) < 0:
            os.close(fd)
            return
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor; -1 where there is none."""
        return self._fd

    def drain(self) -> None:
        """Discard the notifications that came so far."""
        if self._fd >= 0:
            try:
                os.read(self._fd, 4096)
            except BlockingIOError:
                pass

    def close(self) -> None:
        """Close the descriptor. Harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
