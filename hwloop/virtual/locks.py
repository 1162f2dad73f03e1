"""Locks, events and threads as programs know them from `threading`, which wait in the time of the program.

Python's own are made of one primitive, the lock, and a thread that waits for a lock would stop a virtual clock. So
there is a lock here whose waits are those of `hwloop.virtual.program_waits`, and the standard classes on top of it. In
a thread that belongs to no program they behave as Python's own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hwloop.virtual.program_waits import STRANGERS, Waiter, waits_here


class Lock:
    """A lock. `release()` passes it on to the thread that has waited longest."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locked = False
        self._waiting: list[Waiter] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, waiting for `timeout` seconds at most; -1 is for ever."""
        __tracebackhide__ = True
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        with self._guard:
            if not self._locked:
                self._locked = True
                return True
            if not blocking or timeout == 0:
                return False
            waiter = waits_here().waiter()
            self._waiting.append(waiter)
        try:
            waiter.wait(None if timeout < 0 else timeout)
        except BaseException:
            if self._leave(waiter):
                self.release()
            raise
        return self._leave(waiter)

    def _leave(self, waiter: Waiter) -> bool:
        """End a wait, and return whether the lock was passed on to it."""
        with self._guard:
            if waiter not in self._waiting:
                return True
            self._waiting.remove(waiter)
            return False

    def release(self) -> None:
        with self._guard:
            if not self._locked:
                raise RuntimeError("release unlocked lock")
            if not self._waiting:
                self._locked = False
                return
            waiter = self._waiting.pop(0)
        waiter.wake()

    def locked(self) -> bool:
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]


class RLock:
    """A reentrant lock, with the methods that `threading.Condition` uses."""

    def __init__(self) -> None:
        self._lock = Lock()
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

    def locked(self) -> bool:
        return self._lock.locked()

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

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]


class Condition(threading.Condition):
    """A condition whose waiters wait in the time of the program."""

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)  # type: ignore[arg-type]

    def wait(self, timeout: float | None = None) -> bool:
        __tracebackhide__ = True
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
        __tracebackhide__ = True
        waits = waits_here()
        until_ns = None if timeout is None else waits.now_ns() + round(max(timeout, 0.0) * 1e9)
        while not (result := predicate()):
            left_ns = None if until_ns is None else until_ns - waits.now_ns()
            if left_ns is not None and left_ns <= 0:
                break
            self.wait(None if left_ns is None else left_ns / 1e9)
        return result


class Event(threading.Event):
    """An event. A program that looks again and again whether it is set lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition(Lock())

    def is_set(self) -> bool:
        waits_here().looked()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        __tracebackhide__ = True
        here: Any = self
        if not self.is_set():
            with self._cond:
                self._cond.wait_for(lambda: here._flag, timeout)
        return super().is_set()


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
    def __init__(self, parties: int, action: Callable[[], None] | None = None, timeout: float | None = None) -> None:
        super().__init__(parties, action, timeout)
        self._cond = Condition(Lock())


class Thread(threading.Thread):
    """A thread that waits in the time of the program that starts it."""

    def start(self) -> None:
        waits = waits_here()
        if waits is STRANGERS:
            super().start()
            return
        over, run = Condition(Lock()), self.run
        self._over, self._has_run = over, False

        def run_and_note() -> None:
            try:
                run()
            finally:
                with over:
                    self._has_run = True
                    over.notify_all()

        waits.adopt(self, run_and_note, super().start)

    def join(self, timeout: float | None = None) -> None:
        __tracebackhide__ = True
        over: Condition | None = getattr(self, "_over", None)
        if over is None or self is threading.current_thread():
            super().join(timeout)
            return
        with over:
            if not over.wait_for(lambda: self._has_run, timeout):
                return
        super().join()


class Timer(Thread, threading.Timer):
    def __init__(self, interval: float, function: Callable[..., object], args: Any = None, kwargs: Any = None):
        threading.Timer.__init__(self, interval, function, args, kwargs)
        self.finished: Event = Event()


def renew(made: Any) -> None:
    """Let an event, a condition, a semaphore, a barrier or a queue of Python's own wait in the time of the program.

    Nothing may wait for it yet: it was made while a module was imported, before the program began.
    """
    if isinstance(made, queue.Queue):
        mutex = made.mutex = Lock()  # type: ignore[assignment]
        made.not_empty, made.not_full, made.all_tasks_done = (Condition(mutex) for _ in range(3))
    elif isinstance(made, threading.Condition):
        made.__class__ = Condition
        Condition.__init__(made)  # type: ignore[arg-type]
    else:
        made._cond = Condition(Lock())


RENEWED = (threading.Event, threading.Condition, threading.Semaphore, threading.Barrier, queue.Queue)
"""The classes that `renew` takes."""


NAMES: dict[str, Any] = {
    each.__name__: each for each in (Lock, RLock, Condition, Event, Semaphore, BoundedSemaphore, Barrier, Thread, Timer)
}
"""By the name in `threading`: the classes that a program finds there."""
for _name, _each in NAMES.items():
    _each.__module__ = "threading"
