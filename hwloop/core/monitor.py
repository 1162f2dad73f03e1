"""The monitor: counts missed deadlines, slow callbacks, lateness and latency, and reports them.

A program that is late now and then should say so without a debugger or debug mode. Both reports cost nothing until
something happens: a missed deadline is noticed when its handle is picked, and a callback that runs for long is always
the last of its slice, so one comparison at the end of each slice finds it, with its time accurate to within a slice.

Names are those that a person would look for (`hwloop.core.attribution`), so the tables stay as small as the program,
however many tasks it starts. Reporting calls user code: names, handlers, handlers of its logging. Whatever that raises,
except SystemExit and KeyboardInterrupt, the loop goes on. The classes of reports are imported when a program asks for
reports, never while the loop dispatches.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.attribution import Culprit, culprit, task_name, task_of, waits_at
from hwloop.core.counters import Histogram, Tally
from hwloop.core.handles import Watcher
from hwloop.core.naming import named_place, short_name

if TYPE_CHECKING:
    import asyncio

    from hwloop.core.stack_sampler import Sampler
    from hwloop.core.statistics import DeadlineMiss, Overrun

FILED_TOGETHER = 500
"""Latenesses and latencies are added to their histograms together once there are so many, which costs a tenth of adding
them one by one."""

FILED_BEFORE_WAIT = 400
"""Their number when the loop has nothing else to do, so that this seldom delays a callback."""

DeadlineHandler = Callable[[Any, "DeadlineMiss"], object]
OverrunHandler = Callable[[Any, "Overrun"], object]

logger: logging.Logger = logging.getLogger("hwloop")


class Monitor:
    """Counts and reports for the callbacks of one loop.

    Attributes:
        lateness: seconds from a timer's time until it ran, for timers that are not in the histogram yet.
        latency: seconds from the poll that found a descriptor ready until its callback ran, likewise.
        slow_after: a callback that overruns its slice by this many seconds is slow.
        is_measuring: whether to measure the time of each callback.
        deadline_misses, overruns, task_times: tallies by name.
        sampler: looks where the loop is while a callback runs; None unless the program asks for it.
    """

    def __init__(self) -> None:
        self.lateness: list[float] = []
        self.latency: list[float] = []
        self.slow_after: float = float("inf")
        self.is_measuring = False
        self.deadline_misses: Tally = Tally()
        self.overruns: Tally = Tally()
        self.task_times: Tally = Tally()
        self.sampler: Sampler | None = None
        self._histograms: tuple[Histogram, Histogram] | None = None  # of lateness and latency, once there are any
        self._demotes = False
        self._deadline_handler: DeadlineHandler | None = None
        self._overrun_handler: OverrunHandler | None = None
        self._miss_type: type[DeadlineMiss]
        self._overrun_type: type[Overrun]

    # Settings.

    def set_deadline_handler(self, handler: DeadlineHandler | None) -> None:
        """See `EventLoop.set_deadline_handler`."""
        self._deadline_handler = _checked_handler(handler)
        if handler is not None:
            from hwloop.core.statistics import DeadlineMiss

            self._miss_type = DeadlineMiss

    def watch_slices(self, limit: float | None, demote: bool, handler: OverrunHandler | None) -> None:
        """See `EventLoop.watch_slices`."""
        if limit is not None and not limit > 0:
            raise ValueError(f"a limit is in seconds, more than 0, not {limit!r}")
        self._overrun_handler = _checked_handler(handler)
        if handler is not None:
            from hwloop.core.statistics import Overrun

            self._overrun_type = Overrun
        self._demotes = demote
        self.slow_after = float("inf") if limit is None else limit

    def sample_with(self, sampler: Sampler | None) -> None:
        """Replace the sampler; the previous one is stopped."""
        if self.sampler is not None:
            self.sampler.stop()
        self.sampler = sampler

    # Counting and reporting.

    def note_found(self, handle: Any, now: float) -> None:
        """Note that the handle of a due timer or a ready descriptor runs, and how long it has waited for that."""
        if type(handle) is Watcher:
            watcher = handle  # one whose type compiled code knows
            watcher._scheduled = False  # a poll may find the descriptor ready again
            if not watcher._cancelled:
                self.latency.append(now - watcher._when)
        else:
            handle._scheduled = False
            if not handle._cancelled:
                self.lateness.append(now - handle._when)

    def histograms(self) -> tuple[Histogram, Histogram]:
        """Return the histograms of lateness and latency."""
        if self._histograms is None:
            self._histograms = Histogram(), Histogram()
        for histogram, noted in zip(self._histograms, (self.lateness, self.latency), strict=True):
            histogram.record_all(noted)
            noted.clear()
        return self._histograms

    def deadline_missed(self, handle: Any, lateness: float) -> None:
        """Count and report a callback that runs `lateness` seconds after its deadline."""
        try:
            found = culprit(handle)
            count = self.deadline_misses.count(found.name, lateness)
            if self._deadline_handler is not None:
                source = getattr(handle, "source", None)
                miss = self._miss_type(found.name, lateness, count, found.task, source, found.shown)
                _call_handler(self._deadline_handler, handle._loop, miss)
            elif count == 1:
                logger.warning("%s ran %.3f ms after its deadline (reported once)", found.shown, lateness * 1e3)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            _report(handle, "a missed deadline could not be reported", error)

    def overran(self, handle: Any, took: float) -> asyncio.Task[Any] | None:
        """Count and report a callback that has just blocked the loop for `took` seconds.

        Return its task if it is to be demoted.
        """
        found = culprit(handle)
        self._report_overrun(handle, took, found)
        return found.task if self._demotes else None

    def measured(self, handle: Any, took: float) -> None:
        """Add the time of a callback to its task, if it belongs to one."""
        try:
            if (task := task_of(handle)) is not None:
                self.task_times.count(task_name(task), took)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            _report(handle, "the time of a task could not be counted", error)

    def _report_overrun(self, handle: Any, took: float, found: Culprit) -> None:
        name, shown, task = found.name, found.shown, found.task
        try:
            count = self.overruns.count(name, took)
            if self._overrun_handler is None and count > 1:
                return
            where = (self.sampler.found() if self.sampler is not None else "") or waits_at(task)
            if self._overrun_handler is not None:
                overrun = self._overrun_type(name, took, count, where, task, shown)
                _call_handler(self._overrun_handler, handle._loop, overrun)
                return
            at = f", {where}" if where else ""
            details = self._details(handle) if handle._loop.get_debug() else ""
            logger.warning("%s blocked the loop for %.1f ms%s (reported once)%s", shown, took * 1e3, at, details)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            _report(handle, "a slow callback could not be reported", error)

    def _details(self, handle: Any) -> str:
        """Return for debug mode where a callback was while it blocked the loop, and where it was scheduled."""
        stack = self.sampler.stack() if self.sampler is not None else ""
        scheduled = "".join(traceback.format_list(handle._source_traceback or ()))
        return (f"\nIt ran (most recent call last):\n{stack}".rstrip() if stack else "") + (
            f"\nIt was scheduled at (most recent call last):\n{scheduled}".rstrip() if scheduled else ""
        )


def _report(handle: Any, message: str, error: BaseException) -> None:
    handle._loop.call_exception_handler({"message": message, "exception": error})


def _call_handler(handler: Callable[[Any, Any], object], loop: Any, report: DeadlineMiss | Overrun) -> None:
    try:
        handler(loop, report)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        loop.call_exception_handler({"message": f"{named_place(handler)} failed", "exception": error})


def _checked_handler(handler: Any) -> Any:
    if handler is not None and (not callable(handler) or inspect.iscoroutinefunction(handler)):
        raise TypeError(f"a handler must be a plain function or None, not {short_name(handler)}")
    return handler
