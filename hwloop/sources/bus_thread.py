"""The thread that makes the transfers of one I2C or SPI bus.

The descriptor of a bus can't be polled: a transfer is a system call that returns when the wire is done, after 0.09 ms a
byte on I2C or, when a device holds the bus, after a second. And the transfers of a bus have an order. Hence one thread
for each bus, and jobs by priority and in the order in which they were submitted (`bus_queue`); `bus_access` has what
they are done with, and wakes the loop when answers are there.

A system call can't be cancelled either. The guarantee is that nothing waits for it: no method blocks on a job that is
under way, and the thread, a daemon, ends by itself when the system call returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from hwloop.core.clock import Clock, Disturbed
from hwloop.core.urgency import Priority
from hwloop.sources.bus_queue import BusQueue


class Job(Protocol):
    """A piece of work for the thread.

    `priority`: it goes before jobs that are less urgent.
    `one_transfer`: it makes one transfer and does nothing else, and so can be started again as long as the wire has not
    begun.
    """

    priority: Priority
    one_transfer: bool

    @property
    def closes(self) -> bool:
        """Whether it is the last one of its user."""
        ...

    def do(self) -> None:
        """Do it, without the lock."""

    def finish(self, *, in_place: bool) -> None:
        """Note that it is done, with the lock held; `in_place` says that the loop has done it itself."""

    def delayed(self) -> None:
        """Note, with the lock held, that the loop was to do it itself, and has left it to the thread."""


class BusThread:
    """Does jobs one after the other, for one user or for several. It ends with its last user.

    Parameters:
        name: the thread's name.
        clock: the board's.

    Attributes:
        lock: guards the queue, and all that its users keep beside it. `with` it costs a third of `with` a condition.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._waiting: BusQueue[Job] = BusQueue()
        self._closing: list[Job] = []  # go before all others
        self._under_way: Job | None = None
        self._called = False  # whether the loop will do the first job
        self._asleep = False  # whether the thread waits, and nothing has woken it
        self._users = 1
        self.lock: threading.Lock = threading.Lock()
        self._changed = clock.condition(self.lock)
        self._thread = clock.start(self._main, name)

    def share(self) -> bool:
        """Add a user. Return False if the thread is about to end, or has ended in the process that was forked."""
        with self.lock:
            if self._users == 0 or not self._thread.is_alive():
                return False
            self._users += 1
            return True

    @property
    def under_way(self) -> Job | None:
        """The job that is on the bus now."""
        return self._under_way

    def submit(self, job: Job) -> bool:
        """Put a job behind those of its priority. Return whether the loop will do it itself, as soon as it rests."""
        with self.lock:
            waiting = self._waiting
            waiting.append(job)
            self._call_for_work()
            if waiting.length == 1:
                return self._called
            if self._called and waiting.first() is job:  # then the loop will not do the one that was first
                self._delay_all()
            return False

    def withdraw(self, job: Job) -> bool:
        """Remove a job that has not begun. Return False if it has begun: its answer will arrive late, if at all."""
        with self.lock:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def leave(self, dropped: Callable[[Job], bool], closing: Job) -> list[Job]:
        """Have `closing` done for a user after the job under way. Return its jobs, which will not begin any more.

        `dropped(job)` says whether a job is the user's.
        """
        with self.lock:
            jobs = self._waiting.take(dropped)
            self._delay_all()
            self._closing.append(closing)
            self._wake_thread()
            return jobs

    def wait_left(self, left: Callable[[], bool]) -> None:
        """Wait until a user that leaves has left, as `left()` says, unless a job is under way."""
        with self.lock:
            if self._under_way is not None and not self._under_way.closes:
                return
            self._changed.wait_for(left)
            if self._users:
                return
        self._clock.join(self._thread)

    def _call_for_work(self) -> None:
        """Wake the thread; in virtual time the loop may do a single transfer itself. The lock is held."""
        if not self._called:
            first = self._waiting.first()
            self._called = self._asleep and first.one_transfer and self._clock.take_turn(self._do_in_place)
            if not self._called:
                self._wake_thread()

    def _do_in_place(self) -> None:
        """Do the first job on the loop's thread, in virtual time, or else wake the bus's thread."""
        with self.lock:
            self._called = False
            if self._under_way is not None or self._closing or not self._waiting.length:
                return
            job = self._waiting.first()
            try:
                if not job.one_transfer:
                    raise Disturbed
                job.do()
            except Disturbed:
                self._wake_thread()
                job.delayed()
                return
            self._waiting.pop()
            job.finish(in_place=True)
            if self._waiting.length:
                self._call_for_work()

    def _delay_all(self) -> None:
        """Note that the thread may do the jobs that wait. The lock is held."""
        for job in self._waiting:
            job.delayed()

    def _wake_thread(self) -> None:
        """Have the thread look for work. The lock is held."""
        self._asleep = False
        self._changed.notify()

    # The thread.

    def _main(self) -> None:
        while (job := self._next()) is not None:
            job.do()
            with self.lock:
                self._under_way = None
                job.finish(in_place=False)
                if job.closes:
                    self._users -= 1
                    self._changed.notify_all()
            # Held here, a failed job's traceback would keep its frames alive until the next job.
            del job

    def _next(self) -> Job | None:
        with self.lock:
            while not (self._waiting.length or self._closing) and self._users:
                self._asleep = True
                self._changed.wait()
            self._asleep = False
            if self._closing:
                self._under_way = self._closing.pop(0)
            else:
                self._under_way = self._waiting.pop() if self._waiting.length else None
            return self._under_way
