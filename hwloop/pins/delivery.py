"""`Delivery`: delivers the events of gpiozero's devices on the program's loop, or on a thread while no loop runs.

gpiozero knows no loop: it calls handlers in whichever thread finds the edge. Here all lines of a factory meet in one
epoll set, and an epoll set is itself a descriptor that can be watched. So the watcher of that one descriptor
serves the lines, and serving changes hands without claiming a line anew or losing an edge. Guarantees:

- while one of our loops runs on the board's clock, handlers run on it, in the order of the edges' timestamps; a
  second loop that starts meanwhile changes nothing;
- while none runs, a thread delivers; it starts when first needed, and a loop that starts takes over;
- exceptions of a handler are reported, its coroutine becomes a task, and the rest goes on (`hwloop.pins.handlers`);
- a forked child does not share the delivery of its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import threading
from collections.abc import Callable, Collection

from hwloop.board import Edge, EdgeStream
from hwloop.core import registry as running
from hwloop.core.clock import REAL, Clock
from hwloop.core.event_loop import EventLoop
from hwloop.core.naming import short_name
from hwloop.core.ordered_sets import OrderedSet
from hwloop.core.slices import slice_end
from hwloop.core.urgency import Priority
from hwloop.lines import RECHECK_AFTER, RECHECKS, recheck_pause
from hwloop.pins.driven import DrivenSteps, FollowedHold
from hwloop.pins.edge_merger import EdgeMerger, EdgeTarget, QueuedEdge
from hwloop.pins.forks import LEFT, inherited
from hwloop.pins.handlers import Handlers
from hwloop.pins.serving_thread import ServingThread

_LOOKS = 2  # a recheck needs two reads with the same result
_LONGEST_PAUSE = 10.0  # seconds between two reads of a line that is off the level of its pull


class Delivery:
    """Serves the lines, handlers and timed steps of one factory on `clock`, until `close()`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.loop: EventLoop | None = None
        """The loop of the program that serves now; None while the thread serves, or nothing needs serving."""
        self.forked: bool = False
        """Whether this process is a forked child of the one that made the delivery."""
        self.handlers: Handlers = Handlers(self)
        """Calls the handlers of devices."""
        self._edges = EdgeMerger(clock)
        self._lock = threading.RLock()
        self._steps: OrderedSet[DrivenSteps] = OrderedSet()  # in an order that no address decides
        self._holds: OrderedSet[FollowedHold] = OrderedSet()
        self._thread: ServingThread | None = None
        self._looks = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._reader: _Reader | None = None
        self._closed = False
        self._goes_on: asyncio.AbstractEventLoop | None = None  # the loop whose next turn goes on delivering
        LEFT.add(self)
        for loop in running.follow(self):
            self._serve_on(loop)

    # For pins.

    def watch(self, stream: EdgeStream, pin: EdgeTarget) -> None:
        """Deliver each edge of `stream` to `pin`, those included that wait in it."""
        if self.forked:
            raise inherited("this pin factory")
        with self._lock:
            self._edges.add(stream, pin)
            self._ensure_served()

    def unwatch(self, stream: EdgeStream) -> None:
        """Deliver no more edges of `stream`, including those already read. Call it before closing the stream."""
        with self._lock:
            self._edges.remove(stream)

    def post(self, pin: EdgeTarget, edge: Edge, *, soon: bool) -> None:
        """Deliver an edge that comes from no descriptor; with `soon`, right after the current callback of the loop."""
        with self._lock:
            self._edges.append(QueuedEdge(pin, edge, edge.timestamp_ns))
            loop = self.ensure_loop()
        self._call_soon(loop, self._deliver, loop, at_once=soon)

    def _call_soon(
        self,
        loop: asyncio.AbstractEventLoop | None,
        callback: Callable[..., object],
        *args: object,
        at_once: bool = True,
    ) -> None:
        """Schedule a call on the serving loop; without a thread-safe wakeup if `at_once` and this is that loop."""
        if loop is not None:
            call = loop.call_soon if at_once and asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
            with contextlib.suppress(RuntimeError):  # it has just been closed: its successor reads the lines anyway
                call(callback, *args)

    # For devices and timed steps.

    def start_steps(self, steps: DrivenSteps) -> None:
        """Drive `steps`, and hand them over when a loop starts or ends."""
        if self.forked:
            raise inherited("this pin factory")
        with self._lock:
            self._steps.add(steps)
            steps.carry_on(self.loop)

    def forget_steps(self, steps: DrivenSteps) -> None:
        """Drive `steps` no more: they have ended."""
        self._steps.discard(steps)

    def follow_hold(self, hold: FollowedHold) -> None:
        """Let `hold` catch up before each edge is delivered."""
        self._holds.add(hold)

    def forget_hold(self, hold: FollowedHold) -> None:
        """End `follow_hold`."""
        self._holds.discard(hold)

    def next_edge(self, pins: Collection[object]) -> Edge | None:
        """Read the lines and return the next undelivered edge of these pins."""
        with self._lock:
            if self._closed:
                return None
            loop = self.serving_loop()
            if self._edges.collect(self._line_failed) and loop is not None:
                self._call_soon(loop, functools.partial(self._serve, loop, anew=True))
            entry = self._edges.next_of(pins)
        return None if entry is None else entry.edge

    def time(self) -> float:
        """Return seconds of the board's clock, which is also the time of a loop that serves."""
        return self.clock.now_ns() / 1e9

    def end_steps(self) -> None:
        """End all timed steps, and wait for steps in progress."""
        running_steps = list(self._steps)
        for steps in running_steps:
            steps.end()
        for steps in running_steps:
            try:
                steps.stop()
            except Exception as error:  # a step that takes longer than the timeout
                self.handlers.report(f"{steps.describe()} goes on although it was stopped", error)

    def close(self) -> None:
        """Watch nothing any more, and end the thread and the timed steps. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        running.unfollow(self)
        LEFT.discard(self)
        self.end_steps()
        with self._lock:
            self._edges.clear()
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
        """Forget everything, in a forked child, without touching what the parent uses."""
        self.forked = self._closed = True
        self._lock = threading.RLock()  # the parent's thread may hold the old one
        for steps in self._steps:
            steps.leave_to_parent()
        self._steps.clear()
        self._holds.clear()
        self.loop = self._thread = self._reader = self._quiet = self._later = None
        self._edges.close()

    def _let_go(self, loop: EventLoop | None) -> None:
        if loop is not None:
            self._leave(loop)
        self._edges.close()

    # Called by the serving loop.

    def fileno(self) -> int:
        return self._edges.fileno()

    def on_readable(self) -> None:
        """Read and deliver the edges, oldest first."""
        self._serve(asyncio.get_running_loop())

    def _serve(self, server: asyncio.AbstractEventLoop, *, anew: bool = False) -> None:
        """Read and deliver; with `anew`, another loop or thread may have read before."""
        with self._lock:
            if not self._serves(server):
                return
            if self._edges.collect(self._line_failed) or anew:
                if self._quiet is not None and self._looks > _LOOKS:
                    self._quiet.cancel()
                    self._quiet = None
                self._looks = 0
                if self._quiet is None and self._edges.watched():
                    self._quiet = server.call_later(RECHECK_AFTER, self._look, server)
            self._plan(server)
        self._deliver(server)

    def _plan(self, server: asyncio.AbstractEventLoop) -> None:
        """Set a timer for the time until which the first edge is held back for an earlier one."""
        wait_ns = self._edges.wait_ns()
        if wait_ns is not None and self._later is None:
            self._later = server.call_later(wait_ns / 1e9, self._serve_later, server)

    def _serve_later(self, server: asyncio.AbstractEventLoop) -> None:
        if self._serves(server):
            self._later = None
            self._serve(server)

    def _line_failed(self, stream: EdgeStream, error: BaseException) -> None:
        # Later: an exception handler may use pins, and this thread holds the lock.
        self._call_soon(self.serving_loop(), self.handlers.report, "a line failed and is no longer watched", error)

    def _deliver(self, server: asyncio.AbstractEventLoop) -> None:
        """Deliver queued edges in slices, while `server` serves: a handler may start a loop, or close a line."""
        is_over, begun = slice_end(server), False
        while self._serves(server):
            with self._lock:
                entry = self._edges.first()
            if entry is None:
                return
            if begun and is_over():  # the rest in the next turn
                if self.loop is not None and self._reader is not None:
                    self.loop.call_again(self._reader)
                elif self._goes_on is not server:
                    self._goes_on = server
                    server.call_soon(self._go_on, server)
                return
            begun = True
            if self._holds and not entry.found:
                self._catch_up(entry.edge.timestamp_ns)
            with self._lock:
                if not self._edges.take(entry):
                    continue
            try:
                entry.pin.deliver(entry.edge)
            except BaseException as error:
                self.handlers.failed(error, f"delivering an edge to {short_name(entry.pin)} failed")

    def _go_on(self, server: asyncio.AbstractEventLoop) -> None:
        self._goes_on = None
        self._deliver(server)

    def _catch_up(self, until_ns: int) -> None:
        """Before an edge of this time is delivered, call `when_held` for earlier holds, in the order of time."""
        holds = [(hold.due_ns(), hold) for hold in list(self._holds)]
        for due_ns, hold in sorted(holds, key=operator.itemgetter(0)):
            if due_ns <= until_ns:
                hold.catch_up(until_ns)

    def _look(self, server: asyncio.AbstractEventLoop) -> None:
        """Read the levels of the lines after a while without reports, to find an edge whose report was lost.

        A lone edge, such as a release long after its press, shows in the level and nowhere else. So the lines are read
        again, less and less often, for some time, and as long as something outside holds one off its pull's level.
        """
        with self._lock:
            if not self._serves(server):
                return
            self._quiet = None
            self._looks += 1
            if self._edges.collect(self._line_failed):
                self._looks = 0
            elif self._looks > 1:
                self._edges.recheck()
            # The first read only knows that reports came since the timer was set.
            done, doubtful = max(0, self._looks - _LOOKS), self._edges.doubtful()
            pause = recheck_pause(done, doubtful=doubtful, longest=_LONGEST_PAUSE)
            if self._edges.watched() and (done < RECHECKS or doubtful or self._edges.held_off()):
                self._quiet = server.call_later(pause, self._look, server)
            self._plan(server)
        self._deliver(server)

    # Which loop serves.

    def loop_started(self, loop: EventLoop) -> None:
        self._serve_on(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        with self._lock:
            if self.loop is not loop:
                return
            self.loop = None
            self._leave(loop)
            running_steps = list(self._steps)
        # Another running loop takes precedence over the thread.
        for other in running.follow(self):
            self._serve_on(other)
        if self.loop is None:
            with self._lock:
                self._ensure_served()
            for steps in running_steps:
                steps.carry_on(None)

    def _serve_on(self, loop: EventLoop) -> None:
        """Make `loop` serve if no loop does and it runs on the board's clock. Called in any thread."""
        with self._lock:
            if self._closed or self.loop is not None or getattr(loop, "clock", REAL) is not self.clock:
                return
            self.loop = loop
            if self._thread is not None:
                self._thread.loop.call_soon_threadsafe(self._thread.loop.remove_reader, self.fileno())
            self._quiet = self._later = None
            running_steps = list(self._steps)
        if running.thread_of(loop) == threading.get_ident():
            self._enter(loop)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._enter, loop)
        for steps in running_steps:
            steps.carry_on(loop)

    def _enter(self, loop: EventLoop) -> None:
        if self.loop is loop and self._reader is None:
            self._reader = _Reader(self)
            loop.register(self._reader)
            loop.call_soon(functools.partial(self._serve, loop, anew=True))

    def _leave(self, loop: EventLoop) -> None:
        for timer in (self._quiet, self._later):
            if timer is not None:
                timer.cancel()
        self._quiet = self._later = None
        if self._reader is not None:
            with contextlib.suppress(KeyError):  # the loop has already removed it
                loop.unregister(self._reader)
            self._reader = None

    def _serves(self, server: asyncio.AbstractEventLoop | None) -> bool:
        return not self._closed and server is not None and server is self.serving_loop()

    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that serves, the program's or the thread's; None while nothing needs serving."""
        if self.loop is not None:
            return self.loop
        return self._thread.loop if self._thread is not None else None

    def ensure_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that serves, and start the thread if there is none; None if the program has ended."""
        with self._lock:
            return self.loop or self._start_thread()

    def _ensure_served(self) -> None:
        """Start the thread if lines need it. The lock is held. In virtual time nothing happens without a loop."""
        if self.loop is None and self.clock is REAL and self._edges and not self._closed:
            loop = self._start_thread()
            if loop is not None:
                loop.call_soon_threadsafe(loop.add_reader, self.fileno(), self.on_readable)
                loop.call_soon_threadsafe(functools.partial(self._serve, loop, anew=True))

    def _start_thread(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop of the thread; None if the program has ended and no thread can start."""
        if self._thread is None and not self._closed:
            try:
                self._thread = ServingThread()
            except RuntimeError:
                return None
        return None if self._thread is None else self._thread.loop


class _Reader:
    """The epoll set as a source of a loop; not the delivery itself, which a loop that closes would close."""

    priority = Priority.INTERRUPT

    def __init__(self, delivery: Delivery) -> None:
        self.fileno = delivery.fileno
        self.on_readable = delivery.on_readable
