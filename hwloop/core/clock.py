"""Time: the monotonic clock, and an alarm that ends a wait as precisely as the kernel can.

epoll counts its timeout in milliseconds, and the kernel adds its timer slack (50 µs) to any wait of an ordinary
thread. A timerfd has neither: it is armed with an absolute time of CLOCK_MONOTONIC, the clock of `loop.time()` and of
the kernel's edge timestamps, and becomes readable in the same epoll set as the hardware (timerfd_create(2)).

A simulated board and the threads that serve a bus take the time from a `Clock` and sleep by it. This one is real;
`hwloop.virtual.clock` has one that jumps.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from hwloop.core.libc import c_library
from hwloop.core.native import COMPILED, nanoseconds, new_timerfd, set_alarm

if TYPE_CHECKING:
    import ctypes

monotonic: Callable[[], float] = time.monotonic
"""Seconds, CLOCK_MONOTONIC: the loop's time."""


def to_ns(time: float) -> int:
    """Return seconds as nanoseconds."""
    return nanoseconds(time) if COMPILED else round(time * 1e9)


def from_ns(time_ns: int) -> float:
    """Return nanoseconds as seconds, such that `to_ns` of the result is not before `time_ns`.

    A float of seconds holds single nanoseconds for the first hundred days only. Later, a timer set for the nearest
    float might find that its time has not come yet, and on a clock that stands still it would wait for ever.
    """
    time = time_ns / 1e9
    return time if to_ns(time) >= time_ns else math.nextafter(time, math.inf)


class Agenda(Protocol):
    """Planned events that a clock may drive: a simulated board's timeline."""

    def next_ns(self) -> int | None:
        """Return the time of the next event in nanoseconds of the clock; None if there is none."""

    def run_due(self) -> bool:
        """Run everything that is due by now, in order. Return whether anything was due."""

    def run_readable(self) -> bool:
        """Read what a program has written to simulated devices. Return whether there was anything."""

    def planned(self) -> int:
        """Return how many events have been planned so far."""

    def plans_before(self, count: int) -> bool:
        """Return whether one of the first `count` planned events is still to come."""

    def play(self, until_ns: float, jump: Callable[[int], object], concerned: Callable[[], object]) -> int:
        """Run the planned events up to `until_ns` at their times, which `jump(when_ns)` sets the clock to.

        Stop after the events of a moment once `concerned()` is true, or after some hundred moments. Return their
        number.
        """


class Disturbed(BaseException):
    """Raised by `Clock.foresee`: abandon a job that has not begun yet. It begins again on a thread."""


class Clock:
    """CLOCK_MONOTONIC and real threads. A board has one clock, and its parts and threads use no other time."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    def wait_until(self, when_ns: int) -> None:
        """Block the calling thread until a time. Return at once if it has come."""
        left_ns = when_ns - self.now_ns()
        if left_ns > 0:
            self.sleep(left_ns / 1e9)

    def condition(self, lock: threading.Lock | None = None) -> threading.Condition:
        """Return a condition whose timeouts count by this clock, on `lock` or a lock of its own."""
        return threading.Condition(lock or threading.Lock())

    def start(self, main: Callable[[], object], name: str) -> threading.Thread:
        """Start a daemon thread."""
        thread = threading.Thread(target=main, name=name, daemon=True)
        thread.start()
        return thread

    def join(self, thread: threading.Thread) -> None:
        """Wait for a thread that is about to end."""
        thread.join()

    def take_turn(self, turn: Callable[[], object]) -> bool:
        """Return whether the loop will call `turn()` once it is at rest. In real time it will not: wake a thread."""
        return False

    def foresee(self, nanoseconds: int | None) -> None:
        """Announce that the caller will be busy for so long (None: unknown). Raises `Disturbed` if it must not be."""

    def attach(self, agenda: Agenda) -> bool:
        """Return whether this clock drives the agenda from now on. A real clock leaves that to the agenda's thread."""
        return False

    def detach(self, agenda: Agenda) -> None:
        """Stop driving it. Harmless if it is not driven."""

    def claim(self, fd: int, *, announced: bool = False) -> None:
        """Note that only what this clock drives makes `fd`, or another end of its FIFO, terminal or socket, readable.

        With `announced` the caller promises a call of `announce` whenever it has done so: then there is no need to ask
        the kernel after each event.
        """

    def announce(self) -> None:
        """Note that a descriptor which was claimed with `announced` may be readable now."""

    def disclaim(self, fd: int) -> None:
        """Undo `claim`, before `fd` is closed. Harmless if it was not claimed."""


REAL = Clock()
"""The clock of real boards, and by default of a simulated one."""

_os: Any = os
_HAS_TIMERFD = hasattr(os, "timerfd_create")
"""Whether Python has timerfd_*, as from 3.13 on; otherwise the C library is called."""


@functools.cache
def _timer_spec() -> type[ctypes.Array[ctypes.c_long]]:
    """struct itimerspec: interval seconds and nanoseconds, then value seconds and nanoseconds.

    One class for all loops: ctypes would make another for each, and leave it in a cycle.
    """
    import ctypes

    return ctypes.c_long * 4


def _new_timerfd() -> int:
    if COMPILED:
        return new_timerfd()
    if _HAS_TIMERFD:
        return _os.timerfd_create(time.CLOCK_MONOTONIC, flags=_os.TFD_CLOEXEC | _os.TFD_NONBLOCK)  # type: ignore[no-any-return]
    try:
        create = c_library(keep_gil=True).timerfd_create
    except AttributeError:
        raise OSError("this system has no timerfd") from None
    fd = create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        import ctypes

        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    return int(fd)


_DISARMED = -1e-9
"""Seconds, with which `Alarm.set` passes 0 to the kernel: no alarm (timerfd_settime(2))."""


class Alarm:
    """One absolute alarm as a file descriptor, which is readable once its time has come.

    Raises `OSError` or `ImportError` where the system offers no timerfd.
    """

    def __init__(self) -> None:
        self._fd = _new_timerfd()
        self._spec: ctypes.Array[ctypes.c_long] | None = None

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def set(self, when: float) -> None:
        """Set the alarm to `when` (seconds, CLOCK_MONOTONIC). It never rings before; a new time replaces the last."""
        if COMPILED:
            set_alarm(self._fd, when)
            return
        when_ns = int(when * 1e9) + 1  # a float of seconds may round down
        if _HAS_TIMERFD:
            _os.timerfd_settime_ns(self._fd, flags=_os.TFD_TIMER_ABSTIME, initial=when_ns)
        else:
            spec = self._spec or self._prepare()
            spec[2], spec[3] = divmod(when_ns, 1_000_000_000)
            self._settime(*self._arguments)

    def clear(self) -> None:
        """Clear the time that is set."""
        self.set(_DISARMED)

    def renew(self) -> None:
        """Replace the alarm by another, which is not set, under the same number: after a fork, it is the parent's."""
        fresh = _new_timerfd()
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)

    def close(self) -> None:
        os.close(self._fd)

    def _prepare(self) -> ctypes.Array[ctypes.c_long]:
        """Make the arguments of the C function: once, because it takes as long as two calls."""
        import ctypes

        self._spec = spec = _timer_spec()()
        self._settime = c_library(keep_gil=True).timerfd_settime
        self._arguments = ctypes.c_int(self._fd), ctypes.c_int(1), ctypes.byref(spec), None  # 1 is TFD_TIMER_ABSTIME
        return spec
