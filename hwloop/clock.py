"""Time: the monotonic clock, and an alarm that wakes a wait as precisely as the kernel can.

epoll counts its timeout in milliseconds, and the kernel adds its timer slack (50 µs) to any wait of an ordinary
thread. A timerfd has neither: it is armed with an absolute time of CLOCK_MONOTONIC, the clock of `loop.time()` and of
the kernel's edge timestamps, and becomes readable in the same epoll set as the hardware (timerfd_create(2)).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

monotonic = time.monotonic
"""Seconds, CLOCK_MONOTONIC: the loop's time."""


_os: Any = os  # os.timerfd_* came with Python 3.13; before that, the C library is called


class Alarm:
    """One absolute alarm as a file descriptor; readable once its time has come.

    Raises `OSError` or `ImportError` where the system offers no timerfd.
    """

    def __init__(self) -> None:
        self._fd: int
        self._spec: ctypes.Array[ctypes.c_long] | None = None
        if hasattr(os, "timerfd_create"):
            self._fd = _os.timerfd_create(time.CLOCK_MONOTONIC, flags=_os.TFD_CLOEXEC | _os.TFD_NONBLOCK)
            return
        import ctypes

        # PyDLL keeps the GIL: the calls take less time than giving it up and taking it again.
        libc = ctypes.PyDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            raise OSError("this system has no timerfd")
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        # struct itimerspec: interval seconds and nanoseconds, then value seconds and nanoseconds.
        self._spec = (ctypes.c_long * 4)()
        self._settime = libc.timerfd_settime

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def set(self, when: float) -> None:
        """Have it ring at `when` (seconds, loop time), never before; a new time replaces the last."""
        # One nanosecond more than asked, because a float of seconds may round down.
        self._arm(int(when * 1e9) + 1)

    def clear(self) -> None:
        """Forget the time set."""
        self._arm(0)

    def close(self) -> None:
        os.close(self._fd)

    def _arm(self, when_ns: int) -> None:
        if self._spec is None:
            _os.timerfd_settime_ns(self._fd, flags=_os.TFD_TIMER_ABSTIME, initial=when_ns)
        else:
            self._spec[2], self._spec[3] = divmod(when_ns, 1_000_000_000)
            self._settime(self._fd, 1, self._spec, None)  # 1: TFD_TIMER_ABSTIME
