"""The signals of a guardian: noted when they arrive, handled in turn.

A handler that acts could interrupt at any moment, even between starting the program and storing its process. A handler
that only notes the signal leaves no such gap.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that ask to stop: they are passed to the program, and end the holding of lines."""
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)
TYPED = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Signals that a terminal sends to the program as well."""


class Signals:
    """Signals that have arrived, in order.

    Attributes:
        fd: readable when a signal has arrived.
        ending: the last signal that asked to stop; 0 for none.
    """

    def __init__(self) -> None:
        self.fd: int = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ending: int = 0
        self._came: list[int] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        if number in ENDING:
            self.ending = number
        self._came.append(number)
        os.eventfd_write(self.fd, 1)

    def take(self) -> list[int]:
        """Return the signals since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        came, self._came = self._came, []
        return came

    def wait(self, seconds: float | None) -> None:
        """Wait for a signal that asks to stop, at most `seconds`."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.ending:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            select.select([self.fd], [], [], left)
            if not self.ending:
                self.take()


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note signals in this block. Signals that the parent process ignores stay ignored."""
    signals = Signals()
    before = {number: handler for number in FORWARDED if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, signals.note)
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(signals.fd)


def in_foreground() -> bool:
    """Return whether this process is in the foreground of a terminal."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
