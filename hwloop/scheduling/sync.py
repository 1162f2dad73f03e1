"""A lock, a queue and an event for tasks of unlike urgency.

asyncio's own wake their waiters in the order in which they came, so a HIGH task waits behind every LOW one that asked
first; and while a LOW task holds a lock that a HIGH one needs, ordinary work that is more urgent than the holder
keeps both from running: priority inversion. These here wake the most urgent waiter first (priority, then deadline, then
first come), and the lock lends its holder the urgency of whoever waits for it.

They are asyncio's classes with other waiting lines, and can be used wherever those can, on any asyncio loop. Urgency is
lent on hwloop's only. Waking takes time in proportion to the number of waiters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from hwloop.core.urgency import URGENCY, Urgency

T = TypeVar("T")


class _Waiter(NamedTuple):
    future: asyncio.Future[Any]
    task: asyncio.Task[Any] | None
    own: Urgency
    """The task's own urgency when it began to wait."""
    place: int

    def urgency(self) -> Urgency:
        """What counts for it now: its task may have been rescheduled, or lent some, while it waits."""
        in_force = getattr(self.future.get_loop(), "urgency_in_force", None)
        return self.own if in_force is None else in_force(self.task, self.own)

    def order(self) -> tuple[Urgency, int]:
        return self.urgency(), self.place


class _Line:
    """Futures in the order of their tasks' urgency: as much of a deque as asyncio's classes use."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[Any], _Waiter] = {}
        self._places = itertools.count()

    def append(self, future: asyncio.Future[Any]) -> None:
        """Let the running task, which is about to await `future`, take its place."""
        self._waiters[future] = _Waiter(future, asyncio.current_task(), URGENCY.get(), next(self._places))

    def popleft(self) -> asyncio.Future[Any]:
        return self.pop().future

    def pop(self) -> _Waiter:
        """The most urgent waiter, which leaves the line. ValueError if there is none."""
        first = min(self._waiters.values(), key=_Waiter.order)
        del self._waiters[first.future]
        return first

    def remove(self, future: asyncio.Future[Any]) -> None:
        """Take a future off the line. ValueError if it is not on it, as a deque has it."""
        if self._waiters.pop(future, None) is None:
            raise ValueError("not waiting")

    def most_urgent(self) -> Urgency | None:
        """The urgency of the first in the line that still waits; None if nobody does."""
        return min((waiter.urgency() for waiter in self._waiters.values() if not waiter.future.done()), default=None)

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, future: object) -> bool:
        return future in self._waiters

    def __iter__(self) -> Iterator[asyncio.Future[Any]]:
        return iter([waiter.future for waiter in sorted(self._waiters.values(), key=_Waiter.order)])


class Lock(asyncio.Lock):
    """`asyncio.Lock` that goes to the most urgent waiter and lends its holder that waiter's urgency until released.

    What is lent passes on from lock to lock, where the holder of one waits for another. It reaches the holder, what
    the holder waits for as far as the loop can see it (a timer, a thread's job, a task awaited directly), and
    nothing that the holder spawns. The lock passes from hand to hand: `release()` gives it to the next at once, so
    `locked()` stays true then.

        async with bus_lock:
            ...
    """

    _locked: bool
    _loop: asyncio.AbstractEventLoop | None

    def __init__(self) -> None:
        super().__init__()
        self._waiters: Any = _Line()
        self._holder: asyncio.Task[Any] | None = None

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is free and this task the most urgent one that waits for it; then hold it."""
        if not self._locked:
            self._locked = True
            self._holder = asyncio.current_task()
            return True
        loop: asyncio.AbstractEventLoop = self._get_loop()  # type: ignore[attr-defined]
        watch = getattr(loop, "watch_urgency", None)
        waiter = loop.create_future()
        self._waiters.append(waiter)
        task = asyncio.current_task()
        if watch is not None:
            watch(task, self._lend)
        self._lend()
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.release()  # it was given in the turn in which the task was cancelled
            raise
        finally:
            if watch is not None:
                watch(task, None)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._lend()
        return True

    def release(self) -> None:
        """Give the lock to the most urgent waiter, or free it. RuntimeError if it is not locked."""
        if not self._locked:
            raise RuntimeError("Lock is not acquired.")
        lend = getattr(self._loop, "lend_urgency", None)
        holder, self._holder = self._holder, None  # first: a holder that is still watched would be lent to again
        if lend is not None and holder is not None:
            lend(self, holder, None)
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.future.done():
                self._holder = waiter.task
                waiter.future.set_result(True)
                self._lend()
                return
        self._locked = False

    def _lend(self) -> None:
        """Have the holder be at least as urgent as the most urgent waiter."""
        lend = getattr(self._loop, "lend_urgency", None)
        if lend is not None and self._holder is not None:
            lend(self, self._holder, self._waiters.most_urgent())


class Event(asyncio.Event):
    """`asyncio.Event` that wakes the most urgent waiter first. On hwloop's loop they run in that order anyhow."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: Any = _Line()


class Queue(asyncio.Queue[T]):
    """`asyncio.Queue` whose items, and whose room when it is full, go to the most urgent task that waits for them.

    The items themselves stay first in, first out.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._getters: Any = _Line()
        self._putters: Any = _Line()
