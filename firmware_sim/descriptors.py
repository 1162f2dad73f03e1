"""The open descriptors of simulated nodes: a table from their numbers to their handles.

C code may close a descriptor behind the table's back, and whoever gets the same number next must not be answered by a
simulated device. So each entry knows its file (fstat(2)), and counts only as long as the number stands for that. A
descriptor that only reserves its number also gets a file offset that no other file has: asking for that takes a tenth
of the time.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from firmware_sim.nodes import Handle, Node

_FIRST_OFFSET = 1 << 43
"""8 TiB: beyond the end of any file, and within what a 32-bit kernel takes."""


class _Entry(NamedTuple):
    handle: Handle
    file: tuple[int, int]
    offset: int
    """Where its descriptor stands, if that only reserves a number; -1: nowhere."""


class Descriptors:
    """The table. There is one for the process, as descriptors are the process's.

    Attributes:
        at_close: called with each descriptor that leaves the table.
    """

    def __init__(self) -> None:
        self.at_close: list[Callable[[int], object]] = []
        self._entries: dict[int, _Entry] = {}
        self._offsets = itertools.count(_FIRST_OFFSET)
        self._lock = threading.Lock()

    def open(self, node: Node, flags: int) -> int:
        """Open a node and return its descriptor. Raises OSError."""
        handle = node.open(flags)
        try:
            return self.add(handle)
        except BaseException:
            handle.close()
            raise

    def add(self, handle: Handle) -> int:
        """Enter an open file and return its descriptor. Raises OSError."""
        fd = handle.descriptor()
        with self._lock:
            stale = self._entries.pop(fd, None)
            self._entries[fd] = _Entry(handle, _file(fd), -1 if handle.native else self._placed(fd))
        if stale is not None:
            stale.handle.close()
        return fd

    def numbers(self) -> set[int]:
        """Return the open descriptors of nodes."""
        return {fd for fd in list(self._entries) if self.handle(fd) is not None}

    def handle(self, fd: int) -> Handle | None:
        """Return the handle of a descriptor; None if it is not of a node."""
        entry = self._entries.get(fd)
        if entry is None:
            return None
        handle, file, offset = entry
        try:
            if (offset >= 0 and _seek(fd, 0, os.SEEK_CUR) == offset) or _file(fd) == file:
                return handle
        except OSError:
            pass
        self._forget(fd)
        return None

    def close(self, fd: int) -> bool:
        """Close the descriptor of a node; return False, and leave it open, if it is not of a node. Raises OSError."""
        if self.handle(fd) is None:
            return False
        entry = self._take_out(fd)  # first: another thread may get the number as soon as it is free
        try:
            _close(fd)
        finally:
            if entry is not None:
                entry.handle.close()
        return True

    def _placed(self, fd: int) -> int:
        """Set the offset of a descriptor, and return it; -1 if it has none, as that of a pipe."""
        try:
            return _seek(fd, next(self._offsets), os.SEEK_SET)
        except OSError:
            return -1

    def _forget(self, fd: int) -> None:
        entry = self._take_out(fd)
        if entry is not None:
            entry.handle.close()

    def _take_out(self, fd: int) -> _Entry | None:
        with self._lock:
            entry = self._entries.pop(fd, None)
        if entry is not None:
            for callback in self.at_close:
                callback(fd)
        return entry


_close, _seek = os.close, os.lseek  # not those that lead here


def _file(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


descriptors: Descriptors = Descriptors()
