"""Noticing that a device is gone when its descriptor keeps silent.

A driver that is unbound takes its device node away. Newer kernels wake those who poll a line of such a chip; Linux 6.1
lets them sleep for ever, and lgpio's FIFO never ends. The node's going is seen by inotify(7) on all of them, which
costs nothing while nothing happens. Where it can't be had (the user's share of watches is used up) there is no
alarm, and all else works.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)  # loaded once: something of each load would stay behind in ctypes
_IN_ATTRIB = 0x004  # <sys/inotify.h>: the count of links changed, which is what is seen while the node is held open
_IN_DELETE_SELF = 0x400


class Hangup:
    """A descriptor that is readable once the node at `path` was removed, or its rights were changed."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        if not path or not hasattr(_libc, "inotify_init1"):
            return
        fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return
        if _libc.inotify_add_watch(fd, os.fsencode(path), _IN_ATTRIB | _IN_DELETE_SELF) < 0:
            os.close(fd)
            return
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor; -1 where there is none."""
        return self._fd

    def drain(self) -> None:
        """Forget what has been noticed."""
        if self._fd >= 0:
            try:
                os.read(self._fd, 4096)
            except BlockingIOError:
                pass

    def close(self) -> None:
        """Harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
