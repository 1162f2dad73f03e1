"""The dispatch function: what runs when. Read it top to bottom as the guarantees of docs/guarantees.md.

The dispatch function is the loop's hot code, and binds the queues that it drains to locals. A *turn* is one poll and
one slice of callbacks. The numbers in its comments are those of the guarantees; tests/promises has a trace test for
each.

Where a callback comes from, and in which order they run:

    call_soon ────────────────────────────► ordinary ─┐          One turn:
    descriptors ── poll ── found ready ───► found ────┤
    timers ─────── poll ── due ───────────► found ────┼─► run      poll │ run  run  run  run … │ poll │ …
    priority or deadline ─────────────────► urgent ───┤                 └─ until the slice is ─┘
    IDLE ─── a poll found nothing else ───► urgent ───┘                    used up (0.05 ms)

    urgent goes first. `found` and `ordinary` take turns, so neither starves the other:

        found     A     B     C           A runs, then 1 ordinary, B, 2 ordinary …
        ordinary  1  2  3  4  5           `first` counts the ordinary callbacks that go before the next found one: 1
                                          in turns, or all of a short queue (at most SHORT_QUEUE callbacks) that was
                                          ready before the poll, as asyncio runs them

A *batch* is all that is queued when the previous batch ends. It may take many slices; what its callbacks add, and what
polls find meanwhile, belongs to the next one, although it need not wait for that:

        found     A  B │ C  D             `ahead` = 2 found callbacks and `batch` = 3 ordinary ones are left of this
        ordinary  1  2  3 │ 4  5          batch, and `urgent.old` of the urgent ones
                     └──┴─────── later

    batch ends:   timers that were due when they were set join `ordinary`, behind everything; then a new batch begins
    stop():       `_finish_batch` runs what is left of this batch, and nothing to the right of the bars
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwloop.core.debug import report_failure, run_timed
from hwloop.core.descriptors import IN, OUT
from hwloop.core.gc_schedule import GcSchedule
from hwloop.core.handles import Watcher
from hwloop.core.inheritance import PriorityInheritance
from hwloop.core.loop_clock import LoopClock
from hwloop.core.monitor import FILED_BEFORE_WAIT, FILED_TOGETHER, Monitor
from hwloop.core.native import COMPILED, data_of, find_key, is_cancelled, raise_pending, read_clock, succeeds
from hwloop.core.poller import EVENTS_PER_POLL, Poller
from hwloop.core.run_queue import RunQueue
from hwloop.core.source_table import SourceTable
from hwloop.core.timer_queue import INFINITY, TimerQueue

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop

SLICE = 50e-6
"""Seconds of callbacks between two polls. An edge waits half of it on average; a poll costs about a hundredth of it."""

SHORT_QUEUE = 4
"""Up to this many callbacks that were ready before a poll go before what it found, as all of them do in asyncio."""


class Dispatcher:
    """Runs the handles of one loop.

    Attributes:
        slice: seconds of callbacks between two polls.
        slice_began: loop time of the last poll, with which the current slice began.
    """

    def __init__(
        self,
        clock: LoopClock,
        run_queue: RunQueue,
        timers: TimerQueue,
        poller: Poller,
        sources: SourceTable,
        monitor: Monitor,
        inheritance: PriorityInheritance,
        gc_schedule: GcSchedule,
    ) -> None:
        self.slice = SLICE
        self.slice_began: float = 0.0
        self._clock = clock
        self._run_queue = run_queue
        self._timers = timers
        self._poller = poller
        self._sources = sources
        self._monitor = monitor
        self._inheritance = inheritance
        self._gc_schedule = gc_schedule

    def slice_used_up(self) -> bool:
        """Return whether it is time to poll, so that the running callback had better return."""
        return self._clock.now() - self.slice_began >= self.slice

    def run(self, loop: SelectorEventLoop) -> None:
        """Dispatch until the loop is stopped."""
        run_queue, clock = self._run_queue, self._clock
        ordinary, found, urgent = run_queue.ordinary, run_queue.found, run_queue.urgent
        monitor = self._monitor
        lateness, latency = monitor.lateness, monitor.latency
        ahead = batch = urgent.old = 0
        self._poller.doubt_alarm()
        first = 0  # ordinary callbacks that go before the next found one
        handle: Any
        while True:
            over = not ahead and batch <= 0
            overdue = self._queue_overdue(loop) if over and run_queue.poll_after_batch else 0  # 1. Behind all others
            alone = not found
            time = self.poll(loop)  # 2. Once a slice
            if urgent.idle and not run_queue.has_work():
                ordinary.append(urgent.pop_idle(time))  # 5. IDLE: nothing else is ready
            if alone:
                # Programs rely on asyncio's order where little is ready: a short timeout must not cancel a task before
                # its first step. So a short queue goes first, and a long one takes turns.
                if not ordinary:
                    first = 0
                elif (queued := len(ordinary) - overdue) <= SHORT_QUEUE:
                    first = queued
                elif first < 0:
                    first = 0
            left = len(found)  # only polls add to them
            if over and not urgent.old:
                ahead, batch = left, len(ordinary)
                if urgent.waiting:
                    urgent.begin_batch()
            called = COMPILED or loop._debug or monitor.is_measuring  # compiled, a call costs next to nothing
            now = clock.now
            self.slice_began = time
            until = time + self.slice
            while True:
                if urgent.waiting and (handle := urgent.pick(time, bool(ordinary or left))) is not None:
                    pass  # 1. Order, 5. no starvation, 6. deadlines: see PriorityQueues
                elif left and (first <= 0 or batch <= 0 < ahead or not ordinary):
                    handle = found.popleft()
                    left -= 1
                    if called:
                        monitor.note_found(handle, time)
                    else:  # `note_found`, inlined
                        handle._scheduled = False
                        if not handle._cancelled:
                            (latency if type(handle) is Watcher else lateness).append(time - handle._when)
                    first = 1
                    if ahead:
                        ahead -= 1
                elif ordinary:
                    handle = ordinary.popleft()
                    batch -= 1
                    first -= 1
                else:
                    ahead = batch = 0  # as they are, unless a program has emptied the queues
                    break
                if called:
                    self._run_handle(handle, loop)
                    time = read_clock(now)
                else:
                    if not handle._cancelled:
                        try:  # `_run_handle`, inlined; unpacking no argument or one costs more than the call
                            if not (args := handle._args):
                                handle._context.run(handle._callback)
                            elif len(args) == 1:
                                handle._context.run(handle._callback, args[0])
                            else:
                                handle._context.run(handle._callback, *args)
                        except (SystemExit, KeyboardInterrupt):
                            raise
                        except BaseException as error:
                            self._failed(handle, error)  # 7. One failure stays one failure
                    elif type(handle) is Watcher:
                        self._poller.descriptors.remove_watcher(handle)  # asyncio's rule for a cancelled one
                    time = now()
                if batch <= 0 and not ahead:
                    if run_queue.poll_after_batch:
                        break
                    if not urgent.waiting:
                        ahead, batch = left, len(ordinary)
                    elif not urgent.old:
                        ahead, batch = left, len(ordinary)
                        urgent.begin_batch()
                elif loop._stopping:
                    break
                if time >= until:  # 2.
                    break
            if time >= until and time - until >= monitor.slow_after:
                self._overran(handle, time - until)  # the last one: any that overruns its slice ends it
            handle = args = None  # or they would live through the next wait, with all they refer to
            if loop._stopping:
                self._finish_batch(loop, ahead, batch, first)
                return

    def poll(self, loop: SelectorEventLoop) -> float:
        """Queue the descriptors that are ready and the timers that are due; wait for one if there is nothing to do.

        Return the loop's time after that.
        """
        clock, run_queue, timers, gc_schedule = self._clock, self._run_queue, self._timers, self._gc_schedule
        urgent, monitor = run_queue.urgent, self._monitor
        if type(loop).time is not clock.time_of_class and clock.follow(loop):
            self.clock_replaced()
        if run_queue.inbox:
            run_queue.take_inbox()
        if timers.new:
            timers.admit()
        if (
            run_queue.ordinary  # `run_queue.has_work()`, inlined: a call here costs each edge 2 % of its time
            or run_queue.found
            or urgent.waiting
            or urgent.idle
            or run_queue.poll_after_batch
            or loop._stopping
        ):
            if len(monitor.lateness) + len(monitor.latency) >= FILED_TOGETHER:
                monitor.histograms()
            if gc_schedule.is_active:
                gc_schedule.collect_if_pressing()
            ready = self._poller.poll(0.0)
        else:
            if len(monitor.lateness) + len(monitor.latency) >= FILED_BEFORE_WAIT:
                monitor.histograms()
            when: float | None = timers.earliest
            if when == INFINITY:
                when = None
            elif when == -INFINITY:
                when = timers.next_when()
            if gc_schedule.is_active and gc_schedule.collect_before(when):
                when = 0.0  # a finalizer may have queued a callback
            ready = self._poller.poll(when)  # 4. As precise as the kernel, 9. idle is idle: see Poller
            if run_queue.inbox:
                run_queue.take_inbox()  # a call that came in the wait; it goes before what that found, as in asyncio
        if clock.is_replaced:
            run_queue.poll_after_batch = True  # as asyncio does: this clock may stand still, or leap
        time = read_clock(clock.now) if COMPILED else clock.now()
        if ready:
            poller, found = self._poller, run_queue.found
            watched = poller.descriptors.keys
            if len(ready) == EVENTS_PER_POLL:
                ready += poller.poll_urgent()  # 1. Order: the kernel may not have reported the urgent ones
            for fd, mask in ready:
                key = find_key(watched, fd) if COMPILED else watched.get(fd)
                if key is None:
                    if fd == poller.alarm_fd:
                        poller.alarm_when = 0.0  # it has rung
                    elif fd != poller.descriptors.waker_fd:
                        poller.forget_closed()
                    continue
                # As selectors has it: an error or a hang-up concerns both directions.
                reader, writer = data_of(key) if COMPILED else key[3]
                if reader is not None and mask & ~OUT and not reader._scheduled:
                    reader._scheduled = True
                    reader._when = time
                    if reader.is_ordinary:
                        found.append(reader)
                    else:
                        run_queue.add_ready(reader)
                if writer is not None and mask & ~IN and not writer._scheduled:
                    writer._scheduled = True
                    writer._when = time
                    if writer.is_ordinary:
                        found.append(writer)
                    else:
                        run_queue.add_ready(writer)
        if timers.earliest <= time:  # 3. Never early
            due = timers.pop_due(time)
            if run_queue.urgencies.in_use:
                run_queue.add_due(due)
            else:
                run_queue.found.extend(due)
        return time

    def clock_replaced(self) -> None:
        """Go by the loop's new clock at once."""
        self._poller.use_clock()
        self._run_queue.poll_after_batch = True

    def _queue_overdue(self, loop: SelectorEventLoop) -> int:
        """A batch has ended: queue the timers that were due when they were set. Return their number.

        asyncio's next poll would find them, after everything that is queued by now.
        """
        run_queue = self._run_queue
        run_queue.poll_after_batch = loop._stopping
        if run_queue.inbox:
            run_queue.take_inbox()
        overdue = self._timers.pop_overdue()
        for timer in overdue:
            run_queue.add(timer)
        return len(overdue)

    def _finish_batch(self, loop: SelectorEventLoop, ahead: int, batch: int, first: int) -> None:
        """The loop is stopped: run the rest of the batch, and nothing that its callbacks add."""
        found, ordinary, urgent = self._run_queue.found, self._run_queue.ordinary, self._run_queue.urgent
        while True:
            if urgent.old and (handle := urgent.pop_old(self._clock.now(), ahead > 0 or batch > 0)) is not None:
                pass
            elif ahead and found and (first <= 0 or batch <= 0 or not ordinary):  # a program may have emptied a queue
                handle = found.popleft()
                handle._scheduled = False
                ahead -= 1
                first = 1
            elif batch > 0 and ordinary:
                handle = ordinary.popleft()
                batch -= 1
                first -= 1
            else:
                return
            self._run_handle(handle, loop)

    def _run_handle(self, handle: Any, loop: SelectorEventLoop) -> None:
        """Run one handle; its failure goes to the exception handler."""
        if is_cancelled(handle):
            if type(handle) is Watcher:
                self._poller.descriptors.remove_watcher(handle)
            return
        if loop._debug or self._monitor.is_measuring:
            run_timed(handle, self._monitor, self._failed)
            handle = None  # here and in `run_timed`: a traceback that a task keeps would keep it, in a cycle
            return
        if COMPILED and succeeds(handle):
            return  # without `try`, which would cost a compiled callback 5 % of its time
        try:
            if COMPILED:
                raise_pending()
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(handle, error)
        handle = None

    def _failed(self, handle: Any, error: BaseException) -> None:
        """Report what a callback raised, and give up a source that raised."""
        source = handle.source if type(handle) is Watcher else None
        report_failure(handle, error)
        if source is not None:
            self._sources.discard(source, handle._loop)

    def _overran(self, handle: Any, took: float) -> None:
        task = self._monitor.overran(handle, took)
        if task is not None:
            self._inheritance.demote(task)
