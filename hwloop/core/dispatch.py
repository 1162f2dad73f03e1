"""The core: all hot state of the loop, the calls that fill it, and the dispatch loop that empties it.

This is the one module that has to be quick, and it is laid out so that it could be compiled as it stands: every
queue, heap and flag is declared once in `Core._init_core`, attributes keep their type, and one function runs a handle
(`_run_handle`, repeated in line where it is hot) and one waits (`_wait`). The loop class, its policy and whatever
is cold live in `hwloop.core.event_loop`.

A *turn* of the dispatch loop is one look at the hardware and one slice of work. What the looks find, descriptors that
are ready and timers that are due, has already happened and goes ahead of ordinary work; the two alternate while both
wait, so neither can starve the other. The promises that the numbers in `_run_once` refer to are those of
docs/guarantees.md; tests/promises has a trace test for each.
"""

from __future__ import annotations

import _thread
import asyncio
import collections
import select
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from hwloop.core import clock
from hwloop.core.descriptors import IN, OUT, Descriptors
from hwloop.core.handles import Handle, ThreadSafeHandle, TimerHandle, Watcher
from hwloop.core.run_queue import Bands
from hwloop.core.tolerant_timers import Tolerant
from hwloop.core.urgency import NORMAL, URGENCY, Urgency

if TYPE_CHECKING:
    from hwloop.core.gc_schedule import Collector
    from hwloop.core.inheritance import Override

SLICE = 50e-6
"""Seconds of work between two looks at descriptors and timers. An edge waits half of it on average; a look costs about
a hundredth of it."""

SHORT_QUEUE = 4
"""So many callbacks that were ready before a look go before what it found, as all of them do in asyncio."""

LOOK_AGAIN = 20e-6
"""A wait shorter than this (seconds) costs more than it saves: look again instead. `set_spin` makes it longer."""

EVENTS_PER_LOOK = 64
"""Descriptors taken per look; the kernel hands the rest out in turn (epoll_wait(2))."""

WAITS_KEPT = 500
"""So many latenesses are kept as they are before they go into the histogram, together, which costs a tenth."""

LONGEST_WAIT = 24 * 3600.0
INFINITY = float("inf")
_PURGE_AFTER = 64
_new = object.__new__


class Core:
    """The hot half of `hwloop.EventLoop`: a mixin in front of `asyncio.SelectorEventLoop`."""

    # The base class's, used here.
    _ready: collections.deque[Any]
    _debug: bool
    _stopping: bool
    _descriptors: Descriptors  # the loop's
    _task_factory: Callable[..., asyncio.Task[Any]] | None

    if TYPE_CHECKING:
        # The base class's and the cold half's.
        def time(self) -> float: ...
        def _follow_clock(self, now: Callable[[], float]) -> None: ...
        def _write_to_self(self) -> None: ...
        def _call_soon_checked(self, callback: Any, args: Any, context: Any) -> Any: ...
        def _call_later_checked(self, delay: Any, callback: Any, args: Any, context: Any) -> Any: ...
        def _call_at_checked(self, when: Any, callback: Any, args: Any, context: Any) -> Any: ...
        def _make_checked_handle(self, method: str, callback: Any, args: Any, context: Any) -> Any: ...
        def _callback_failed(self, handle: Any, error: BaseException) -> None: ...
        def _run_timed(self, handle: Any) -> None: ...
        def _override(self, handle: Any, urgency: Urgency) -> Urgency: ...
        def _deadline_missed(self, handle: asyncio.Handle, lateness: float) -> None: ...
        def _overran(self, handle: asyncio.Handle, took: float) -> None: ...
        def _wait_in_selector(self, when: float | None) -> list[tuple[int, int]]: ...
        def _queue_due_timers(self) -> int: ...
        def _purge_timers(self) -> None: ...
        def _finish_batch(self, ahead: int, batch: int, first: int) -> None: ...
        def _file_waits(self) -> None: ...

    def _init_core(self) -> None:
        """Declare all hot state. Called before the base class's init, which adds the first reader."""
        self._guarded = False  # closed, or in debug mode: take the slow path
        self._heeding = False  # somebody has asked for urgency: look the context variable up
        self._events: collections.deque[Any] = collections.deque()  # found by the looks: watchers, due timers
        self._overrides: dict[asyncio.Task[Any], Override] = {}  # tasks whose urgency others changed or lend to
        self._bands = Bands(self._deadline_missed, self._note_wait)
        self._inbox: collections.deque[Any] = collections.deque()  # from other threads
        self._new_timers: list[Any] = []  # not in the heap yet: one cancelled in the same turn never gets there
        # Due when they were set: they join the ready queue when the batch ends.
        self._due_timers: collections.deque[Any] = collections.deque()
        self._look_next = False  # before the next batch: a timer was set that is due by then, or stop() was called
        self._timers: list[tuple[float, int, Any]] = []  # heap by (when, order of arrival)
        self._timer_sequence = 0
        self._tolerant = Tolerant()  # timers that may be late, until they are due
        self._timers_cancelled = 0  # of those in the heap, about: it decides when to purge, and nothing else
        self._watchers: Mapping[int, Any] = {}  # fd: the selector's key, with (reader, writer)
        self._epoll: select.epoll | None = None  # with the alarm; without both, the selector waits
        self._alarm: clock.Alarm | None = None
        self._alarm_fd = -1
        self._alarm_when = 0.0  # what the alarm is set to; 0 when it is not
        self._sleeping = False
        self._now: Callable[[], float] = clock.monotonic  # `time`, see hwloop.core.waits
        self._time_of_class: object = None  # what the class has under that name, where looking there is enough
        self._slice = SLICE
        self._turn = 0.0  # when the current turn's look was done
        self._measuring = False  # take the time of each callback
        self._slow = INFINITY  # report callbacks that overrun their slice by so many seconds
        self._collector: Collector | None = None  # of garbage, where that is the loop's affair
        self._spin = LOOK_AGAIN  # look again and again for so many seconds before a timer, instead of waiting
        self._peek: Callable[[], list[tuple[int, int]]] | None = None  # a look for programs with threads
        # Seconds, not yet in the histograms: how late timers ran, and how long after the look descriptors were served.
        self._lateness: list[float] = []
        self._latency: list[float] = []

    # What fills the queues.

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if self._guarded:
            return self._call_soon_checked(callback, args, context)
        handle = _new(Handle)  # `Handle.__init__`, in line: a fifth of the price of one
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = copy_context() if context is None else context
        handle._cancelled = False
        if self._inbox:
            self._take_inbox()
        if self._heeding:
            self._add_ready(handle)
        else:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle: Any
        if self._guarded:
            handle = self._make_checked_handle("call_soon_threadsafe", callback, args, context)
        else:
            make = Handle if ThreadSafeHandle is None else ThreadSafeHandle
            handle = make(callback, args, self, copy_context() if context is None else context)
        if ThreadSafeHandle is None:
            self._inbox.append(handle)
        else:
            # Only its own _run takes its lock. It enters the handle's context, which can't be entered twice: a copy.
            self._inbox.append(Handle(handle._run, (), self, handle._context.copy()))
        # The loop says that it sleeps before it looks into the inbox, so one of the two sees the other.
        if self._sleeping:
            self._write_to_self()
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self._guarded or self._task_factory is not None:
            return super().create_task(coro, **options)  # type: ignore[misc,no-any-return]
        make: Any = asyncio.Task
        return make(coro, loop=self, **options) if options else make(coro, loop=self)  # type: ignore[no-any-return]

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        if self._guarded or delay is None or not (when := (now := self._now()) + delay) > now + SLICE:  # no int
            return self._call_later_checked(delay, callback, args, context)
        timer = _new(TimerHandle)  # in line, as in `call_soon`
        timer._when = when
        timer._callback = callback
        timer._args = args
        timer._loop = self
        timer._context = copy_context() if context is None else context
        timer._cancelled = timer._scheduled = False
        self._new_timers.append(timer)
        return timer

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if self._guarded or not when > self._now() + SLICE:
            return self._call_at_checked(when, callback, args, context)
        timer = TimerHandle(when, callback, args, self, copy_context() if context is None else context)
        self._new_timers.append(timer)
        return timer

    def _add_ready(self, handle: Any) -> None:
        """Queue a handle by its context's urgency."""
        urgency = self._urgency(handle)
        if urgency == NORMAL:
            self._ready.append(handle)
        else:
            self._bands.push(urgency.priority, self._now() + urgency.deadline, handle)

    def _urgency(self, handle: Any) -> Urgency:
        if not self._heeding:
            return NORMAL
        try:
            urgency = handle._context.get(URGENCY, NORMAL)
        except AttributeError:
            return NORMAL  # no context at all, which is reported when it runs
        return self._override(handle, urgency) if self._overrides else urgency

    def _take_inbox(self) -> None:
        """Queue what other threads sent, in the order they sent it."""
        inbox = self._inbox
        try:
            while inbox:
                self._add_ready(inbox.popleft())
        except IndexError:
            pass  # `call_soon` was called by another thread, as programs do in spite of the documentation

    def _admit_timers(self) -> None:
        """Take new timers into the heap, but for those that were cancelled before it came to that.

        In place, since another thread may be about to append to the list.
        """
        new = self._new_timers
        for timer in (taken := new[:]):
            if not timer._cancelled:
                self._timer_sequence += 1
                timer._scheduled = True
                heappush(self._timers, (timer._when, self._timer_sequence, timer))
        del new[: len(taken)]

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """A timer in the heap was cancelled, perhaps by another thread or a finalizer. Only looks change the heap."""
        if handle._scheduled:
            self._timers_cancelled += 1

    # The dispatch loop.

    def _run_once(self) -> None:
        """Dispatch until `stop()`; `run_forever` is asyncio's own and calls this once.

        The order of a turn: look; then, until the slice is used up, the most urgent work first, and what the looks
        found in alternation with ordinary work. As in asyncio, work is done in batches: the `ahead` events and `batch`
        ordinary callbacks that were queued when the last one ended, and `bands.old` urgent ones. What these schedule
        and what later looks find belongs to the next batch, however many slices the current one takes. `stop()` runs
        the rest of the current one and nothing else.
        """
        ready, events, bands = self._ready, self._events, self._bands
        lateness, latency = self._lateness, self._latency
        ahead = batch = bands.old = 0
        first = 0  # ordinary callbacks that go before the next event
        handle: Any
        while True:
            over = not ahead and batch <= 0
            due = self._queue_due_timers() if over and self._look_next else 0  # 1. Behind all that is queued
            alone = not events
            time = self._look()  # 2. Once a slice. 3. Never early, 4. precise, 9. idle is idle: see there
            if bands.idle and not (ready or events or bands.waiting):
                ready.append(bands.pop_idle(time))  # 5. IDLE: nothing else is ready
            if alone:
                # Programs rely on asyncio's order where little is ready: a short timeout must not cancel a task before
                # its first step. So a short queue goes first, and a long one takes turns.
                first = queued if (queued := len(ready) - due) <= SHORT_QUEUE else max(first, 0)
            if over and not bands.old:
                ahead, batch = len(events), len(ready)
                if bands.waiting:
                    bands.begin_batch()
            debug = self._debug or self._measuring
            now = self._now
            self._turn = time
            until = time + self._slice
            while True:
                if bands.waiting and (handle := bands.pick(time, bool(ready or events))) is not None:
                    pass  # 1. Order, 5. no starvation, 6. deadlines: see Bands
                elif events and (first <= 0 or batch <= 0 < ahead or not ready):
                    handle = events.popleft()
                    handle._scheduled = False
                    if not handle._cancelled:
                        (latency if type(handle) is Watcher else lateness).append(time - handle._when)
                    elif type(handle) is Watcher:
                        self._descriptors.remove_watcher(handle)  # asyncio's rule for one cancelled by its handle
                    first = 1
                    if ahead:
                        ahead -= 1
                elif ready:
                    handle = ready.popleft()
                    batch -= 1
                    first -= 1
                else:
                    ahead = batch = 0  # as they are, unless somebody has emptied the queues
                    break
                if debug:
                    self._run_handle(handle)
                elif not handle._cancelled:
                    try:  # `_run_handle`, in line; unpacking few arguments or none costs more than the call
                        if not (args := handle._args):
                            handle._context.run(handle._callback)
                        elif len(args) == 1:
                            handle._context.run(handle._callback, args[0])
                        else:
                            handle._context.run(handle._callback, *args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self._callback_failed(handle, error)  # 7. One failure stays one failure
                time = now()
                if batch <= 0 and not ahead:
                    if self._look_next:
                        break
                    if not bands.waiting:
                        batch = len(ready)
                        if events:
                            ahead = len(events)
                    elif not bands.old:
                        ahead, batch = len(events), len(ready)
                        bands.begin_batch()
                elif self._stopping:
                    break
                if time >= until:  # 2.
                    break
            if time - until >= self._slow:
                self._overran(handle, time - until)  # the last one: any that overruns its slice ends it
            handle = args = None  # or they would live on, with all they refer to, through the next wait
            if self._stopping:
                self._finish_batch(ahead, batch, first)
                return

    def _look(self) -> float:
        """Queue the descriptors that are ready and the timers that are due; wait for one if nothing else is to do.

        Returns the loop's time after that.
        """
        if self.__class__.time is not self._time_of_class:
            self._follow_clock(self.time)
        if self._inbox:
            self._take_inbox()
        if self._new_timers:
            self._admit_timers()
        if len(self._lateness) >= WAITS_KEPT or len(self._latency) >= WAITS_KEPT:
            self._file_waits()
        timers, events, bands = self._timers, self._events, self._bands
        if self._timers_cancelled > _PURGE_AFTER and self._timers_cancelled * 2 > len(timers):
            self._purge_timers()
        while timers and timers[0][2]._cancelled:
            heappop(timers)
            self._timers_cancelled -= self._timers_cancelled > 0
        if self._ready or events or bands.waiting or bands.idle or self._stopping or self._look_next:
            if self._collector is not None:
                self._collector.collect_if_pressing()
            found = self._wait(0.0)
        else:
            when = timers[0][0] if timers else None
            if self._tolerant.waiting:
                when = self._tolerant.wake_by(when)
            if self._collector is not None and self._collector.collect_before(when):
                when = 0.0  # a finalizer may have found something to do
            found = self._wait(when)
        time = self._now()
        watchers = self._watchers
        if len(found) == EVENTS_PER_LOOK and (urgent := self._descriptors.urgent) is not None:
            found += urgent.poll(0, EVENTS_PER_LOOK)  # 1. Order: what is urgent may be among the rest
        for fd, mask in found:
            key = watchers.get(fd)
            if key is None:
                if fd == self._alarm_fd:
                    self._alarm_when = 0.0  # it has rung
                else:
                    self._descriptors.renew()  # or the kernel would report for ever what nobody watches any more
                continue
            # As selectors has it: an error or a hang-up concerns both directions.
            reader, writer = key[3]  # its data
            if reader is not None and mask & ~OUT and not reader._scheduled:
                reader._scheduled = True
                reader._when = time
                if reader._ordinary:
                    events.append(reader)
                else:
                    self._push_event(reader)
            if writer is not None and mask & ~IN and not writer._scheduled:
                writer._scheduled = True
                writer._when = time
                if writer._ordinary:
                    events.append(writer)
                else:
                    self._push_event(writer)
        if self._tolerant.waiting:
            self._tolerant.release(time, timers)
        while timers and timers[0][0] <= time:  # 3. Never early
            timer = heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._timers_cancelled -= self._timers_cancelled > 0
            elif self._heeding and (urgency := self._urgency(timer)) != NORMAL:
                bands.push(urgency.priority, timer._when + urgency.deadline, timer)
            else:
                events.append(timer)
        return time

    def _note_wait(self, handle: Any, time: float) -> None:
        """A due timer or a ready descriptor leaves its band."""
        if not handle._cancelled:
            (self._latency if type(handle) is Watcher else self._lateness).append(time - handle._when)

    def _push_event(self, watcher: Watcher) -> None:
        """Queue the callback of a ready descriptor by its urgency."""
        deadline = INFINITY if watcher._deadline is None else watcher._when + watcher._deadline
        self._bands.push(watcher._priority, deadline, watcher)

    def _wait(self, when: float | None) -> list[tuple[int, int]]:
        """Wait for descriptors until `when` (loop time; None: for ever) and return them as (fd, epoll mask) pairs.

        It may return early with nothing; the caller looks again.
        """
        epoll, alarm = self._epoll, self._alarm
        if epoll is None or alarm is None:
            return self._wait_in_selector(when)
        if when is None:
            if self._alarm_when:  # 9. Idle is idle
                self._alarm_when = 0.0
                alarm.clear()
        else:
            left = when - self._now()
            if left <= self._spin:
                if _thread._count() and self._peek is not None:  # beside this one
                    return self._peek()
                return epoll.poll(0, EVENTS_PER_LOOK)
            if when != self._alarm_when:  # 4. As precise as the kernel: the alarm is in the epoll set
                self._alarm_when = when
                early = self._spin if self._spin > LOOK_AGAIN else 0.0
                alarm.set(when - early if left < LONGEST_WAIT else self._now() + LONGEST_WAIT)
        self._sleeping = True
        try:
            return epoll.poll(0 if self._inbox else -1, EVENTS_PER_LOOK)
        finally:
            self._sleeping = False

    def _run_handle(self, handle: Any) -> None:
        """Run one handle; its failure goes to the exception handler."""
        if handle._cancelled:
            if type(handle) is Watcher:
                self._descriptors.remove_watcher(handle)
            return
        if self._debug or self._measuring:
            self._run_timed(handle)
            handle = None  # here and in `_run_timed`: a traceback that a task keeps would keep it, in a cycle
            return
        try:
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._callback_failed(handle, error)
        handle = None
