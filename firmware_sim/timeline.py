"""The time of the simulated board: its planned actions, and the one thread on which they run.

Real hardware goes on while the program computes, so the board must not depend on the program's event loop: buttons
bounce, a GPS sends and a slave answers from a separate thread. `Timeline` is that thread, and the board's one lock:
everything that touches the state of lines, ports or devices holds `lock`, on the firmware thread, in the program, or on
an I2C worker thread. The thread starts when the first action is planned.

On a virtual clock there is no thread: the clock drives the timeline, so that each action runs exactly at its time.
"""

from __future__ import annotations

import logging
import os
import select
import selectors
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush

from hwloop.core.clock import REAL, Clock, Disturbed
from hwloop.core.naming import short_name
from hwloop.trace_events import Tracer

logger: logging.Logger = logging.getLogger("firmware_sim")


FOREVER = 1e18
"""Seconds."""
_FOREVER_NS = int(FOREVER * 1e9)
_LONGEST_WAIT_MS = 3_600_000

_MOMENTS = 256
"""Moments that `play` lets pass at most: the clock then looks for signals."""

FREE_READS = 1000
READ_NS = 2000
"""A program that reads lines again and again until one changes would stop a virtual clock. After this many reads with
nothing in between, each takes as long as on a Pi; or longer, until the next planned action, but no more than a fiftieth
of the time for which the program has polled already."""
FREE_READS_BEFORE_SOON = 50
SOON_NS = 200_000
"""The same for actions that are so near: a part sends pulses, whose lengths the program takes in reads. While they last
each read takes as long as on a Pi."""


class Referable:
    """An object that weak references may refer to. A compiled class with a dictionary inherits that."""

    __slots__ = ("__weakref__",)


class Event:
    """A planned action; `cancel()` prevents it."""

    __slots__ = ("action", "when_ns")

    def __init__(self, when_ns: int, action: Callable[[], object]) -> None:
        self.when_ns: int = when_ns
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        self.action = None


class Timeline(Referable):
    """Actions in order of their time (nanoseconds of `clock`); equal times in the order in which they were planned."""

    def __init__(self, clock: Clock = REAL) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.clock = clock
        self.tracer: Tracer | None = None
        """Records the events of the board; None records nothing."""
        self.now_ns: Callable[[], int] = clock.now_ns
        self._heap: list[tuple[int, int, Event]] = []
        self._planned = 0
        self._moment_ns: int | None = None
        self._readers: dict[int, Callable[[], object]] = {}
        self._selector: selectors.BaseSelector | None = None
        self._wake_fd = -1
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.is_driven: bool = clock.attach(self)
        """Whether the clock drives it: it runs in virtual time."""
        self._reads = 0
        self._read_at_ns = self._polling_since_ns = 0
        # poll, not epoll: it asks each terminal, which takes over what its other side has written (tty(4) hands bytes
        # over in a kernel thread, and epoll would not see them before that has run).
        self._poll = select.poll()

    def at(self, when_ns: int, action: Callable[[], object]) -> Event:
        """Run `action()` at `when_ns`, with the lock held. Raises ValueError for NaN, and for `FOREVER` or more."""
        if not when_ns < _FOREVER_NS:
            raise ValueError(f"an action is planned for a time in nanoseconds that comes, not {when_ns!r}")
        event = Event(when_ns, action)
        with self.lock:
            heappush(self._heap, (when_ns, self._planned, event))
            self._planned += 1
            if not self.is_driven and self._heap[0][2] is event:
                self._wake()
        return event

    def after(self, seconds: float, action: Callable[[], object]) -> Event:
        """Run `action()` `seconds` from now; within an action, from the time for which that action was planned.

        Raises ValueError for NaN, and for `FOREVER` or more.
        """
        if not seconds < FOREVER:
            raise ValueError(f"an action is planned for less than {FOREVER:g} seconds from now, not {seconds!r}")
        with self.lock:
            return self.at(self.moment_ns() + round(seconds * 1e9), action)

    def moment_ns(self) -> int:
        """Return the time for which the running action was planned; outside an action, the clock's time.

        The thread of a busy machine is late, and a device's pulses would be as ragged as its turns if they carried the
        time at which they ran. The lock is held.
        """
        if (moment_ns := self._moment_ns) is not None:
            return moment_ns
        now_ns = self.now_ns
        return now_ns()

    def add_reader(self, fd: int, action: Callable[[], object]) -> None:
        """Run `action()`, with the lock held, whenever `fd` is readable."""
        with self.lock:
            self._readers[fd] = action
            if self.is_driven:
                self._poll.register(fd, select.POLLIN)
                return
            self._wake()
            assert self._selector is not None
            self._selector.register(fd, selectors.EVENT_READ)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`. Harmless if it is not watched."""
        with self.lock:
            if self._readers.pop(fd, None) is None:
                return
            if self.is_driven:
                self._poll.unregister(fd)
            elif self._selector is not None:
                self._selector.unregister(fd)

    def next_ns(self) -> int | None:
        """Return the time of the next action; None if nothing is planned."""
        heap = self._heap
        if not (first := heap[:1]):  # one look, which needs no lock
            return None
        when_ns, _, event = first[0]
        if event.action is not None:
            return when_ns
        with self.lock:
            while heap:
                when_ns, _, event = heap[0]
                if event.action is not None:
                    return when_ns
                heappop(heap)
            return None

    def planned(self) -> int:
        """Return how many actions were planned so far."""
        return self._planned

    def plans_before(self, count: int) -> bool:
        """Return whether one of the first `count` planned actions has yet to run."""
        with self.lock:
            return any(number < count and event.action is not None for _, number, event in self._heap)

    def run_readable(self) -> bool:
        """Run the actions of readable descriptors; return whether there were any. For a clock that drives this."""
        if not self._readers or not (ready := self._poll.poll(0)):
            return False
        with self.lock:
            for fd, _ in ready:
                action = self._readers.get(fd)
                if action is not None:
                    self._run(action)
        return True

    def run_due(self) -> bool:
        """Run all that is due by now, in order; whether there was anything."""
        # By now and no later, or a part that plans faster than this computer runs would keep the lock for good.
        heap, happened, now_ns = self._heap, False, self.now_ns()
        if not (first := heap[:1]) or first[0][0] > now_ns:  # one look, which needs no lock
            return False
        with self.lock:
            try:
                while heap and heap[0][0] <= now_ns:
                    self._moment_ns, _, event = heappop(heap)
                    if (action := event.action) is not None:
                        happened = True
                        try:
                            action()
                        except BaseException as error:
                            self._failed(action, error)
            finally:
                self._moment_ns = None
        return happened

    def play(self, until_ns: float, jump: Callable[[int], object], concerned: Callable[[], object]) -> int:
        """Run the actions up to `until_ns`, each at its time. For a clock that drives this; see `Agenda.play`."""
        heap, moments = self._heap, 0
        with self.lock:
            try:
                while heap and moments < _MOMENTS:
                    when_ns, _, event = heap[0]
                    if event.action is None:
                        heappop(heap)
                        continue
                    if when_ns > until_ns:
                        break
                    jump(when_ns)
                    moments += 1
                    while heap and heap[0][0] <= when_ns:
                        self._moment_ns, _, event = heappop(heap)
                        if (action := event.action) is not None:
                            try:
                                action()
                            except BaseException as error:
                                self._failed(action, error)
                    if concerned():
                        break
            finally:
                self._moment_ns = None
        return moments

    def catch_up(self) -> None:
        """Run the actions that are due by now, because the program looks. The lock is held.

        The firmware thread may be late, and a program must neither find a line as it was before a change with an
        earlier time stamp, nor drive it before that.
        """
        if self._moment_ns is None and not self.is_driven and not self._stopping:
            self.run_due()

    def count_read(self) -> None:
        """Count a read of a line by the program, and let its time pass if it polls in virtual time.

        The lock is not held: other threads may get their turn meanwhile.
        """
        if not self.is_driven or self._moment_ns is not None:
            return
        if self._read_at_ns != (now_ns := self.now_ns()):
            self._read_at_ns = self._polling_since_ns = now_ns
            self._reads = 0
        self._reads += 1
        if self._reads <= FREE_READS_BEFORE_SOON or self._stopping:
            return
        next_ns = self.next_ns()
        if self._reads <= FREE_READS and (next_ns is None or next_ns > now_ns + SOON_NS):
            return
        step_ns = max(READ_NS, (now_ns - self._polling_since_ns) // 50)
        if next_ns is not None and now_ns < next_ns <= now_ns + step_ns:
            step_ns = next_ns - now_ns
            if next_ns <= self._polling_since_ns + SOON_NS:
                self._polling_since_ns = next_ns
        self.clock.sleep(step_ns / 1e9)
        self._read_at_ns = self.now_ns()

    @property
    def stopped(self) -> bool:
        """Whether the board is closed, and nothing more happens on it."""
        return self._stopping

    def stop(self) -> None:
        """End the firmware thread and drop all planned actions. Harmless when repeated."""
        with self.lock:
            self._stopping = True
            self._heap.clear()
            thread = self._thread
            if thread is not None:
                os.eventfd_write(self._wake_fd, 1)
        self.clock.detach(self)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self.lock:
            self._thread = None
            if self._selector is not None:
                self._selector.close()
                self._selector = None
                if thread is not None:
                    os.close(self._wake_fd)
            self._readers.clear()

    def _wake(self) -> None:
        """Have the thread look for due actions again; start it if it is not there. The lock is held."""
        if self._stopping or self.is_driven:
            return
        if self._thread is None:
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._wake_fd, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._main, name="firmware", daemon=True)
            self._thread.start()
        elif self._thread is not threading.current_thread():
            os.eventfd_write(self._wake_fd, 1)

    def _main(self) -> None:
        selector = self._selector
        assert selector is not None
        while not self._stopping:
            when_ns = self.next_ns()
            left = None if when_ns is None else max(0, when_ns - self.now_ns())
            # epoll rounds up to whole milliseconds, which would blur the bounce of a button: wait for the whole
            # milliseconds there and sleep for the rest.
            ready = selector.select(None if left is None else min(left // 1_000_000, _LONGEST_WAIT_MS) / 1e3)
            if not ready and left is not None and when_ns is not None:
                time.sleep(max(0, min(when_ns - self.now_ns(), 1_000_000)) / 1e9)
            for key, _ in ready:
                if key.fd == self._wake_fd:
                    os.eventfd_read(self._wake_fd)
                    continue
                with self.lock:
                    action = self._readers.get(key.fd)
                    if action is not None:
                        self._run(action)
            self.run_due()

    def _run(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:
            self._failed(action, error)

    def _failed(self, action: Callable[[], object], error: BaseException) -> None:
        """Log an exception of an action, which is being handled: it must not stop the other devices, nor the thread."""
        ours = threading.current_thread() is self._thread
        if isinstance(error, Disturbed) or (not ours and isinstance(error, SystemExit | KeyboardInterrupt)):
            raise
        logger.exception("simulated device failed in %s", short_name(action))
