"""Reports of callbacks that ran late or for too long: counted by name, logged once, and handed to those who ask.

A program that is late now and then should say so without a debugger or debug mode. Both reports are free until they
happen: a missed deadline is noticed when its handle is picked, and a callback that runs for long is always the last of
its slice, so one comparison at the end of each slice finds it, with its time right to within a slice.

Names are those that a person would look for (`hwloop.core.attribution`), so the tables stay as small as the program,
however many tasks it starts. Reporting calls code of the program: names, handlers, handlers of its logging. Whatever
that raises, but for SystemExit and KeyboardInterrupt, the loop goes on. What a report needs is imported when a program
asks for it, never while the loop dispatches.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.attribution import culprit, task_name, task_of, waits_at
from hwloop.core.counters import Histogram, Tally
from hwloop.core.naming import named_place, short_name

if TYPE_CHECKING:
    from hwloop.core.gc_schedule import Collector
    from hwloop.core.realtime import Applied
    from hwloop.core.run_queue import Bands
    from hwloop.core.stack_sampler import Sampler
    from hwloop.core.statistics import DeadlineMiss, LoopStatistics, Overrun

LONGEST_SHOWN = 500
"""Characters of one value in a report, at most; of a longer one a short name is shown."""

_SHOWN_BY_ASYNCIO = ("message", "exception", "source_traceback", "handle_traceback")

logger = logging.getLogger("hwloop")


class Reporting:
    """A mixin of `hwloop.EventLoop`."""

    _ready: collections.deque[Any]
    _events: collections.deque[Any]
    _bands: Bands
    _scheduled: list[Any]
    _watchers: dict[int, Any]
    _debug: bool
    _slow: float
    _measuring: bool
    _slice: float
    _turn: float
    _now: Callable[[], float]
    _lateness: list[float]
    _latency: list[float]
    _collector: Collector | None
    _realtime: Applied | None

    _miss_type: type[DeadlineMiss]
    _overrun_type: type[Overrun]

    if TYPE_CHECKING:

        def sources(self) -> list[Any]: ...
        def _demote(self, task: asyncio.Task[Any]) -> None: ...

    def _init_reporting(self) -> None:
        self._deadline_misses, self._overruns, self._task_times = Tally(), Tally(), Tally()
        self._deadline_handler: Callable[[Any, DeadlineMiss], object] | None = None
        self._overrun_handler: Callable[[Any, Overrun], object] | None = None
        self._demoting = False
        self._sampler: Sampler | None = None
        self._histograms = Histogram(), Histogram()  # of lateness and latency

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
        if handler is not None:  # imported here, not when the first deadline is missed
            from hwloop.core.statistics import DeadlineMiss

            self._miss_type = DeadlineMiss

    def watch_slices(
        self,
        limit: float | None = 0.05,
        *,
        locate: bool = False,
        demote: bool = False,
        handler: Callable[[Any, Overrun], object] | None = None,
    ) -> None:
        """Report callbacks and steps of tasks that block the loop for `limit` seconds or more; None ends it.

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
        if handler is not None:
            from hwloop.core.statistics import Overrun

            self._overrun_type = Overrun
        self._demoting = demote
        self._stop_sampling()
        self._slow = float("inf") if limit is None else limit
        if locate and limit is not None:
            from hwloop.core.stack_sampler import Sampler

            self._sampler = Sampler(self, limit / 2)

    def measure_tasks(self, on: bool = True) -> None:
        """Count in `statistics().tasks` how long each task runs. It costs about a microsecond a callback."""
        self._measuring = on

    def _measured(self, handle: Any, took: float) -> None:
        """A callback ran for `took` seconds, while `measure_tasks` is on."""
        try:
            if (task := task_of(handle)) is not None:
                self._task_times.count(task_name(task), took)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "the time of a task could not be counted", "exception": error})

    def _stop_sampling(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def statistics(self) -> LoopStatistics:
        """The loop's counters as plain data."""
        from hwloop.core.statistics import LoopStatistics, SourceStatistics

        kept = [self._kept_by(source) for source in self.sources()]
        lateness, latency = self._file_waits()
        return LoopStatistics(
            ready=len(self._ready) + len(self._events) + len(self._bands) + len(self._bands.idle),
            timers=sum(not timer._cancelled for timer in self._scheduled),
            descriptors=len(self._watchers),
            sources=tuple(one for one in kept if isinstance(one, SourceStatistics)),
            deadline_misses=self._deadline_misses.occurrences(),
            overruns=self._overruns.occurrences(),
            tasks=self._task_times.occurrences(),
            lateness=lateness.summary(),
            latency=latency.summary(),
            gc=None if self._collector is None else self._collector.statistics(),
            realtime=None if self._realtime is None else self._realtime.granted,
        )

    def _kept_by(self, source: Any) -> Any:
        """The statistics that a source keeps; None if it keeps none, or fails to give them."""
        try:
            return source.statistics() if hasattr(source, "statistics") else None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            message = f"the statistics of {short_name(source)} can't be read"
            self.call_exception_handler({"message": message, "exception": error})
            return None

    def _file_waits(self) -> tuple[Histogram, Histogram]:
        """Put what the core has noted since the last time into the histograms of lateness and latency."""
        for histogram, noted in zip(self._histograms, (self._lateness, self._latency), strict=True):
            histogram.record_all(noted)
            noted.clear()
        return self._histograms

    def _deadline_missed(self, handle: Any, lateness: float) -> None:
        """A callback runs `lateness` seconds after its deadline."""
        try:
            name, shown, task = culprit(handle)
            count = self._deadline_misses.count(name, lateness)
            if self._deadline_handler is not None:
                miss = self._miss_type(name, lateness, count, task, getattr(handle, "_source", None), shown)
                self._hand_over(self._deadline_handler, miss)
            elif count == 1:
                logger.warning("%s ran %.3f ms after its deadline (reported once)", shown, lateness * 1e3)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "a missed deadline could not be reported", "exception": error})

    def _overran(self, handle: Any, took: float) -> None:
        """A callback has just blocked the loop for `took` seconds."""
        try:
            name, shown, task = culprit(handle)
            if self._demoting and task is not None:
                self._demote(task)
            count = self._overruns.count(name, took)
            if self._overrun_handler is None and count > 1:
                return
            where = (self._sampler.found() if self._sampler is not None else "") or waits_at(task)
            if self._overrun_handler is not None:
                self._hand_over(self._overrun_handler, self._overrun_type(name, took, count, where, task, shown))
                return
            at = f", {where}" if where else ""
            details = self._details(handle) if self._debug else ""
            logger.warning("%s blocked the loop for %.1f ms%s (reported once)%s", shown, took * 1e3, at, details)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "a slow callback could not be reported", "exception": error})

    def _details(self, handle: Any) -> str:
        """For debug mode: where a callback was while it blocked the loop, and where it was scheduled."""
        stack = self._sampler.stack() if self._sampler is not None else ""
        scheduled = "".join(traceback.format_list(handle._source_traceback or ()))
        return (f"\nIt ran (most recent call last):\n{stack}".rstrip() if stack else "") + (
            f"\nIt was scheduled at (most recent call last):\n{scheduled}".rstrip() if scheduled else ""
        )

    def _hand_over(self, handler: Callable[[Any, Any], object], report: DeadlineMiss | Overrun) -> None:
        try:
            handler(self, report)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"{named_place(handler)} failed", "exception": error})

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio's, but whatever a handler of the program or of its logging raises, the loop goes on."""
        try:
            super().call_exception_handler(context)  # type: ignore[misc]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            with contextlib.suppress(Exception):
                traceback.print_exception(error, file=sys.__stderr__)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio's, with a short name for whatever can't be shown or is too long."""
        shown = {key: value if key in _SHOWN_BY_ASYNCIO else _Shown(value) for key, value in context.items()}
        super().default_exception_handler(shown)  # type: ignore[misc]


class _Shown:
    """A value whose repr neither raises nor fills the log."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        try:
            shown = repr(self._value)
            if len(shown) <= LONGEST_SHOWN:
                return shown
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            pass
        return short_name(self._value)


def _as_handler(handler: Any) -> Any:
    if handler is not None and (not callable(handler) or inspect.iscoroutinefunction(handler)):
        raise TypeError(f"a handler must be a plain function or None, not {short_name(handler)}")
    return handler
