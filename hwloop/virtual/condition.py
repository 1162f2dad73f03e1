"""Conditions in virtual time: a thread that waits on one ends its turn, and its timeout is virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from hwloop.core.clock import Disturbed
from hwloop.virtual.sleepers import NEVER_NS, Sleeper

T = TypeVar("T")


class Turns(Protocol):
    """The part of a virtual clock that a condition uses."""

    driver: int

    @property
    def closed(self) -> bool: ...
    def now_ns(self) -> int: ...
    def after_ns(self, timeout: float | None) -> int: ...
    def is_in_place(self) -> bool: ...
    def block_loop(self, until_ns: int, done: Callable[[], bool]) -> None: ...
    def park(self, sleeper: Sleeper) -> None: ...
    def wake(self, sleeper: Sleeper) -> None: ...


class VirtualCondition(threading.Condition):
    """A condition on which a wait ends a thread's turn. Once the clock is closed it is an ordinary condition."""

    def __init__(self, clock: Turns, lock: threading.Lock | None = None) -> None:
        super().__init__(lock or threading.Lock())
        self._clock = clock
        self._sleepers: list[Sleeper] = []

    def wait(self, timeout: float | None = None) -> bool:
        clock = self._clock
        if clock.is_in_place():
            raise Disturbed
        if clock.closed:
            return super().wait(timeout)
        sleeper = Sleeper(clock.after_ns(timeout))
        self._sleepers.append(sleeper)
        self.release()
        try:
            if threading.get_ident() == clock.driver:
                clock.block_loop(sleeper.when_ns, lambda: sleeper.is_woken)
            else:
                clock.park(sleeper)
        finally:
            self.acquire()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        return sleeper.is_woken

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        clock = self._clock
        until_ns = clock.after_ns(timeout)
        while not (result := predicate()):
            left = None if until_ns == NEVER_NS else (until_ns - clock.now_ns()) / 1e9
            if left is not None and (left <= 0 or clock.closed):
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        super().notify(n)
        leaving, self._sleepers = self._sleepers[:n], self._sleepers[n:]
        for sleeper in leaving:
            self._clock.wake(sleeper)

    def notify_all(self) -> None:
        if waiting := len(self._sleepers) + len(self._waiters):  # type: ignore[attr-defined]
            self.notify(waiting)
