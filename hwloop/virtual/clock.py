"""Virtual time: a clock that stands still while anything happens, and then jumps to the next thing that will.

The loop drives it (`hwloop.virtual.loop`). A simulated board and the threads that serve its buses live in it. A thread
blocks until the wire is done, so it can't be part of the loop. Here it takes *turns*: it runs only while the loop has
nothing to do, one thread at a time, until it sleeps on the clock, waits on one of its conditions, or ends. So two
threads never race, and what happens in which order does not depend on the machine.

Handing a turn to a thread and back costs more than a whole transfer on a simulated bus. So a job that is one transfer
is done by the loop's own thread while it rests, if nothing else happens until the transfer's end: the same at the same
times, which is why nobody can tell. Otherwise it is left to the thread before anything has begun.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hwloop.core.clock import Agenda, Clock, Disturbed

if TYPE_CHECKING:
    from hwloop.virtual.time_limit import TimeLimit

T = TypeVar("T")

START_NS = 1_000_000_000
"""The time at which a virtual clock begins. Not 0, which some programs take for "never"."""

_NEVER_NS = 1 << 100

PATIENCE = 1.0
"""Real seconds for which the loop waits for a thread's turn to end before it goes on without (time still stands)."""


FOREVER = 1e18
"""Seconds. A timer that is further away is taken for one that never comes: inf, or 1e300."""


class DeadlockError(RuntimeError):
    """In virtual time: nothing is ready or planned, and nothing that is watched could ever wake the program."""


class TimeLimitError(DeadlockError):
    """In virtual time: time has gone on for longer than it may, and the program has not ended. See `timelimit`."""


class _Sleeper:
    """A thread that waits for its turn: at a time, once it is woken, or whichever comes first."""

    __slots__ = ("go", "member", "number", "parked", "when_ns", "woken")

    def __init__(self, when_ns: int = _NEVER_NS, *, member: bool = False, woken: bool = False) -> None:
        self.when_ns = when_ns
        self.member = member
        self.number = 0
        self.parked = False
        self.woken = woken
        self.go = threading.Lock()
        self.go.acquire()


class VirtualClock(Clock):
    """Nanoseconds that pass only when the loop says so. One for each loop: `SimLoop(clock=)`, `SimBoard(clock=)`.

    Threads started by `start()` take turns. Another thread may sleep on the clock too, but is not waited for: it goes
    on beside the loop.
    """

    def __init__(self) -> None:
        self.driver = threading.get_ident()
        """The loop's thread. Where it sleeps itself, board and threads go on, and the loop's callbacks do not."""
        self.closed = False
        self.seconds = START_NS / 1e9
        """The time as a float, for `loop.time()`."""
        self.written = True
        """Whether the program, or a thread, may have written to a simulated device since that was looked at."""
        self._now_ns = START_NS
        self.limit: TimeLimit | None = None
        """Ends a run that goes on for too long; the loop sets it."""
        self._agendas: list[Agenda] = []
        self._claimed: set[int] = set()
        self._guard = threading.RLock()
        self._sleeping: list[_Sleeper] = []
        self._parked = 0
        self._woken: collections.deque[_Sleeper | Callable[[], object]] = collections.deque()
        self.members: set[int] = set()
        """The identifiers of the threads that take turns."""
        self._turn_over = threading.Lock()
        self._turn_over.acquire()
        self._turn_taken = False
        self._undisturbed: Callable[[int], bool] | None = None
        self._in_place = False
        self._foreseen_ns = 0

    # What boards and threads use.

    def now_ns(self) -> int:
        return self._now_ns

    def time(self) -> float:
        """Return the time in seconds, for `loop.time()`."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if not 0 < seconds < FOREVER:
            if seconds != 0:
                raise ValueError(f"a sleep is 0 seconds or more, and less than {FOREVER:g}, not {seconds!r}")
            return
        when_ns = self._now_ns + round(seconds * 1e9)
        if threading.get_ident() == self.driver:
            if when_ns <= self._foreseen_ns:
                self.jump(when_ns)
            else:
                self._block_loop(when_ns, lambda: False)
        elif not self._sleep_through(when_ns):
            self._park(_Sleeper(when_ns))

    def condition(self) -> threading.Condition:
        return _Condition(self)

    def start(self, main: Callable[[], object], name: str) -> threading.Thread:
        sleeper = _Sleeper(member=True, woken=True)

        def run() -> None:
            self.members.add(threading.get_ident())
            sleeper.go.acquire()
            try:
                main()
            finally:
                self.members.discard(threading.get_ident())
                self._end_turn()

        thread = super().start(run, name)
        self._woken.append(sleeper)
        if self.closed:
            sleeper.go.release()
        return thread

    def join(self, thread: threading.Thread) -> None:
        while thread.is_alive() and self._give_turn():
            pass
        thread.join()

    def take_turn(self, turn: Callable[[], object]) -> bool:
        if self.closed:
            return False
        self._woken.append(turn)
        return True

    def foresee(self, nanoseconds: int | None) -> None:
        if self._in_place and threading.get_ident() == self.driver:
            if nanoseconds is None or not self._free_until(self._now_ns + nanoseconds):
                raise Disturbed
            self._foreseen_ns = self._now_ns + nanoseconds

    def attach(self, agenda: Agenda) -> bool:
        self._agendas.append(agenda)
        return True

    def detach(self, agenda: Agenda) -> None:
        if agenda in self._agendas:
            self._agendas.remove(agenda)

    def claim(self, fd: int) -> None:
        self._claimed.add(fd)

    def disclaim(self, fd: int) -> None:
        self._claimed.discard(fd)

    # What the loop uses.

    @property
    def claimed(self) -> frozenset[int]:
        """Descriptors that only this clock's doing makes readable."""
        return frozenset(self._claimed)

    @property
    def busy(self) -> bool:
        """Whether a thread's turn goes on: it has outlasted the loop's patience."""
        return self._turn_taken

    def next_ns(self) -> int | None:
        """When the next thing happens on a board or in a thread; None if nothing is due ever."""
        first = None
        for agenda in self._agendas:
            when_ns = agenda.next_ns()
            if when_ns is not None and (first is None or when_ns < first):
                first = when_ns
        if self._sleeping:
            with self._guard:
                for sleeper in self._sleeping:
                    if first is None or sleeper.when_ns < first:
                        first = sleeper.when_ns
        return first

    def planned(self) -> tuple[int, ...]:
        """How many sleeps of threads and how many things on each board have been planned so far."""
        return (self._parked, *(agenda.planned() for agenda in self._agendas))

    def plans_before(self, counts: tuple[int, ...]) -> bool:
        """Whether something that had been planned when `planned()` returned `counts` is still to come."""
        with self._guard:
            if any(sleeper.number < counts[0] for sleeper in self._sleeping):
                return True
        return any(agenda.plans_before(count) for agenda, count in zip(self._agendas, counts[1:], strict=False))

    def after_ns(self, timeout: float | None) -> int:
        """Return the time at which a timeout has passed. Raises ValueError for NaN."""
        if timeout is None or timeout >= FOREVER:
            return _NEVER_NS
        if timeout != timeout:
            raise ValueError("a timeout is a number of seconds, not NaN")
        return self._now_ns + round(max(timeout, 0.0) * 1e9)

    def jump(self, when_ns: int, seconds: float = 0.0) -> None:
        """Go on to a time; never back. `seconds` is that of the timer that is due then, which may be no whole number of
        nanoseconds and must not come early."""
        if when_ns > self._now_ns:
            self._now_ns = when_ns
            seconds = max(seconds, when_ns / 1e9)
        if seconds > self.seconds:
            self.seconds = seconds

    def settle(self, undisturbed: Callable[[int], bool] | None = None) -> bool:
        """Let happen what is due now: first on the boards, then one thread's turn. Whether there was anything.

        With `undisturbed(when_ns)`, which says whether the loop would be at rest until after that time, a thread may
        keep its turn while it sleeps.
        """
        happened = False
        written, self.written = self.written, False
        for agenda in self._agendas:
            if written and agenda.run_readable():
                happened = True
            if agenda.run_due():
                happened = True
        if happened or not (self._turn_taken or self._woken or self._sleeping):
            return happened
        return self._give_turn(undisturbed)

    def close(self) -> None:
        """The loop is closed: no more time passes. Sleeping threads go on at once, to find their end."""
        with self._guard:
            self.closed = True
            leaving = [it for it in (*self._woken, *self._sleeping) if isinstance(it, _Sleeper)]
            self._woken.clear()
            self._sleeping.clear()
        for sleeper in leaving:
            sleeper.go.release()

    # Turns.

    def _give_turn(self, undisturbed: Callable[[int], bool] | None = None) -> bool:
        """Let the thread whose turn it is run until it waits again. False if there is none, or it takes too long."""
        patience = 0.0
        if not self._turn_taken:
            sleeper = self._whose_turn()
            if sleeper is None:
                return False
            self._undisturbed = undisturbed
            if not isinstance(sleeper, _Sleeper):
                self._run_in_place(sleeper)
                return True
            self._turn_taken = sleeper.member
            self.written = True
            sleeper.go.release()
            if not sleeper.member:
                return True
            patience = PATIENCE
        self._turn_taken = not self._turn_over.acquire(timeout=patience)
        if self._undisturbed is not None:
            with self._guard:
                self._undisturbed = None  # from now on the loop runs, perhaps beside the thread
        return not self._turn_taken

    def _run_in_place(self, turn: Callable[[], object]) -> None:
        self._in_place = True
        try:
            turn()
        finally:
            self._in_place = False
            self._foreseen_ns = 0
            self._undisturbed = None

    def _sleep_through(self, when_ns: int) -> bool:
        """On the thread whose turn it is: where nothing else happens until then, jump without ending the turn.

        It comes to the same, and saves handing the turn back and forth, which costs far more than the transfer.
        """
        if self._undisturbed is None or threading.get_ident() not in self.members:
            return False
        with self._guard:
            if any(agenda.run_readable() for agenda in self._agendas) or not self._free_until(when_ns):
                return False
            self.jump(when_ns)
            return True

    def _free_until(self, when_ns: int) -> bool:
        """Asked in a turn: whether nothing else happens until after that time."""
        if self._undisturbed is None or self.closed or self._woken:
            return False
        next_ns = self.next_ns()
        return (next_ns is None or next_ns > when_ns) and self._undisturbed(when_ns)

    def _whose_turn(self) -> _Sleeper | Callable[[], object] | None:
        """The one woken first, else the one whose time has come first."""
        with self._guard:
            if self._woken:
                return self._woken.popleft()
            due = [sleeper for sleeper in self._sleeping if sleeper.when_ns <= self._now_ns]
            if not due:
                return None
            first = min(due, key=lambda sleeper: sleeper.when_ns)
            first.parked = False
            self._sleeping.remove(first)
            return first

    def _end_turn(self) -> None:
        if not self.closed:
            self._turn_over.release()

    def _park(self, sleeper: _Sleeper) -> None:
        """Wait for the next turn: on the thread."""
        with self._guard:
            if self.closed and (sleeper.woken or sleeper.when_ns < _NEVER_NS):
                return
            sleeper.member = threading.get_ident() in self.members
            if sleeper.woken:
                self._woken.append(sleeper)
            else:
                sleeper.parked = True
                if sleeper.when_ns < _NEVER_NS:
                    sleeper.number = self._parked
                    self._parked += 1
                    self._sleeping.append(sleeper)
        if sleeper.member:
            self._end_turn()
        sleeper.go.acquire()

    def _wake(self, sleeper: _Sleeper) -> None:
        """Someone has notified the condition that a thread waits on."""
        with self._guard:
            sleeper.woken = True
            if sleeper.parked:
                sleeper.parked = False
                if sleeper in self._sleeping:
                    self._sleeping.remove(sleeper)
                if self.closed:
                    sleeper.go.release()
                else:
                    self._woken.append(sleeper)

    def _block_loop(self, until_ns: int, done: Callable[[], bool]) -> None:
        """The loop's own thread blocks: let board and threads go on until then."""
        self.written = True
        limit = self.limit
        if limit is not None:
            limit.begin_wait()
        while not done() and not self.closed:
            if self.settle() or self.busy:
                continue
            if until_ns <= self._now_ns:
                return
            next_ns = self.next_ns()
            if next_ns is None and until_ns == _NEVER_NS:
                raise DeadlockError("the loop's own thread waits for what nothing can ever bring about")
            next_ns = until_ns if next_ns is None else min(until_ns, next_ns)
            if limit is not None:
                reason = limit.stalled() if until_ns == _NEVER_NS else None
                if next_ns > limit.ends_ns:
                    reason = limit.reason()
                if reason is not None:
                    raise TimeLimitError(f"the loop's own thread waits: {reason}")
            self.jump(next_ns)


class _Condition(threading.Condition):
    """A condition on which waiting ends a thread's turn. After the clock's end it is an ordinary one."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(threading.Lock())
        self._clock = clock
        self._sleepers: list[_Sleeper] = []

    def wait(self, timeout: float | None = None) -> bool:
        clock = self._clock
        if clock._in_place and threading.get_ident() == clock.driver:
            raise Disturbed
        if clock.closed:
            return super().wait(timeout)
        sleeper = _Sleeper(clock.after_ns(timeout))
        self._sleepers.append(sleeper)
        self.release()
        try:
            if threading.get_ident() == clock.driver:
                clock._block_loop(sleeper.when_ns, lambda: sleeper.woken)
            else:
                clock._park(sleeper)
        finally:
            self.acquire()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        return sleeper.woken

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        clock = self._clock
        until_ns = clock.after_ns(timeout)
        while not (result := predicate()):
            left = None if until_ns == _NEVER_NS else (until_ns - clock.now_ns()) / 1e9
            if left is not None and (left <= 0 or clock.closed):
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        super().notify(n)
        leaving, self._sleepers = self._sleepers[:n], self._sleepers[n:]
        for sleeper in leaving:
            self._clock._wake(sleeper)

    def notify_all(self) -> None:
        self.notify(len(self._sleepers) + len(self._waiters))  # type: ignore[attr-defined]
