"""Virtual time: a clock that stands still while anything happens, and then jumps to the next planned event.

The loop drives it (`hwloop.virtual.poller`). A simulated board and the threads that serve its buses live in it. A
thread blocks until the wire is done, so it can't be part of the loop. Here it takes *turns*: it runs only while the
loop has nothing to do, one thread at a time, until it sleeps on the clock, waits on one of its conditions, or ends. So
two threads never race, and the order of events does not depend on the machine.

Handing a turn to a thread and back costs more than a whole transfer on a simulated bus. So the loop's own thread does a
job that is one transfer while it rests, if nothing else happens until the end of the transfer: the same events happen
at the same times. Otherwise it leaves the job to the thread before anything has begun.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from hwloop.core.clock import Agenda, Clock, Disturbed
from hwloop.virtual.condition import VirtualCondition
from hwloop.virtual.errors import DeadlockError, TimeLimitError
from hwloop.virtual.sleepers import NEVER_NS, Sleeper, Sleepers

if TYPE_CHECKING:
    from hwloop.virtual.time_limit import TimeLimit

START_NS = 1_000_000_000
"""The time at which a virtual clock begins. Not 0, which some programs take for "never"."""

PATIENCE = 1.0
"""Real seconds for which the loop waits until a thread's turn ends, before it goes on (time still stands)."""


_BUSY_PAUSE = 0.001
"""Real seconds between two looks at a thread whose turn outlasts that."""

FOREVER = 1e18
"""Seconds. A timer that is further away never comes: inf, or 1e300."""


def _never() -> bool:
    return False


class VirtualClock(Clock):
    """A clock whose time passes only when the loop lets it. One for each loop: `SimLoop(clock=)`, `SimBoard(clock=)`.

    Threads started by `start()` take turns. Another thread may sleep on the clock too, but the loop does not wait for
    it.
    """

    def __init__(self) -> None:
        self.driver: int = get_ident()
        """The loop's thread. If it sleeps itself, board and threads go on, and the loop's callbacks do not."""
        self.seconds: float = START_NS / 1e9
        """The time as a float, for `loop.time()`."""
        self.written: bool = True
        """Whether the program, or a thread, may have written to a simulated device since it was last read."""
        self._now_ns = START_NS
        self.limit: TimeLimit | None = None
        """Ends a run that lasts too long; the loop sets it."""
        self._agendas: list[Agenda] = []
        self.only: Agenda | None = None
        """The board, if there is one only."""
        self._claimed: dict[int, bool] = {}  # whether they are announced
        self.claims: int = 0
        """How often a descriptor was claimed or disclaimed."""
        self.announced: bool = False
        """Whether a claimed descriptor may have become readable since this was set to False."""
        self.sleepers: Sleepers = Sleepers()
        """The threads that wait."""
        self.sleeping: list[Sleeper] = self.sleepers.sleeping
        """Those that wait for a time."""
        self.woken: collections.deque[Sleeper | Callable[[], object]] = self.sleepers.woken
        """The threads, and jobs in the place of one, whose turn has come."""
        self.members: set[int] = set()
        """The identifiers of the threads that take turns."""
        self._turn_over = threading.Lock()
        self._turn_over.acquire()
        self.busy: bool = False
        """Whether a thread's turn is still going on: it has outlasted the loop's patience."""
        self.after_turn: Callable[[], object] | None = None
        """Called after each turn of a thread, and now and then during one that lasts."""
        self.is_observed: Callable[[], object] | None = None
        """Returns whether `after_turn` must not miss a wait of a thread, which then ends its turn."""
        self._turns = 0
        self._undisturbed: Callable[[int], bool] | None = None
        self._in_place = False
        self._foreseen_ns = 0
        self.waiter: str = "the loop's own thread"  # the name of the driving thread in errors
        self._played_ns = 0  # the time until which all has happened on the boards, unless somebody has planned more

    # For boards and threads.

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
        self._sleep_until(self._now_ns + round(seconds * 1e9))

    def wait_until(self, when_ns: int) -> None:
        if when_ns > self._now_ns:
            self._sleep_until(when_ns)

    def _sleep_until(self, when_ns: int) -> None:
        if get_ident() == self.driver:
            if when_ns <= self._foreseen_ns:
                self.jump(when_ns)
            else:
                self.block_loop(when_ns, _never)
        else:
            self.sleep_until(Sleeper(when_ns))

    def condition(self, lock: threading.Lock | None = None) -> threading.Condition:
        return VirtualCondition(self, lock)

    def start(self, main: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(name=name, daemon=True)
        self.adopt(thread, main, thread.start)
        return thread

    def adopt(self, thread: threading.Thread, main: Callable[[], object], start: Callable[[], object]) -> None:
        """Start a thread that runs `main()` in its turns; `start()` starts it as Python does."""
        sleeper = Sleeper(member=True, woken=True)

        def run() -> None:
            self.members.add(get_ident())
            sleeper.go.acquire()
            self.sleepers.interruptions.forget(get_ident())
            try:
                main()
            finally:
                self.members.discard(get_ident())
                self._end_turn()

        thread.run = run  # type: ignore[method-assign]
        start()
        self.woken.append(sleeper)
        if self.closed:
            sleeper.go.release()

    def join(self, thread: threading.Thread) -> None:
        while thread.is_alive() and self._give_turn():
            pass
        thread.join()

    def is_in_place(self) -> bool:
        """Return whether the calling thread is the loop's and does a job in the place of another thread."""
        return self._in_place and get_ident() == self.driver

    def take_turn(self, turn: Callable[[], object]) -> bool:
        if self.closed:
            return False
        self.woken.append(turn)
        return True

    def foresee(self, nanoseconds: int | None) -> None:
        if self.is_in_place():
            if nanoseconds is None or not self._free_until(self._now_ns + nanoseconds):
                raise Disturbed
            self._foreseen_ns = self._now_ns + nanoseconds

    def attach(self, agenda: Agenda) -> bool:
        self._agendas.append(agenda)
        self.only = agenda if len(self._agendas) == 1 else None
        return True

    def detach(self, agenda: Agenda) -> None:
        if agenda in self._agendas:
            self._agendas.remove(agenda)
            self.only = self._agendas[0] if len(self._agendas) == 1 else None

    def claim(self, fd: int, *, announced: bool = False) -> None:
        self._claimed[fd] = announced
        self.claims += 1

    def announce(self) -> None:
        self.announced = True

    def disclaim(self, fd: int) -> None:
        self._claimed.pop(fd, None)
        self.claims += 1

    # For the loop.

    @property
    def closed(self) -> bool:
        """Whether no more time passes."""
        return self.sleepers.closed

    @property
    def claimed(self) -> frozenset[int]:
        """The descriptors that only what this clock drives makes readable."""
        return frozenset(self._claimed)

    @property
    def announces(self) -> frozenset[int]:
        """The claimed descriptors that set `announced` when they may have become readable."""
        return frozenset(fd for fd, announced in self._claimed.items() if announced)

    def next_ns(self) -> int | None:
        """Return the time of the next event on a board or in a thread; None if there is none."""
        first = None
        for agenda in self._agendas:
            when_ns = agenda.next_ns()
            if when_ns is not None and (first is None or when_ns < first):
                first = when_ns
        return self.sleepers.next_ns(first) if self.sleeping else first

    def planned(self) -> tuple[int, ...]:
        """Return how many sleeps of threads and how many events on each board have been planned so far."""
        return (self.sleepers.planned, *(agenda.planned() for agenda in self._agendas))

    def plans_before(self, counts: tuple[int, ...]) -> bool:
        """Return whether an event is still to come that had been planned when `planned()` returned `counts`."""
        if self.sleepers.plans_before(counts[0]):
            return True
        return any(agenda.plans_before(count) for agenda, count in zip(self._agendas, counts[1:], strict=False))

    def after_ns(self, timeout: float | None) -> int:
        """Return the time at which a timeout has passed. Raises ValueError for NaN."""
        if timeout is None or timeout >= FOREVER:
            return NEVER_NS
        if timeout != timeout:
            raise ValueError("a timeout is a number of seconds, not NaN")
        return self._now_ns + round(max(timeout, 0.0) * 1e9)

    def jump(self, when_ns: int, seconds: float = 0.0) -> None:
        """Jump forward to a time; never back.

        `seconds` is the time of the timer that is due then. It may not be a whole number of nanoseconds, and the timer
        must not run early.
        """
        if when_ns > self._now_ns:
            self._now_ns = when_ns
            if (whole := when_ns / 1e9) > seconds:
                seconds = whole
        else:
            self._played_ns = 0  # something is due that was planned meanwhile
        if seconds > self.seconds:
            self.seconds = seconds

    def settle(self, undisturbed: Callable[[int], bool] | None = None) -> bool:
        """Run whatever is due now: first on the boards, then one thread's turn. Return whether anything was due.

        With `undisturbed(when_ns)`, which returns whether the loop would be at rest until after that time, a thread may
        keep its turn while it sleeps.
        """
        happened = False
        if self.written or self._played_ns != self._now_ns:
            written, self.written = self.written, False
            for agenda in self._agendas:
                if written and agenda.run_readable():
                    happened = self.written = True  # a terminal may hand over what was written in more than one piece
                if agenda.run_due():
                    happened = True
            self._played_ns = self._now_ns
        if happened or not (self.busy or self.woken or self.sleeping):
            return happened
        self._played_ns = 0
        return self._give_turn(undisturbed)

    def close(self) -> None:
        """Stop: the loop is closed, and no more time passes. Sleeping threads go on at once, so that they can end."""
        self.sleepers.close()

    # Turns.

    def _give_turn(self, undisturbed: Callable[[int], bool] | None = None) -> bool:
        """Let the next thread run until it waits again. Return False if there is none, or its turn takes too long."""
        patience = 0.0
        if not self.busy:
            sleeper = self.sleepers.next_turn(self._now_ns)
            if sleeper is None:
                return False
            self._undisturbed = None if self.is_observed is not None and self.is_observed() else undisturbed
            if not isinstance(sleeper, Sleeper):
                self._run_in_place(sleeper)
                return True
            self.busy = sleeper.is_member
            self.written = True
            self._turns += 1
            sleeper.go.release()
            if not sleeper.is_member:
                return True
            patience = PATIENCE
        self.busy = not self._turn_over.acquire(timeout=patience)
        if self._undisturbed is not None:
            with self.sleepers.guard:
                self._undisturbed = None  # from now on the loop runs, perhaps beside the thread
        if self.after_turn is not None:
            self.after_turn()
        return not self.busy

    def _run_in_place(self, turn: Callable[[], object]) -> None:
        self._in_place = True
        try:
            turn()
        finally:
            self._in_place = False
            self._foreseen_ns = 0
            self._undisturbed = None

    def _sleep_through(self, when_ns: int) -> bool:
        """On the thread whose turn it is: if nothing else happens until then, jump without ending the turn.

        The result is the same, and it saves handing the turn back and forth, which costs far more than a transfer.
        """
        if self._undisturbed is None or get_ident() not in self.members:
            return False
        with self.sleepers.guard:
            if self._undisturbed is None or any(agenda.run_readable() for agenda in self._agendas):
                return False
            if not self._free_until(when_ns):
                return False
            self.jump(when_ns)
            return True

    def _free_until(self, when_ns: int) -> bool:
        """Return, in a turn, whether nothing else happens until after that time."""
        if self._undisturbed is None or self.closed or self.woken:
            return False
        next_ns = self.next_ns()
        return (next_ns is None or next_ns > when_ns) and self._undisturbed(when_ns)

    def _end_turn(self) -> None:
        if not self.closed:
            self._turn_over.release()

    def sleep_until(self, sleeper: Sleeper) -> None:
        """As `park`, on a thread in its turn, for a wait that most often ends at its time."""
        self.sleepers.interruptions.run()
        if not self._sleep_through(sleeper.when_ns):
            self.park(sleeper)

    def park(self, sleeper: Sleeper) -> None:
        """Wait, on the thread, for its next turn. Raises what an interruption raises."""
        self.sleepers.park(sleeper, self.members, self._end_turn)

    def wake(self, sleeper: Sleeper) -> None:
        """Give a thread its turn, because the condition that it waits on was notified."""
        self.sleepers.wake(sleeper)

    def block_loop(self, until_ns: int, done: Callable[[], bool]) -> None:
        """Block the loop's own thread until then, while board and threads go on."""
        self.written = True
        limit = self.limit
        if limit is not None:
            limit.begin_wait()
        turns = self._turns
        while not done() and not self.closed:
            if self.settle():
                continue
            if limit is not None and turns != self._turns:
                turns = self._turns  # other threads of the program are at work, so this one does not wait in vain
                limit.begin_wait()
            if self.busy:
                time.sleep(_BUSY_PAUSE)
                continue
            if until_ns <= self._now_ns:
                return
            next_ns = self.next_ns()
            if next_ns is None and until_ns == NEVER_NS:
                raise DeadlockError(f"{self.waiter} waits, and nothing can ever wake it")
            next_ns = until_ns if next_ns is None else min(until_ns, next_ns)
            if limit is not None and (reason := limit.reached(next_ns, waits=until_ns == NEVER_NS)) is not None:
                if next_ns > limit.ends_ns:
                    self.jump(int(limit.ends_ns))
                raise TimeLimitError(f"{self.waiter} waits: {reason}")
            self.jump(next_ns)
