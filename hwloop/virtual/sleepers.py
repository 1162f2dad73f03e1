"""Threads that wait for their turn on a virtual clock: which of them was woken, and which sleeps until when.

A wait ends at its time, by a notification, or by an *interruption*: a function that the thread calls where it waits, as
Python calls the handler of a signal. If that raises, the wait ends with the exception; otherwise it goes on. A thread
that does not wait calls the function when it waits next.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

NEVER_NS = 1 << 100
"""A time that never comes."""


class Sleeper:
    """A thread that waits for its turn: at a time, once it is woken, or whichever comes first.

    Attributes:
        when_ns: the time; `NEVER_NS` if only a notification wakes it.
        is_member: whether the thread takes turns, so that the loop waits for it.
        number: its place among the planned sleeps.
        is_parked: whether it waits now.
        is_woken: whether its condition was notified.
        go: held until the turn comes.
    """

    __slots__ = ("go", "is_member", "is_parked", "is_woken", "number", "when_ns")

    def __init__(self, when_ns: int = NEVER_NS, *, member: bool = False, woken: bool = False) -> None:
        self.when_ns: int = when_ns
        self.is_member: bool = member
        self.number: int = 0
        self.is_parked: bool = False
        self.is_woken: bool = woken
        self.go: threading.Lock = threading.Lock()
        self.go.acquire()


class Interruptions:
    """Functions that threads call where they wait."""

    def __init__(self) -> None:
        self._actions: dict[int, list[Callable[[], object]]] = {}

    def add(self, ident: int, action: Callable[[], object]) -> None:
        """Let a thread call `action()`."""
        self._actions.setdefault(ident, []).append(action)

    def run(self) -> bool:
        """Call the functions that are due on the calling thread. Return whether there were any."""
        if not self._actions or (actions := self._actions.pop(threading.get_ident(), None)) is None:
            return False
        while actions:
            actions.pop(0)()
        return True

    def forget(self, ident: int) -> None:
        """Forget those of a thread that has ended: another one has got its number."""
        self._actions.pop(ident, None)


class Sleepers:
    """The waiting threads of one clock.

    Attributes:
        sleeping: those that wait for a time.
        woken: those whose turn has come, in order, and jobs in the place of a thread.
        planned: how many sleeps have been planned so far.
        closed: whether the clock is closed: nobody waits for a time any more.
        guard: held while any of this changes.
    """

    def __init__(self) -> None:
        self.sleeping: list[Sleeper] = []
        self.woken: collections.deque[Sleeper | Callable[[], object]] = collections.deque()
        self.planned: int = 0
        self.closed: bool = False
        self.guard: threading.RLock = threading.RLock()
        self._waiting: dict[int, Sleeper] = {}  # by thread
        self.interruptions: Interruptions = Interruptions()

    def next_ns(self, first: int | None) -> int | None:
        """Return the time of the first sleeper, or `first` if that is earlier."""
        with self.guard:
            for sleeper in self.sleeping:
                if first is None or sleeper.when_ns < first:
                    first = sleeper.when_ns
        return first

    def plans_before(self, count: int) -> bool:
        """Return whether one of the first `count` planned sleeps has yet to end."""
        with self.guard:
            return any(sleeper.number < count for sleeper in self.sleeping)

    def next_turn(self, now_ns: int) -> Sleeper | Callable[[], object] | None:
        """Return the sleeper that was woken first, else the one whose time has come first."""
        with self.guard:
            if self.woken:
                return self.woken.popleft()
            due = [sleeper for sleeper in self.sleeping if sleeper.when_ns <= now_ns]
            if not due:
                return None
            first = min(due, key=lambda sleeper: sleeper.when_ns)
            first.is_parked = False
            self.sleeping.remove(first)
            return first

    def park(self, sleeper: Sleeper, members: set[int], end_turn: Callable[[], object]) -> None:
        """Wait, on the thread, for its next turn. `end_turn()` ends the present one if the thread is one of `members`.

        Raises what an interruption raises.
        """
        self.interruptions.run()
        ident = threading.get_ident()
        while True:
            with self.guard:
                if self.closed and (sleeper.is_woken or sleeper.when_ns < NEVER_NS):
                    return
                sleeper.is_member = ident in members
                if sleeper.is_woken:
                    self.woken.append(sleeper)
                else:
                    sleeper.is_parked = True
                    self._waiting[ident] = sleeper
                    if sleeper.when_ns < NEVER_NS:
                        sleeper.number = self.planned
                        self.planned += 1
                        self.sleeping.append(sleeper)
            if sleeper.is_member:
                end_turn()
            sleeper.go.acquire()
            with self.guard:
                self._waiting.pop(ident, None)
            if not self.interruptions.run() or sleeper.is_woken:
                return

    def wake(self, sleeper: Sleeper) -> None:
        """Give a thread its turn, because the condition that it waits on was notified."""
        with self.guard:
            sleeper.is_woken = True
            self._rouse(sleeper)

    def interrupt(self, ident: int, action: Callable[[], object]) -> None:
        """Let a thread call `action()` where it waits now or next."""
        with self.guard:
            self.interruptions.add(ident, action)
            if (sleeper := self._waiting.get(ident)) is not None:
                self._rouse(sleeper)

    def is_waiting(self, ident: int) -> bool:
        """Return whether a thread waits, and for nothing that has come already."""
        with self.guard:
            sleeper = self._waiting.get(ident)
            return sleeper is not None and sleeper.is_parked

    def _rouse(self, sleeper: Sleeper) -> None:
        if not sleeper.is_parked:
            return
        sleeper.is_parked = False
        if sleeper in self.sleeping:
            self.sleeping.remove(sleeper)
        if self.closed:
            sleeper.go.release()
        else:
            self.woken.append(sleeper)

    def close(self) -> None:
        """Let those that were woken, or wait for a time, go on at once."""
        with self.guard:
            self.closed = True
            leaving = [each for each in (*self.woken, *self.sleeping) if isinstance(each, Sleeper)]
            self.woken.clear()
            self.sleeping.clear()
        for sleeper in leaving:
            sleeper.go.release()
