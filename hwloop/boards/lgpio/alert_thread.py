"""lgpio's thread that looks at the watched lines: how many lines it has, and whether it is awake.

lgpio runs one such thread for the whole process. Two facts shaped this: it polls the lines from an array of 64 that it
does not check, so more must never be claimed; and it may sleep through the first claim of a line, for it looks whether
there are lines, then waits for a signal, and a claim between the two goes unnoticed (about one process in 449 got no
edge at all). How often the thread wakes shows in /proc, and tells one that looks at lines from one that sleeps.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Collection, Set

from hwloop.boards.lgpio.module import LgpioModule
from hwloop.errors import HardwareError
from hwloop.lines import LineName

MAX_ALERTS = 60
"""Lines that one process may watch."""
_PROOF = 0.1  # seconds within which it proves that it is awake
_WAKES = 8  # how often it must have slept in them; lgpio's other threads can't do that


class AlertThread:
    """The thread of one lgpio module.

    Parameters:
        threads: the threads that lgpio started when its first chip was opened; this is one of them.

    Attributes:
        lines: how many lines it watches.
    """

    def __init__(self, threads: Set[str]) -> None:
        self.lines = 0
        self._process = os.getpid()
        self._threads = threads

    def check_room(self, lines: Collection[LineName]) -> None:
        """Raise `HardwareError` where it can't watch these lines as well."""
        named = f"lines {', '.join(map(str, lines))}"
        if self._process != os.getpid():
            raise HardwareError(
                named,
                "lgpio was in use before this process was forked; its threads, which report edges, are the parent's",
                "use gpiod (HWLOOP_GPIO=gpiod), or have the child start afresh: multiprocessing's 'spawn'",
            )
        if self.lines + len(lines) > MAX_ALERTS:
            raise HardwareError(
                named,
                f"lgpio can watch {MAX_ALERTS} lines in one process, and {self.lines} are watched already",
                "close some first",
            )

    def is_awake(self) -> bool:
        """Return whether it looks at lines: every 0.5 ms then, where lgpio's other threads wake every 20 ms or never.

        True also without threads: lgpio is simulated, or its threads were started before it was loaded here.
        """
        before = {thread: _switches(thread) for thread in self._threads}
        give_up = time.monotonic() + _PROOF
        while before and not any(_switches(thread) >= count + _WAKES for thread, count in before.items()):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.001)
        return True


_threads: weakref.WeakKeyDictionary[LgpioModule, AlertThread] = weakref.WeakKeyDictionary()


def alert_thread(lgpio: LgpioModule, started: Set[str]) -> AlertThread:
    """Return the thread of `lgpio`, which has just opened a chip and `started` these threads for it."""
    return _threads.setdefault(lgpio, AlertThread(started))


def _switches(thread: str) -> int:
    """Return how often a thread of this process has gone to sleep (proc(5), voluntary_ctxt_switches)."""
    try:
        with open(f"/proc/self/task/{thread}/status", "rb") as file:
            return int(file.read().partition(b"\nvoluntary_ctxt_switches:")[2].split()[0])
    except OSError:
        return 0  # it has ended
