"""The event loop that programs see: `hwloop.EventLoop`, with the calls that hardware needs and asyncio lacks.

They are forwarded to the objects that do the work: sources to the source table, settings to the poller, the monitor and
the collection schedule, callbacks with a priority or a deadline to the run queue. docs/guarantees.md defines the order
in which callbacks run.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.asyncio_loop import AsyncioLoop
from hwloop.core.bases import CORE
from hwloop.core.debug import checked_handle
from hwloop.core.dispatch import Dispatcher
from hwloop.core.gc_schedule import GcMode
from hwloop.core.handles import Handle, Pollable
from hwloop.core.inheritance import PriorityInheritance
from hwloop.core.monitor import DeadlineHandler, OverrunHandler
from hwloop.core.parts import Parts
from hwloop.core.periodic_timer import OverrunPolicy, Periodic, Schedule, checked_deadline, checked_tolerance
from hwloop.core.poller import SHORTEST_WAIT
from hwloop.core.urgency import URGENCY, Priority, as_priority

if TYPE_CHECKING:
    from hwloop.core.realtime import Applied, RealTime
    from hwloop.core.statistics import LoopStatistics


class EventLoop(AsyncioLoop):
    """An asyncio event loop that polls the hardware often and runs urgent callbacks first.

    Parameters:
        selector: as for `asyncio.SelectorEventLoop`. With the default or any `selectors.EpollSelector`, timers are as
            precise as the kernel; other selectors keep every guarantee but that one.
        parts: the objects that the loop is composed of, for subclasses that replace some of them.

    Attributes:
        urgency: changes and lends the urgency of tasks, for locks and the like.
        dispatcher: says how long the current slice lasts, for cooperative code.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None, *, parts: Parts | None = None) -> None:
        if parts is None:
            parts = Parts(selectors.DefaultSelector() if selector is None else selector)
        self.urgency: PriorityInheritance = parts.inheritance
        self.dispatcher: Dispatcher = parts.dispatcher
        self._realtime: Applied | None = None
        super().__init__(parts)

    def close(self) -> None:
        """Close the loop, after the sources that are still registered."""
        super().close()
        self.set_realtime(None)

    def after_fork_in_child(self) -> None:
        if self._realtime is not None:
            self._realtime.forget()
            self._realtime = None
        super().after_fork_in_child()

    # Sources.

    def register(self, source: Pollable) -> None:
        """Watch `source.fileno()` and call `source.on_readable()` whenever it is readable, with `source.priority`.

        Raises ValueError if the descriptor is invalid or watched already, TypeError if the object is not a source. If
        `on_readable` raises, the source is unregistered, closed if it can be, and reported; the loop goes on.
        """
        watcher = self._sources.watcher_for(source, self)
        self._check_closed()
        self._sources.add(watcher)

    def unregister(self, source: Pollable) -> None:
        """Stop watching `source`. Raises KeyError if it is not registered."""
        self._sources.remove(source)

    def call_again(self, source: Pollable) -> None:
        """Call `source.on_readable()` once more, in its turn, as if a poll had found the descriptor readable.

        For a source that has read more than it should deal with in one slice. Harmless when repeated. Raises KeyError
        if it is not registered.
        """
        watcher = self._sources.watcher_of(source)
        if not watcher._scheduled:
            watcher._scheduled, watcher._when = True, self.time()
            self._run_queue.add_ready(watcher)

    def sources(self) -> list[Pollable]:
        """Return the registered sources in order of registration."""
        return self._sources.sources()

    # Urgency.

    def call_soon_priority(self, priority: Priority, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Like `call_soon`, with a priority that everything inherits that the callback schedules."""
        context = contextvars.copy_context()
        context.run(URGENCY.set, URGENCY.get()._replace(priority=as_priority(priority)))
        self.urgency.enable()
        return self.call_soon(callback, *args, context=context)

    def call_deadline(
        self, deadline: float, callback: Callable[..., object], *args: Any, priority: Priority = Priority.NORMAL
    ) -> asyncio.Handle:
        """Call `callback` as soon as possible, ahead of callbacks of its priority with a later deadline or none.

        `deadline` is loop time. If it passes first, the miss is counted and the callback still runs, after callbacks
        whose deadlines can still be met.
        """
        if not deadline > 0:
            raise ValueError(f"a deadline is a loop time, as loop.time() gives, not {deadline!r}")
        deadline = deadline + 0.0  # a float, or TypeError now instead of in the run
        if self._guarded:
            handle: Any = checked_handle(self, "call_deadline", callback, args, None)
        else:
            handle = Handle(callback, args, self, contextvars.copy_context())
        self._run_queue.add_deadline(as_priority(priority), deadline, handle)
        return handle  # type: ignore[no-any-return]

    def reschedule(
        self, task: asyncio.Task[Any], *, priority: Priority | None = None, deadline: float | None = None
    ) -> None:
        """Change the urgency of a task from now on, wherever it is: running, ready or waiting.

        A part that is None stays as it is; `deadline` is in seconds, `math.inf` for none. Tasks that it spawns from now
        on inherit the new urgency, earlier ones keep the old. Within a `scheduled` block of that task, this ends the
        block's effect. Raises ValueError for an unknown priority, a deadline that is not above 0 or a task of another
        loop, and TypeError if `task` is not a task.
        """
        if not isinstance(task, asyncio.Task):
            raise TypeError(f"a task was expected, not {task!r}")
        if task.get_loop() is not self:
            raise ValueError(f"{task!r} is on another loop")
        self.urgency.reschedule(task, priority, deadline)

    # Timers that asyncio does not have, besides `call_tolerant`.

    def call_every(
        self,
        period: float,
        callback: Callable[..., object],
        *args: Any,
        phase: float | None = None,
        deadline: float | None = None,
        priority: Priority | None = None,
        tolerance: float = 0.0,
        overrun: OverrunPolicy = "skip",
    ) -> Periodic:
        """Call `callback(*args)` each `period` seconds, first one period from now, until the result is cancelled.

        For the parameters see `hwloop.every`; callbacks that it schedules have the same priority and deadline. If the
        callback raises, that is reported, and the next tick still comes.
        """
        schedule = Schedule(period, phase, overrun)
        checked_deadline(deadline)
        checked_tolerance(tolerance)
        self._check_closed()
        self._check_callback(callback, "call_every")
        if self._debug:
            self._check_thread()
        context = contextvars.copy_context()
        if priority is not None or deadline is not None:
            urgency = URGENCY.get()
            if priority is not None:
                urgency = urgency._replace(priority=as_priority(priority))
            if deadline is not None:
                urgency = urgency._replace(deadline=deadline)
            context.run(URGENCY.set, urgency)
            self.urgency.enable()
        return Periodic(self, schedule, callback, args, context, deadline, tolerance)

    # Settings and statistics.

    def schedule_gc(self, mode: GcMode) -> None:
        """Choose how garbage is collected while the loop runs; when it ends, automatic collection is as it was.

        "auto", as without this call: Python, at any moment. "idle": the loop, when it would sleep and has time before
        its next timer, or when a collection can't be put off any longer; `statistics().gc` counts. "off": nobody, for
        programs that make no cycles or end soon. Garbage belongs to the process, not to the loop: set this on one loop.
        Raises ValueError for another mode.
        """
        self._gc_schedule.end_run()
        self._gc_schedule.set_mode(mode)
        if self.is_running():
            self._gc_schedule.begin_run()

    def set_realtime(self, realtime: RealTime | None) -> None:
        """Run the calling thread, which should be the loop's, in real time from now until the loop is closed.

        `statistics().realtime` says what the system has granted. Refusals are logged and raise nothing. None undoes it.
        See `hwloop.RealTime`.
        """
        if not (realtime is None or hasattr(realtime, "apply")):
            raise TypeError(f"realtime is a hwloop.RealTime or None, not {realtime!r}")
        if self._realtime is not None:
            self._realtime.undo()
        self._realtime = None if realtime is None else realtime.apply()

    def set_spin(self, seconds: float) -> None:
        """Busy-poll for the last `seconds` before a timer, so that it runs within microseconds of its time.

        A good choice is the time that a sleeping thread needs to wake: 20 to 100 µs, more on a Pi that saves power. It
        costs at most that much processor time per wakeup; 0 ends it. It has no effect with a selector that is not
        epoll's. Raises ValueError for more than 10 ms: other threads of the program do not run meanwhile.
        """
        if not 0 <= seconds <= 0.01:
            raise ValueError(f"spin is in seconds, from 0 to 0.01, not {seconds!r}")
        self._poller.spin = max(seconds, SHORTEST_WAIT)
        self._poller.doubt_alarm()  # it may be set for the old one

    def set_deadline_handler(self, handler: DeadlineHandler | None) -> None:
        """Call `handler(loop, miss)` at each missed deadline, just before the late callback runs.

        Without a handler (None), the first miss under each name is logged as a warning; all are counted.
        """
        self._monitor.set_deadline_handler(handler)

    def watch_slices(
        self,
        limit: float | None = 0.05,
        *,
        locate: bool = False,
        demote: bool = False,
        handler: OverrunHandler | None = None,
    ) -> None:
        """Report callbacks and steps of tasks that block the loop for `limit` seconds or more; None ends it.

        They are counted in `statistics()`. The first under each name is logged as a warning; with a handler,
        `handler(loop, overrun)` is called for each one instead, as soon as it is over. It costs one comparison a slice.

        With `demote`, a task that did so runs one priority lower, but not below LOW, until it rests: until it waits for
        something other than its next turn.

        With `locate`, a thread checks every half limit what the loop is doing, so that the report names the line that
        ran. That costs a wakeup each time, also while the loop is idle. It can't see into C code that keeps Python's
        interpreter lock. Raises ValueError for a limit that is not above 0.
        """
        self._monitor.watch_slices(limit, demote, handler)
        sampler = None
        if locate and limit is not None:
            from hwloop.core.stack_sampler import Sampler

            sampler = Sampler(self, self._dispatcher, self._poller, limit / 2)
        self._monitor.sample_with(sampler)

    def measure_tasks(self, on: bool = True) -> None:
        """Count in `statistics().tasks` how long each task runs. It costs about a microsecond a callback."""
        self._monitor.is_measuring = on

    def statistics(self) -> LoopStatistics:
        """Return the loop's counters as plain data."""
        from hwloop.core.statistics import LoopStatistics

        lateness, latency = self._monitor.histograms()
        return LoopStatistics(
            ready=len(self._run_queue),
            timers=sum(not timer.cancelled() for timer in self._timers.all()),
            descriptors=len(self._poller.descriptors.keys),
            sources=self._sources.statistics(self),
            deadline_misses=self._monitor.deadline_misses.occurrences(),
            overruns=self._monitor.overruns.occurrences(),
            tasks=self._monitor.task_times.occurrences(),
            lateness=lateness.summary(),
            latency=latency.summary(),
            gc=self._gc_schedule.statistics(),
            realtime=None if self._realtime is None else self._realtime.granted,
            core=CORE,
        )
