"""The dispatch function for virtual time: the order of `hwloop.core.dispatch`, with less on the way to it.

Time stands still while callbacks run, so a slice is one callback, and most polls between two of them find nothing and
are skipped. Most events come alone, to a loop that rests: one edge, one batch of bytes, one timer. Such an event runs
straight away. It would be the only handle in the queues, so the order is the same; tests/core/test_virtual_dispatch.py
compares the two functions on programs that it makes at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.descriptors import IN, OUT
from hwloop.core.dispatch import SHORT_QUEUE, Dispatcher
from hwloop.core.monitor import FILED_BEFORE_WAIT
from hwloop.core.timer_queue import INFINITY
from hwloop.core.urgency import NORMAL
from hwloop.virtual.poller import VirtualPoller
from hwloop.virtual.run_queue import VirtualRunQueue

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop
    from hwloop.core.poller import Found


class VirtualDispatcher(Dispatcher):
    """A dispatcher for virtual time.

    Attributes:
        after_step: called after each callback, for tests that wait for a condition.
    """

    after_step: Callable[[], object] | None = None
    _run_queue: VirtualRunQueue
    _poller: VirtualPoller

    def run(self, loop: SelectorEventLoop) -> None:
        """Dispatch until the loop is stopped. The comments of `Dispatcher.run` say why each step is as it is."""
        run_queue, now, monitor = self._run_queue, self._clock.now, self._monitor
        ordinary, found, urgent = run_queue.ordinary, run_queue.found, run_queue.urgent
        ahead = batch = urgent.old = 0
        first = 0
        handle: Any
        while True:
            if self.after_step is not None:
                self.after_step()
            if ordinary or found or urgent.waiting or urgent.idle or run_queue.poll_after_batch or ahead or batch > 0:
                over = not ahead and batch <= 0
                overdue = self._queue_overdue(loop) if over and run_queue.poll_after_batch else 0
                alone = not found
                time = self.poll(loop)
                handle = None
            else:
                over = alone = True
                overdue = 0
                handle = self._next_event(loop)
                time = now()
            if handle is None:
                if urgent.idle and not run_queue.has_work():
                    ordinary.append(urgent.pop_idle(time))
                if alone:
                    first = queued if (queued := len(ordinary) - overdue) <= SHORT_QUEUE else max(first, 0)
                if over and not urgent.old:
                    ahead, batch = len(found), len(ordinary)
                    if urgent.waiting:
                        urgent.begin_batch()
                if urgent.waiting and (handle := urgent.pick(time, bool(ordinary or found))) is not None:
                    pass
                elif found and (first <= 0 or batch <= 0 < ahead or not ordinary):
                    handle = found.popleft()
                    handle._scheduled = False
                    monitor.note_found(handle, time)
                    first = 1
                    if ahead:
                        ahead -= 1
                elif ordinary:
                    handle = ordinary.popleft()
                    batch -= 1
                    first -= 1
                else:
                    ahead = batch = 0
                    if loop._stopping:
                        return
                    continue
            self.slice_began = time
            if loop._debug or monitor.is_measuring:
                self._run_handle(handle, loop)
            elif not handle._cancelled:
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._failed(handle, error)
            elif hasattr(handle, "fd"):
                self._poller.descriptors.remove_watcher(handle)
            if batch <= 0 and not ahead and not run_queue.poll_after_batch:
                if not urgent.waiting:
                    batch = len(ordinary)
                    if found:
                        ahead = len(found)
                elif not urgent.old:
                    ahead, batch = len(found), len(ordinary)
                    urgent.begin_batch()
            if (took := now() - time) and took >= monitor.slow_after:  # the callback has slept on the clock
                self._overran(handle, took)
            handle = None
            if loop._stopping:
                self._finish_batch(loop, ahead, batch, first)
                return

    def poll(self, loop: SelectorEventLoop) -> float:
        timers, run_queue = self._timers, self._run_queue
        if run_queue.has_work() and not timers.new and not timers.has_tolerant() and self._poller.may_skip():
            time = self._clock.now()
        else:
            time = super().poll(loop)
        if run_queue.step_order is not None:
            run_queue.arrange()
        return time

    def _next_event(self, loop: SelectorEventLoop) -> Any:
        """Let time pass until something happens, while nothing is ready. Return its handle if it comes alone.

        Otherwise queue what has happened, and return None.
        """
        clock, run_queue, timers = self._clock, self._run_queue, self._timers
        monitor, gc_schedule = self._monitor, self._gc_schedule
        if loop.__class__.time is not clock.time_of_class or loop._stopping:
            self.poll(loop)
            return None
        if timers.new:
            timers.admit()
        if len(monitor.lateness) >= FILED_BEFORE_WAIT or len(monitor.latency) >= FILED_BEFORE_WAIT:
            monitor.histograms()
        when: float | None = timers.earliest
        if when == INFINITY:
            when = None
        elif when == -INFINITY:
            when = timers.next_when()
        if gc_schedule.is_active and gc_schedule.collect_before(when):
            when = 0.0
        ready = self._poller.rest(when)
        time = clock.now()
        due = timers.pop_due(time) if timers.earliest <= time else []
        handle = None
        if len(ready) + len(due) == 1 and not (run_queue.ordinary or run_queue.urgent.waiting):
            handle = self._lone_timer(due[0], time) if due else self._lone_watcher(*ready[0], time)
        if handle is None:
            self._queue(ready, due, time)
        if run_queue.step_order is not None:
            run_queue.arrange()
        return handle

    def _lone_watcher(self, fd: int, mask: int, time: float) -> Any:
        """Return the watcher of a descriptor that is ready, unless it has to go through the queues."""
        key = self._poller.descriptors.keys.get(fd)
        if key is None:
            return None
        reader, writer = key[3]
        watcher = reader if writer is None else writer if reader is None else None
        if watcher is None or watcher._cancelled or not mask & ~(OUT if watcher is reader else IN):
            return None
        if not watcher.is_ordinary:
            self._run_queue.urgent.forget_passed()
        watcher._when = time
        self._monitor.latency.append(0.0)
        return watcher

    def _lone_timer(self, timer: Any, time: float) -> Any:
        """Return a timer that is due, unless it has to go through the queues."""
        run_queue = self._run_queue
        if run_queue.urgencies.in_use and (urgency := run_queue.urgencies.of(timer)) != NORMAL:
            # A missed deadline has to be reported, and the seed may have to decide.
            if timer._when + urgency.deadline < time or run_queue.step_order is not None:
                return None
            run_queue.urgent.forget_passed()
        self._monitor.lateness.append(time - timer._when)
        return timer

    def _queue(self, ready: Found, due: list[Any], time: float) -> None:
        """Queue the descriptors that are ready and the timers that are due."""
        run_queue, poller = self._run_queue, self._poller
        for fd, mask in ready:
            key = poller.descriptors.keys.get(fd)
            if key is None:
                poller.forget_closed()
                continue
            reader, writer = key[3]
            for watcher, wanted in ((reader, mask & ~OUT), (writer, mask & ~IN)):
                if watcher is not None and wanted and not watcher._scheduled:
                    watcher._scheduled = True
                    watcher._when = time
                    run_queue.add_ready(watcher)
        if due:
            if run_queue.urgencies.in_use:
                run_queue.add_due(due)
            else:
                run_queue.found.extend(due)
