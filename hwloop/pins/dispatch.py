"""Where the events of gpiozero's devices are delivered: on the program's loop, or while none runs, on one thread.

gpiozero has no idea of a loop: its handlers run in whatever thread finds the edge. Here all lines of a factory meet in
one epoll set, and an epoll set is itself a descriptor that can be watched. So who serves the lines is a matter of who
watches that one descriptor, and it changes hands without a line being claimed anew or an edge being lost. Promised:

- while one of our loops runs on the board's clock, handlers run on it, in the order of the edges' time stamps; a
  second loop that starts meanwhile changes nothing;
- while none runs, a thread of this object delivers; it starts when first needed and a loop that starts takes over;
- whatever a handler raises is reported, a coroutine becomes a task, and the rest goes on (`hwloop.pins.handlers`);
- a forked child has nothing to do with the dispatch of its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import os
import threading
import weakref
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from hwloop.board import Edge, EdgeStream
from hwloop.core import registry as running
from hwloop.core.clock import REAL, Clock
from hwloop.core.event_loop import EventLoop
from hwloop.core.naming import short_name
from hwloop.core.ordered_sets import OrderedSet
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.pins.handlers import Handlers
from hwloop.pins.lines import Entry, Lines, Taker
from hwloop.pins.server import ServingThread

if TYPE_CHECKING:
    from hwloop.pins.holds import Holding
    from hwloop.pins.jobs import Job

_QUIET = 0.02  # seconds without a report after which lines are read, as in hwloop.sources.gpio
_LOOKS = 2  # a recheck takes two looks that find the same
_LAST_LOOK = _LOOKS + 9  # the pauses between looks double: this one comes 10 s after the last report
_LONGEST_PAUSE = 10.0  # seconds between two looks at a line that is not where its pull takes it

_dispatches: weakref.WeakSet[Dispatch] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for dispatch in list(_dispatches):
        dispatch.leave_to_parent()
    _dispatches.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def inherited(what: str) -> HardwareError:
    """The error for what a forked child finds of its parent's."""
    return HardwareError(
        what,
        "was opened before this process was forked and belongs to its parent",
        "make the pin factory and its devices in the process that uses them",
    )


class Dispatch:
    """Serves the lines, the handlers and the timed jobs of one factory, on `clock`. `close()` it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.loop: EventLoop | None = None
        """The program's loop that serves now; None while the thread does, or nobody has to."""
        self.forked = False
        """Whether this is a forked child of the process that made it."""
        self.handlers = Handlers(self)
        """What calls the handlers of devices."""
        self._lines = Lines(clock)
        self._lock = threading.RLock()
        self._jobs: OrderedSet[Job] = OrderedSet()  # in an order that no address decides
        self._holds: OrderedSet[Holding] = OrderedSet()
        self._thread: ServingThread | None = None
        self._looks = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._reader: _Reader | None = None
        self._closed = False
        _dispatches.add(self)
        for loop in running.follow(self):
            self._adopt(loop)

    # For pins.

    def watch(self, stream: EdgeStream, pin: Taker) -> None:
        """Deliver each edge of `stream` to `pin` from now on; those that wait in it are forgotten."""
        if self.forked:
            raise inherited("this pin factory")
        while stream.read():
            pass
        with self._lock:
            self._lines.add(stream, pin)
            self._ensure_served()

    def unwatch(self, stream: EdgeStream) -> None:
        """Deliver no more of its edges, not even those that have been read. To be called before it is closed."""
        with self._lock:
            self._lines.remove(stream)

    def post(self, pin: Taker, edge: Edge, *, soon: bool) -> None:
        """Deliver an edge that comes from no descriptor; `soon`, if this is a callback of a loop, right after it."""
        with self._lock:
            self._lines.append(Entry(pin, edge, edge.timestamp_ns))
            loop = self.ensure_loop()
        self._call_soon(loop, self._deliver, loop, at_once=soon)

    def _call_soon(
        self,
        loop: asyncio.AbstractEventLoop | None,
        callback: Callable[..., object],
        *args: object,
        at_once: bool = True,
    ) -> None:
        """Have the loop that serves call; `at_once` counts where this is a callback of it."""
        if loop is not None:
            call = loop.call_soon if at_once and asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
            with contextlib.suppress(RuntimeError):  # it has just been closed: who serves next looks by itself
                call(callback, *args)

    # For devices and jobs.

    def start_job(self, job: Job) -> None:
        """Start a job, and hand it over when a loop begins or ends."""
        if self.forked:
            raise inherited("this pin factory")
        with self._lock:
            self._jobs.add(job)
            job.carry_on(self.loop)

    def forget_job(self, job: Job) -> None:
        self._jobs.discard(job)

    def follow_hold(self, hold: Holding) -> None:
        """Let a hold know of each edge before it is delivered."""
        self._holds.add(hold)

    def forget_hold(self, hold: Holding) -> None:
        self._holds.discard(hold)

    def next_edge(self, pins: Collection[object]) -> Edge | None:
        """The next edge of these pins that waits to be delivered, after a look at the lines."""
        with self._lock:
            if self._closed:
                return None
            loop = self.serving_loop()
            if self._collect() and loop is not None:
                self._call_soon(loop, functools.partial(self._serve, loop, anew=True))
            entry = self._lines.next_of(pins)
        return None if entry is None else entry.edge

    def time(self) -> float:
        """Seconds of the board's clock: for a loop that serves, its own time."""
        return self.clock.now_ns() / 1e9

    def end_jobs(self) -> None:
        """Let no job take a further step; those under way are waited for."""
        jobs = list(self._jobs)
        for job in jobs:
            job.end()
        for job in jobs:
            try:
                job.stop()
            except Exception as error:  # a step that takes longer than is waited for
                self.handlers.report(f"{job.describe()} goes on although it was stopped", error)

    def close(self) -> None:
        """Watch nothing any more, end the thread and the jobs. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        running.unfollow(self)
        _dispatches.discard(self)
        self.end_jobs()
        with self._lock:
            self._lines.clear()
            loop, self.loop = self.loop, None
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        if loop is None or running.thread_of(loop) in (None, threading.get_ident()):
            self._let_go(loop)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._let_go, loop)

    def leave_to_parent(self) -> None:
        """Let go of everything, in a forked child, and touch nothing that the parent uses."""
        self.forked = self._closed = True
        self._lock = threading.RLock()  # the parent's thread may hold the old one
        for job in self._jobs:
            job.leave_to_parent()
        self._jobs.clear()
        self._holds.clear()
        self.loop = self._thread = self._reader = self._quiet = self._later = None
        self._lines.close()

    def _let_go(self, loop: EventLoop | None) -> None:
        if loop is not None:
            self._leave(loop)
        self._lines.close()

    # What a loop calls.

    def fileno(self) -> int:
        return self._lines.fileno()

    def on_readable(self) -> None:
        """Deliver what is there, oldest first."""
        self._serve(asyncio.get_running_loop())

    def _serve(self, server: asyncio.AbstractEventLoop, *, anew: bool = False) -> None:
        """Read and deliver; `anew`, if others may have read before."""
        with self._lock:
            if not self._serves(server):
                return
            if self._collect() or anew:
                if self._quiet is not None and self._looks > _LOOKS:
                    self._quiet.cancel()
                    self._quiet = None
                self._looks = 0
                if self._quiet is None and self._lines.watched():
                    self._quiet = server.call_later(_QUIET, self._look, server)
            self._plan(server)
        self._deliver(server)

    def _plan(self, server: asyncio.AbstractEventLoop) -> None:
        """Look again when an edge that is held back for an earlier one need wait no longer."""
        wait_ns = self._lines.wait_ns()
        if wait_ns is not None and self._later is None:
            self._later = server.call_later(wait_ns / 1e9, self._serve_later, server)

    def _serve_later(self, server: asyncio.AbstractEventLoop) -> None:
        if self._serves(server):
            self._later = None
            self._serve(server)

    def _collect(self) -> bool:
        return self._lines.collect(
            lambda stream, error: self.handlers.failed(error, "a line failed and is watched no more")
        )

    def _deliver(self, server: asyncio.AbstractEventLoop | None) -> None:
        """Hand out what was read, for as long as `server` serves: a handler may start a loop, or close a line."""
        while self._serves(server):
            with self._lock:
                entry = self._lines.first()
            if entry is None:
                return
            if self._holds and not entry.found:
                self._catch_up(entry.edge.timestamp_ns)
            with self._lock:
                if not self._lines.take(entry):
                    continue
            try:
                entry.pin.deliver(entry.edge)
            except BaseException as error:
                self.handlers.failed(error, f"delivering an edge to {short_name(entry.pin)} failed")

    def _catch_up(self, until_ns: int) -> None:
        """Before an edge of this time is delivered, have what was held before that be held, in the order of time."""
        holds = [(hold.due_ns(), hold) for hold in list(self._holds)]
        for due_ns, hold in sorted(holds, key=operator.itemgetter(0)):
            if due_ns <= until_ns:
                hold.catch_up(until_ns)

    def _look(self, server: asyncio.AbstractEventLoop) -> None:
        """No report for a while: an edge whose report was lost shows in the level of its line.

        A lone one, a release long after its press, shows there and nowhere else. So the lines are looked at again, ever
        more rarely, for some time, and for as long as one of them is where only something outside holds it.
        """
        with self._lock:
            if not self._serves(server):
                return
            self._quiet = None
            self._looks += 1
            if self._collect():
                self._looks = 0
            elif self._looks > 1:
                self._lines.recheck()
            # The first look only knows that reports came since the timer was set.
            pause = _QUIET
            if self._looks > _LOOKS and not self._lines.doubtful():
                pause = min(_QUIET * 2.0 ** (self._looks - _LOOKS), _LONGEST_PAUSE)
            if self._lines.watched() and (self._looks < _LAST_LOOK or pause == _QUIET or self._lines.held_off()):
                self._quiet = server.call_later(pause, self._look, server)
            self._plan(server)
        self._deliver(server)

    # Who serves.

    def loop_started(self, loop: EventLoop) -> None:
        self._adopt(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        with self._lock:
            if self.loop is not loop:
                return
            self.loop = None
            self._leave(loop)
            jobs = list(self._jobs)
        # Before the thread, another loop that runs; else lines wait for one that starts only if nobody needs them.
        for other in running.follow(self):
            self._adopt(other)
        if self.loop is None:
            with self._lock:
                self._ensure_served()
            for job in jobs:
                job.carry_on(None)

    def _adopt(self, loop: EventLoop) -> None:
        """Have `loop` serve, if none does and it lives in the board's time. Called in any thread."""
        with self._lock:
            if self._closed or self.loop is not None or getattr(loop, "clock", REAL) is not self.clock:
                return
            self.loop = loop
            if self._thread is not None:
                self._thread.loop.call_soon_threadsafe(self._thread.loop.remove_reader, self.fileno())
            self._quiet = self._later = None
            jobs = list(self._jobs)
        if running.thread_of(loop) == threading.get_ident():
            self._enter(loop)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._enter, loop)
        for job in jobs:
            job.carry_on(loop)

    def _enter(self, loop: EventLoop) -> None:
        if self.loop is loop:
            self._reader = _Reader(self)
            loop.register(self._reader)
            loop.call_soon(functools.partial(self._serve, loop, anew=True))

    def _leave(self, loop: EventLoop) -> None:
        for timer in (self._quiet, self._later):
            if timer is not None:
                timer.cancel()
        self._quiet = self._later = None
        if self._reader is not None:
            with contextlib.suppress(KeyError):  # the loop has let go of it already
                loop.unregister(self._reader)
            self._reader = None

    def _serves(self, server: asyncio.AbstractEventLoop | None) -> bool:
        return not self._closed and server is not None and server is self.serving_loop()

    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that serves: the program's, or the thread's; None while nobody has to."""
        if self.loop is not None:
            return self.loop
        return self._thread.loop if self._thread is not None else None

    def ensure_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that serves, started where there is none; None where the program has ended."""
        with self._lock:
            return self.loop or self._start_thread()

    def _ensure_served(self) -> None:
        """The lock is held. In virtual time nothing happens without a loop, so nobody has to serve."""
        if self.loop is None and self.clock is REAL and self._lines and not self._closed:
            loop = self._start_thread()
            if loop is not None:
                loop.call_soon_threadsafe(loop.add_reader, self.fileno(), self.on_readable)
                loop.call_soon_threadsafe(functools.partial(self._serve, loop, anew=True))

    def _start_thread(self) -> asyncio.AbstractEventLoop | None:
        """The loop of the thread; None where the program has ended and no thread can start."""
        if self._thread is None and not self._closed:
            try:
                self._thread = ServingThread()
            except RuntimeError:
                return None
        return None if self._thread is None else self._thread.loop


class _Reader:
    """The epoll set as a source of a loop. Not the dispatch itself, which a loop that closes would close."""

    priority = Priority.INTERRUPT

    def __init__(self, dispatch: Dispatch) -> None:
        self.fileno = dispatch.fileno
        self.on_readable = dispatch.on_readable
