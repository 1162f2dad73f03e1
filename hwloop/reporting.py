"""What ran late or too long: counted by name, reported once, and handed to whoever wants to know.

A program that is late now and then should say so without a debugger or debug mode. Both reports are free until they
happen: a missed deadline is noticed when its handle is picked, and a callback that runs for long is always the last of
its slice, so one comparison at the end of each slice finds it, with its time right to within a slice.

Names are what a person would look for: the task's name if it was given one, else its coroutine's; the source's; the
function's. So the tables stay as small as the program, however many tasks it starts. What only a report needs is
imported when the first one is made.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwloop.collecting import Collector
    from hwloop.ready import Bands
    from hwloop.realtime import Applied
    from hwloop.sampling import Sampler
    from hwloop.stats import DeadlineMiss, Histogram, LoopStatistics, Occurrences, Overrun
    from hwloop.tolerance import Tolerant

MOST_NAMES = 1000
"""Names beyond this many are counted together, as "others"."""

logger = logging.getLogger("hwloop")
_NAME_BY_DEFAULT = re.compile(r"Task-\d+")


class Reporting:
    """A mixin of `hwloop.EventLoop`."""

    _ready: collections.deque[Any]
    _events: collections.deque[Any]
    _bands: Bands
    _timers: list[tuple[float, int, Any]]
    _new_timers: list[Any]
    _due_timers: list[Any]
    _timers_cancelled: int
    _tolerant: Tolerant
    _watchers: dict[int, Any]
    _slow: float
    _measuring: bool
    _slice: float
    _turn: float
    _now: Callable[[], float]
    _lateness: list[float]
    _latency: list[float]
    _collector: Collector | None
    _realtime: Applied | None

    if TYPE_CHECKING:

        def call_exception_handler(self, context: dict[str, Any]) -> None: ...
        def sources(self) -> list[Any]: ...
        def _demote(self, task: asyncio.Task[Any]) -> None: ...

    def _init_reporting(self) -> None:
        self._deadline_misses: dict[str, Occurrences] = {}
        self._overruns: dict[str, Occurrences] = {}
        self._deadline_handler: Callable[[Any, DeadlineMiss], object] | None = None
        self._overrun_handler: Callable[[Any, Overrun], object] | None = None
        self._demoting = False
        self._sampler: Sampler | None = None
        self._task_times: dict[str, Occurrences] = {}
        self._histograms: tuple[Histogram, Histogram] | None = None  # of lateness and latency

    def turn_began(self) -> float:
        """When the loop last looked at the hardware and began to run callbacks (loop time)."""
        return self._turn

    def slice_used_up(self) -> bool:
        """Whether it is time to look again: what runs now had better let go."""
        return self._now() - self._turn >= self._slice

    def set_deadline_handler(self, handler: Callable[[Any, DeadlineMiss], object] | None) -> None:
        """Call `handler(loop, miss)` at each missed deadline, just before the late callback runs.

        Without one (None), the first miss under each name is logged as a warning; all are counted.
        """
        self._deadline_handler = _as_handler(handler)

    def watch_slices(
        self,
        limit: float | None = 0.05,
        *,
        locate: bool = False,
        demote: bool = False,
        handler: Callable[[Any, Overrun], object] | None = None,
    ) -> None:
        """Report callbacks and steps of tasks that let nobody else run for `limit` seconds or more; None ends it.

        They are counted in `statistics()`, and the first under each name is logged as a warning, or each one given to
        `handler(loop, overrun)` as soon as it is over. It costs one comparison a slice.

        With `demote`, a task that did so runs one band lower, but not below LOW, until it rests: until it waits for
        something other than its next turn.

        With `locate`, a thread looks every half limit what the loop is doing, so that the report says where it was
        while it ran. That costs a wakeup each time, also while the loop is idle. What keeps Python's interpreter lock
        (some C code does) can't be looked at. Raises ValueError for a limit that is not above 0.
        """
        if limit is not None and not limit > 0:
            raise ValueError(f"a limit is in seconds, more than 0, not {limit!r}")
        self._overrun_handler = _as_handler(handler)
        self._demoting = demote
        self._stop_sampling()
        self._slow = float("inf") if limit is None else limit
        if locate and limit is not None:
            from hwloop.sampling import Sampler

            self._sampler = Sampler(self, limit / 2)

    def measure_tasks(self, on: bool = True) -> None:
        """Count in `statistics().tasks` how long each task runs. It costs about a microsecond a callback."""
        self._measuring = on

    def _measured(self, handle: Any, took: float) -> None:
        """A callback ran for `took` seconds, while `measure_tasks` is on."""
        name, task = _who(handle)
        if task is not None:
            _count(self._task_times, name, took)

    def _stop_sampling(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def statistics(self) -> LoopStatistics:
        """The loop's counters as plain data."""
        from hwloop.stats import LoopStatistics, SourceStatistics

        kept = [source.statistics() for source in self.sources() if hasattr(source, "statistics")]
        lateness, latency = self._file_waits()
        new = sum(not timer._cancelled for timer in (*self._new_timers, *self._due_timers))
        return LoopStatistics(
            ready=len(self._ready) + len(self._events) + len(self._bands) + len(self._bands.idle),
            timers=len(self._timers) - self._timers_cancelled + new + self._tolerant.waiting,
            descriptors=len(self._watchers),
            sources=tuple(one for one in kept if isinstance(one, SourceStatistics)),
            deadline_misses=dict(self._deadline_misses),
            overruns=dict(self._overruns),
            tasks=dict(self._task_times),
            lateness=lateness.summary(),
            latency=latency.summary(),
            gc=None if self._collector is None else self._collector.statistics(),
            realtime=None if self._realtime is None else self._realtime.granted,
        )

    def _file_waits(self) -> tuple[Histogram, Histogram]:
        """Put what the core has noted since the last time into the histograms of lateness and latency."""
        if self._histograms is None:
            from hwloop.stats import Histogram

            self._histograms = Histogram(), Histogram()
        for histogram, noted in zip(self._histograms, (self._lateness, self._latency), strict=True):
            histogram.record_all(noted)
            noted.clear()
        return self._histograms

    def _deadline_missed(self, handle: Any, lateness: float) -> None:
        """A callback runs `lateness` seconds after its deadline."""
        name, task = _who(handle)
        count = _count(self._deadline_misses, name, lateness)
        if self._deadline_handler is not None:
            from hwloop.stats import DeadlineMiss

            miss = DeadlineMiss(name, lateness, count, task, getattr(handle, "_source", None))
            self._tell(self._deadline_handler, miss)
        elif count == 1:
            logger.warning("%s ran %.3f ms after its deadline (reported once)", name, lateness * 1e3)

    def _overran(self, handle: Any, took: float) -> None:
        """A callback has just let nobody else run for `took` seconds."""
        name, task = _who(handle)
        if self._demoting and task is not None:
            self._demote(task)
        count = _count(self._overruns, name, took)
        if self._overrun_handler is None and count > 1:
            return
        where = (self._sampler.found() if self._sampler is not None else "") or _waits_at(task)
        if self._overrun_handler is not None:
            from hwloop.stats import Overrun

            self._tell(self._overrun_handler, Overrun(name, took, count, where, task))
        else:
            at = f", {where}" if where else ""
            logger.warning("%s let nothing else run for %.1f ms%s (reported once)", name, took * 1e3, at)

    def _tell(self, handler: Callable[[Any, Any], object], report: DeadlineMiss | Overrun) -> None:
        try:
            handler(self, report)
        except Exception as error:
            self.call_exception_handler({"message": f"{handler!r} failed", "exception": error})


def _as_handler(handler: Any) -> Any:
    if handler is not None and (not callable(handler) or inspect.iscoroutinefunction(handler)):
        raise TypeError(f"a handler must be a plain function or None, not {handler!r}")
    return handler


def _count(table: dict[str, Occurrences], name: str, seconds: float) -> int:
    """Count one more under a name; returns how many there are."""
    from hwloop.stats import Occurrences

    if name not in table and len(table) >= MOST_NAMES:
        name = "others"
    old = table.get(name, Occurrences(0, 0.0, 0.0))
    table[name] = Occurrences(old.count + 1, old.total + seconds, max(old.worst, seconds))
    return old.count + 1


def _who(handle: Any) -> tuple[str, asyncio.Task[Any] | None]:
    """The name of what a handle runs, and the task if it is one."""
    callback = handle._callback
    source = getattr(handle, "_source", None)
    if source is not None:
        return getattr(source, "name", None) or repr(source), None
    if callback is None:
        return "a callback that has cancelled itself", None
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        task = _sleeper(handle)
    if task is None:
        return getattr(callback, "__qualname__", None) or repr(callback), None
    name = task.get_name()
    if _NAME_BY_DEFAULT.fullmatch(name):
        name = getattr(task.get_coro(), "__qualname__", name)
    return name, task


def _sleeper(handle: Any) -> asyncio.Task[Any] | None:
    """The task that waits for the future that a callback is given: how `asyncio.sleep` ends."""
    future = handle._args[0] if handle._args else None
    if asyncio.isfuture(future):
        for done, _ in getattr(future, "_callbacks", None) or ():
            task = getattr(done, "__self__", None)
            if isinstance(task, asyncio.Task):
                return task
    return None


def _waits_at(task: asyncio.Task[Any] | None) -> str:
    """The line at which a task is suspended."""
    from hwloop.sampling import place

    awaited: Any = None if task is None or task.done() else task.get_coro()
    frame = None
    while (inner := getattr(awaited, "cr_frame", None)) is not None:
        frame, awaited = inner, awaited.cr_await
    return "" if frame is None else f"now waiting at {place(frame)}"
