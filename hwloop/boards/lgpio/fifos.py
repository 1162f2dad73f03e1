"""The FIFOs into which lgpio writes its reports: opened a few at a time, lent to streams, and used again.

Opening one while lgpio's thread works can crash the process: lgpio links the new handle to the others before it is
ready, and its thread goes through them every 0.5 ms. So some are opened together while the thread still sleeps, and the
FIFO of a closed stream is kept for the next. The thread serves 20 FIFOs, one of them lgpio's own, and silently ignores
any further one; so there are never more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from typing import NamedTuple

from hwloop.boards.lgpio.module import LgpioModule, text_of
from hwloop.errors import HardwareError

MAX_FIFOS = 19
"""FIFOs of one process, and so watches."""
AT_ONCE = 8
"""How many are opened together."""

_PIPE_SIZE = 1 << 20

_opened: weakref.WeakKeyDictionary[LgpioModule, int] = weakref.WeakKeyDictionary()
"""FIFOs that each lgpio has open."""


class Fifo(NamedTuple):
    """A FIFO of lgpio's, open for reading."""

    notify: int
    """lgpio's handle."""
    fd: int


class Fifos:
    """The FIFOs of one chip.

    Parameters:
        workdir: the directory in which this lgpio makes them.
    """

    def __init__(self, lgpio: LgpioModule, workdir: str) -> None:
        self._lgpio = lgpio
        self._workdir = workdir
        self._spare: list[Fifo] = []

    def take(self, *, thread_sleeps: bool) -> Fifo:
        """Return one for a stream, empty and as large as the system allows. Raises `HardwareError`."""
        if not self._spare:
            there_are = _opened.get(self._lgpio, 0)
            if there_are >= MAX_FIFOS:
                raise HardwareError(
                    "lgpio's FIFO",
                    f"lgpio serves {MAX_FIFOS} watches in one process, and all of them are in use",
                    "watch several lines in one, close some, or use gpiod (HWLOOP_GPIO=gpiod)",
                )
            for _ in range(min(AT_ONCE if thread_sleeps else 1, MAX_FIFOS - there_are)):
                self._spare.append(self._open())
        fifo = self._spare.pop()
        with contextlib.suppress(BlockingIOError):
            while os.read(fifo.fd, 1 << 16):
                pass
        size = _PIPE_SIZE
        while size > fcntl.fcntl(fifo.fd, fcntl.F_GETPIPE_SZ):
            try:
                fcntl.fcntl(fifo.fd, fcntl.F_SETPIPE_SZ, size)
            except PermissionError:
                size //= 2  # above /proc/sys/fs/pipe-max-size, or the user's share is used up
        return fifo

    def give_back(self, fifo: Fifo) -> None:
        """Keep the FIFO of a closed stream for the next one."""
        self._spare.append(fifo)

    def discard(self, fifo: Fifo) -> None:
        """Close one that a stream has, and that can't be used again."""
        os.close(fifo.fd)
        _opened[self._lgpio] = _opened.get(self._lgpio, 1) - 1  # at interpreter exit it may be gone already
        try:
            self._lgpio.notify_close(fifo.notify)
        except self._lgpio.error:
            pass  # it was closed before

    def close(self, *, forked: bool) -> None:
        """Close the FIFOs that no stream has. A forked child leaves lgpio's own side of them alone."""
        while self._spare:
            fifo = self._spare.pop()
            if forked:
                os.close(fifo.fd)
            else:
                self.discard(fifo)

    def _open(self) -> Fifo:
        try:
            notify = self._lgpio.notify_open()
        except self._lgpio.error as error:
            raise HardwareError("lgpio's FIFO", text_of(error), f"it is made in {self._workdir}: look there") from error
        path = os.path.join(self._workdir, f".lgd-nfy{notify}")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            self._lgpio.notify_close(notify)
            raise HardwareError(
                path, error.strerror or str(error), "lgpio made it a moment ago", errno=error.errno
            ) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # lgpio never does
        _opened[self._lgpio] = _opened.get(self._lgpio, 0) + 1
        return Fifo(notify, fd)
