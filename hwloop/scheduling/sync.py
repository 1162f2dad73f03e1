"""Locks with priority inheritance, and queues and events that wake the most urgent waiter first.

asyncio's own wake their waiters in order of arrival, so a HIGH task waits behind every LOW one that asked first. And
while a LOW task holds a lock that a HIGH one needs, ordinary work that is more urgent than the holder keeps both from
running: priority inversion. The classes here wake the most urgent waiter first (priority, then deadline, then first
come), and the lock lends its holder the urgency of its most urgent waiter.

They are asyncio's classes with other wait queues, and work wherever those do, on any asyncio loop. Urgency is lent on
hwloop's loop only. Waking takes time in proportion to the number of waiters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from hwloop.core.inheritance import PriorityInheritance
from hwloop.core.urgency import URGENCY, Urgency

T = TypeVar("T")


class _Waiter(NamedTuple):
    future: asyncio.Future[Any]
    task: asyncio.Task[Any] | None
    own: Urgency
    """The task's own urgency when it began to wait."""
    place: int

    def urgency(self) -> Urgency:
        """Return its urgency now: its task may have been rescheduled, or lent some, while it waits."""
        inheritance = _inheritance(self.future.get_loop())
        return self.own if inheritance is None or self.task is None else inheritance.in_force(self.task, self.own)

    def order(self) -> tuple[Urgency, int]:
        return self.urgency(), self.place


class _WaitQueue:
    """Futures in the order of their tasks' urgency, with the part of a deque's interface that asyncio's classes use."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[Any], _Waiter] = {}
        self._places = itertools.count()

    def append(self, future: asyncio.Future[Any]) -> None:
        """Add the running task, which is about to await `future`."""
        self._waiters[future] = _Waiter(future, asyncio.current_task(), URGENCY.get(), next(self._places))

    def popleft(self) -> asyncio.Future[Any]:
        return self.pop().future

    def pop(self) -> _Waiter:
        """Remove and return the most urgent waiter. Raises ValueError if there is none."""
        first = min(self._waiters.values(), key=_Waiter.order)
        del self._waiters[first.future]
        return first

    def remove(self, future: asyncio.Future[Any]) -> None:
        """Remove a future. Raises ValueError if it is not there, as a deque does."""
        if self._waiters.pop(future, None) is None:
            raise ValueError("not waiting")

    def most_urgent(self) -> Urgency | None:
        """Return the urgency of the most urgent task that still waits; None if no task does."""
        return min((waiter.urgency() for waiter in self._waiters.values() if not waiter.future.done()), default=None)

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, future: object) -> bool:
        return future in self._waiters

    def __iter__(self) -> Iterator[asyncio.Future[Any]]:
        return iter([waiter.future for waiter in sorted(self._waiters.values(), key=_Waiter.order)])


def _inheritance(loop: Any) -> PriorityInheritance | None:
    """Return the loop's priority inheritance; None on another loop than hwloop's."""
    return getattr(loop, "urgency", None)


class Lock(asyncio.Lock):
    """`asyncio.Lock` that goes to the most urgent waiter and lends its holder that waiter's urgency until released.

    Lent urgency passes on from lock to lock, where the holder of one waits for another. It reaches the holder, whatever
    the holder waits for as far as the loop can see it (a timer, a thread's job, a task awaited directly), and no task
    that the holder spawns. `release()` gives the lock to the next waiter at once, so `locked()` stays true then.

        async with bus_lock:
            ...
    """

    _locked: bool
    _loop: asyncio.AbstractEventLoop | None

    def __init__(self) -> None:
        super().__init__()
        self._waiters: Any = _WaitQueue()
        self._holder: asyncio.Task[Any] | None = None

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is free and this task is the most urgent one that waits for it; then hold it."""
        if not self._locked:
            self._locked = True
            self._holder = asyncio.current_task()
            return True
        loop: asyncio.AbstractEventLoop = self._get_loop()  # type: ignore[attr-defined]
        inheritance, task = _inheritance(loop), asyncio.current_task()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        if inheritance is not None and task is not None:
            inheritance.watch(task, self._lend)
        self._lend()
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the task got it and was cancelled in the same turn
            raise
        finally:
            if inheritance is not None and task is not None:
                inheritance.watch(task, None)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._lend()
        return True

    def release(self) -> None:
        """Give the lock to the most urgent waiter, or free it. Raises RuntimeError if it is not locked."""
        if not self._locked:
            raise RuntimeError("Lock is not acquired.")
        inheritance = _inheritance(self._loop)
        holder, self._holder = self._holder, None  # first, or a holder that is still watched would be lent to again
        if inheritance is not None and holder is not None:
            inheritance.lend(self, holder, None)
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.future.done():
                self._holder = waiter.task
                waiter.future.set_result(True)
                self._lend()
                return
        self._locked = False

    def _lend(self) -> None:
        """Lend the holder the urgency of the most urgent waiter."""
        inheritance = _inheritance(self._loop)
        if inheritance is not None and self._holder is not None:
            inheritance.lend(self, self._holder, self._waiters.most_urgent())


class Event(asyncio.Event):
    """`asyncio.Event` that wakes the most urgent waiter first. On hwloop's loop they run in that order anyway."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: Any = _WaitQueue()


class Queue(asyncio.Queue[T]):
    """`asyncio.Queue` that gives its items, and its room when it is full, to the most urgent task that waits.

    The items themselves stay first in, first out.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._getters: Any = _WaitQueue()
        self._putters: Any = _WaitQueue()
