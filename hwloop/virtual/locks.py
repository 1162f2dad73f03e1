"""Locks, events and threads of a program without a loop, in virtual time.

Python's own are made of one primitive, the lock, and a thread that waits for a lock would stop the clock. So there is
a lock here whose waits are waits on the clock, and the standard classes on top of it: a condition, an event, a
semaphore, a timer and a thread behave as in `threading`, except that waiting lets virtual time pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hwloop.virtual.clock import VirtualClock


class Locks:
    """The names of `threading` that wait, for one clock: `names` replaces them in a program.

    `looked` is called whenever the program looks at an event that is set: one that does so again and again lets time
    pass.
    """

    def __init__(self, clock: VirtualClock, looked: Callable[[], object]) -> None:
        class Lock(ProgramLock):
            def __init__(self) -> None:
                super().__init__(clock)

        class RLock(ProgramRLock):
            def __init__(self) -> None:
                super().__init__(clock)

        class Condition(threading.Condition):
            """A condition whose waiters wait on the clock."""

            def __init__(self, lock: Any = None) -> None:
                super().__init__(RLock() if lock is None else lock)  # type: ignore[arg-type]

            def wait(self, timeout: float | None = None) -> bool:
                here: Any = self
                if not here._is_owned():
                    raise RuntimeError("cannot wait on un-acquired lock")
                waiter = Lock()
                waiter.acquire()
                here._waiters.append(waiter)
                held, woken = here._release_save(), False
                try:
                    woken = waiter.acquire(timeout=-1 if timeout is None else max(timeout, 0))
                    return woken
                finally:
                    here._acquire_restore(held)
                    if not woken and waiter in here._waiters:
                        here._waiters.remove(waiter)

            def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
                until_ns = clock.after_ns(timeout)
                while not (result := predicate()):
                    left_ns = until_ns - clock.now_ns()
                    if left_ns <= 0:
                        break
                    self.wait(None if timeout is None else left_ns / 1e9)
                return result

        class Event(threading.Event):
            def __init__(self) -> None:
                super().__init__()
                self._cond = Condition(Lock())

            def is_set(self) -> bool:
                looked()
                return super().is_set()

            def wait(self, timeout: float | None = None) -> bool:
                return self.is_set() or super().wait(timeout)

        class Semaphore(threading.Semaphore):
            def __init__(self, value: int = 1) -> None:
                super().__init__(value)
                self._cond = Condition(Lock())

            def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
                if not blocking and timeout is not None:
                    raise ValueError("can't specify timeout for non-blocking acquire")
                here: Any = self
                with self._cond:
                    if blocking:
                        self._cond.wait_for(lambda: here._value > 0, timeout)
                    if here._value <= 0:
                        return False
                    here._value -= 1
                    return True

            __enter__ = acquire

        class BoundedSemaphore(Semaphore):
            def __init__(self, value: int = 1) -> None:
                super().__init__(value)
                self._most = value

            def release(self, n: int = 1) -> None:
                with self._cond:
                    if self._value + n > self._most:
                        raise ValueError("Semaphore released too many times")
                super().release(n)

        class Barrier(threading.Barrier):
            def __init__(
                self, parties: int, action: Callable[[], None] | None = None, timeout: float | None = None
            ) -> None:
                super().__init__(parties, action, timeout)
                self._cond = Condition(Lock())

        class Thread(threading.Thread):
            """A thread that takes turns with all others on the clock."""

            def start(self) -> None:
                over, run = Condition(Lock()), self.run
                self._over, self._has_run = over, False

                def run_and_note() -> None:
                    try:
                        run()
                    finally:
                        with over:
                            self._has_run = True
                            over.notify_all()

                clock.adopt(self, run_and_note, super().start)

            def join(self, timeout: float | None = None) -> None:
                if self.ident is not None and self is not threading.current_thread():
                    with self._over:
                        if not self._over.wait_for(lambda: self._has_run, timeout):
                            return
                super().join()

        class Timer(Thread, threading.Timer):
            def __init__(self, interval: float, function: Callable[..., object], args: Any = None, kwargs: Any = None):
                threading.Timer.__init__(self, interval, function, args, kwargs)
                self.finished = Event()

        self.names: dict[str, Any] = {
            each.__name__: each
            for each in (Lock, RLock, Condition, Event, Semaphore, BoundedSemaphore, Barrier, Thread, Timer)
        }
        """By the name in `threading`."""
        for name, each in self.names.items():
            each.__qualname__ = name
            each.__module__ = "threading"


class ProgramLock:
    """A lock like that of `_thread`, on a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._free = clock.condition()
        self._locked = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, waiting for `timeout` seconds at most; -1 is for ever."""
        _check(blocking, timeout)
        with self._free:
            if self._locked and blocking and timeout:
                self._free.wait_for(lambda: not self._locked, None if timeout < 0 else timeout)
            if self._locked:
                return False
            self._locked = True
            return True

    def release(self) -> None:
        with self._free:
            if not self._locked:
                raise RuntimeError("release unlocked lock")
            self._locked = False
            self._free.notify()

    def locked(self) -> bool:
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class ProgramRLock:
    """A reentrant lock on a virtual clock, with the methods that `threading.Condition` uses."""

    def __init__(self, clock: VirtualClock) -> None:
        self._lock = ProgramLock(clock)
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, waiting for `timeout` seconds at most; -1 is for ever."""
        here = threading.get_ident()
        if self._owner != here:
            if not self._lock.acquire(blocking, timeout):
                return False
            self._owner = here
        self._count += 1
        return True

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._owner == threading.get_ident()

    def _release_save(self) -> int:
        count, self._count, self._owner = self._count, 0, None
        self._lock.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self._lock.acquire()
        self._count, self._owner = count, threading.get_ident()


def _check(blocking: bool, timeout: float) -> None:
    if not blocking and timeout != -1:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0 and timeout != -1:
        raise ValueError("timeout value must be a non-negative number")
