"""The waits of a program's threads: on the clock of its board, and open to interruption.

The names that a program finds in `threading` and `time` (`hwloop.virtual.locks`, `hwloop.testing.program_time`) stay in
its libraries, which other programs and other threads of the process use as well. So they know no clock. Each call asks
`waits_here()` how its thread waits: in the time of the program in use, if the thread is one of that program's, and else
in real time.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.sleepers import Interruptions, Sleeper

_LONGEST_END = 10.0
"""Real seconds that a thread may take to end after its last turn."""


class Waiter(Protocol):
    """One wait of a thread."""

    def wait(self, timeout: float | None) -> None:
        """Wait until `wake()`, for `timeout` seconds at most. Raises what an interruption raises."""

    def wake(self) -> None:
        """End the wait. Called once, from any thread."""


class Waits(Protocol):
    """The way in which some threads wait."""

    @property
    def is_virtual(self) -> bool:
        """Whether they wait in virtual time."""

    def includes(self, ident: int) -> bool:
        """Return whether a thread waits in this way."""

    def waiter(self) -> Waiter:
        """Return a new wait of the calling thread."""

    def now_ns(self) -> int:
        """Return the time, in nanoseconds of the clock."""

    def date_ns(self) -> int:
        """Return the time of day, in nanoseconds since 1970."""

    def sleep(self, seconds: float) -> None:
        """Let time pass. Raises what an interruption raises."""

    def looked(self) -> None:
        """Note that the program looks at something that only time changes, perhaps again and again."""

    def adopt(self, thread: threading.Thread, main: Callable[[], object], start: Callable[[], object]) -> None:
        """Start a thread of the program, which runs `main()`; `start()` starts it as Python does."""

    def threads(self) -> list[threading.Thread]:
        """Return the threads of the program that have not ended, oldest first."""

    def is_waiting(self, ident: int) -> bool:
        """Return whether a thread waits."""

    def interrupt(self, ident: int, action: Callable[[], object]) -> None:
        """Let a thread call `action()` where it waits now or next. An exception of `action` ends the wait."""


class VirtualWaits:
    """The waits of a program in virtual time: its threads take turns on the clock, and one of them may drive it.

    Parameters:
        clock: the clock of the board.
        looked: lets the time of a look pass, for a program that looks again and again.
        block: blocks the driving thread until a time, or until `done()` is true: `block(until_ns, done)`.
        sleep: lets time pass in the driving thread.
        date_ns: the time of day at which the program begins, in nanoseconds since 1970; None for the real one.
    """

    is_virtual = True

    def __init__(
        self,
        clock: VirtualClock,
        looked: Callable[[], object],
        block: Callable[[int, Callable[[], bool]], object],
        sleep: Callable[[float], object],
        date_ns: int | None = None,
    ) -> None:
        self.clock = clock
        self._looked = looked
        self.block = block
        self._sleep = sleep
        self._threads: list[threading.Thread] = []
        self._ending: list[threading.Thread] = []
        self._date_ns = (time.time_ns() if date_ns is None else date_ns) - clock.now_ns()

    def includes(self, ident: int) -> bool:
        clock = self.clock
        return (ident in clock.members or ident == clock.driver) and not clock.closed

    def waiter(self) -> Waiter:
        return _VirtualWaiter(self.clock, self.block)

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def date_ns(self) -> int:
        return self._date_ns + self.clock.now_ns()

    def sleep(self, seconds: float) -> None:
        __tracebackhide__ = True
        if threading.get_ident() == self.clock.driver:
            self._sleep(seconds)
        else:
            self.clock.sleep(seconds)

    def looked(self) -> None:
        self._looked()

    def adopt(self, thread: threading.Thread, main: Callable[[], object], start: Callable[[], object]) -> None:
        def run() -> None:
            try:
                main()
            except BaseException:
                thread._invoke_excepthook(thread)  # type: ignore[attr-defined]  # Python does so after the last turn
            finally:
                self._ending.append(thread)

        self._threads = self.threads()
        self._threads.append(thread)
        self.clock.adopt(thread, run, start)

    def threads(self) -> list[threading.Thread]:
        # A thread that has had its last turn has not ended yet, and no virtual time must pass until it has.
        for thread in [each for each in self._ending if each is not threading.current_thread()]:
            thread.join(_LONGEST_END)
            with contextlib.suppress(ValueError):  # another thread was here meanwhile
                self._ending.remove(thread)
        return [thread for thread in self._threads if thread.is_alive()]

    def is_waiting(self, ident: int) -> bool:
        return self.clock.sleepers.is_waiting(ident)

    def interrupt(self, ident: int, action: Callable[[], object]) -> None:
        self.clock.sleepers.interrupt(ident, action)


class _VirtualWaiter:
    def __init__(self, clock: VirtualClock, block: Callable[[int, Callable[[], bool]], object]) -> None:
        self._clock = clock
        self._block = block
        self._sleeper = Sleeper()

    def wait(self, timeout: float | None) -> None:
        __tracebackhide__ = True
        sleeper = self._sleeper
        sleeper.when_ns = self._clock.after_ns(timeout)
        if threading.get_ident() == self._clock.driver:
            self._block(sleeper.when_ns, lambda: sleeper.is_woken)
        elif timeout is None:
            self._clock.park(sleeper)
        else:
            self._clock.sleep_until(sleeper)

    def wake(self) -> None:
        self._clock.wake(self._sleeper)


class RealWaits:
    """The waits of a program in real time, whose threads can be interrupted where they wait.

    All threads belong to it that are started from now on.
    """

    is_virtual = False

    def __init__(self) -> None:
        self._before = {thread.ident for thread in threading.enumerate()}
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()
        self._waiting: dict[int, _RealWaiter] = {}
        self._interruptions = Interruptions()

    def includes(self, ident: int) -> bool:
        return ident not in self._before

    def waiter(self) -> Waiter:
        return _RealWaiter(self)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def date_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        self.waiter().wait(seconds)

    def looked(self) -> None:
        """Do nothing: time passes by itself."""

    def adopt(self, thread: threading.Thread, main: Callable[[], object], start: Callable[[], object]) -> None:
        def run() -> None:
            self._interruptions.forget(threading.get_ident())
            main()

        self._threads = self.threads()
        self._threads.append(thread)
        thread.run = run  # type: ignore[method-assign]
        start()

    def threads(self) -> list[threading.Thread]:
        return [thread for thread in self._threads if thread.is_alive()]

    def is_waiting(self, ident: int) -> bool:
        return ident in self._waiting

    def interrupt(self, ident: int, action: Callable[[], object]) -> None:
        with self._guard:
            self._interruptions.add(ident, action)
            if (waiter := self._waiting.get(ident)) is not None:
                waiter.rouse()

    def wait(self, waiter: _RealWaiter, until: float) -> None:
        """Wait in the calling thread until a time (CLOCK_MONOTONIC), or until the waiter is woken."""
        ident = threading.get_ident()
        self._interruptions.run()
        while not waiter.is_woken and (left := until - time.monotonic()) > 0:
            with self._guard:
                self._waiting[ident] = waiter
            waiter.go.acquire(timeout=min(left, threading.TIMEOUT_MAX))
            with self._guard:
                self._waiting.pop(ident, None)
            self._interruptions.run()


class _RealWaiter:
    def __init__(self, waits: RealWaits) -> None:
        self._waits = waits
        self.go: threading.Semaphore = threading.Semaphore(0)
        self.is_woken: bool = False

    def wait(self, timeout: float | None) -> None:
        self._waits.wait(self, math.inf if timeout is None else time.monotonic() + timeout)

    def wake(self) -> None:
        self.is_woken = True
        self.go.release()

    def rouse(self) -> None:
        """Have the thread look for interruptions."""
        self.go.release()


class _Strangers(RealWaits):
    """The waits of threads that belong to no program, such as those of pytest."""

    def includes(self, ident: int) -> bool:
        return True

    def adopt(self, thread: threading.Thread, main: Callable[[], object], start: Callable[[], object]) -> None:
        start()


STRANGERS: Waits = _Strangers()
_in_use: list[Waits] = []


def waits_here() -> Waits:
    """Return the way in which the calling thread waits."""
    if _in_use and (waits := _in_use[-1]).includes(threading.get_ident()):
        return waits
    return STRANGERS


@contextlib.contextmanager
def using(waits: Waits) -> Iterator[None]:
    """In this block, let the threads of a program wait in this way."""
    _in_use.append(waits)
    try:
        yield
    finally:
        _in_use.remove(waits)
