"""The end of a run in stated steps, and within a bound: its grace.

A task may ignore its cancellation, or wait in its clean-up for a device that is gone. asyncio waits for it for ever,
and the service manager kills the process in the end, with outputs at any level. So a run may have a grace. It begins
when a signal asks the program to end, or when its main coroutine has ended. These are its steps:

1. main is cancelled and cleans up; when it has ended, the other tasks are, then asynchronous generators and the
   executor's threads (asyncio.Runner).
2. When the grace is over, each task that is left is named with the line at which it waits. All of them are cancelled
   once more, and get one last turn in which to do what needs no waiting.
3. The run ends without them. Outputs that are still open go to their safe levels, as at any end.

A timer of the loop measures the grace, in the loop's own time. A loop that a callback blocks has no timers; there a
signal of the system (SIGALRM) interrupts the callback, if it is Python code in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn

from hwloop.core.attribution import is_library, place, task_name, waits_at
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.errors import check_range
from hwloop.service import lifecycle

logger: logging.Logger = logging.getLogger("hwloop.service")

SERVICE_GRACE = 5.0
"""Seconds, for a program that `hwloop run` runs under a service manager. With the threads' 5 seconds this is the
TimeoutStopSec= of hwloop's unit."""

LONGEST_GRACE = 86400.0
BLOCKED_AFTER = 1.0
"""Seconds that a loop may be late with the end of a grace before a signal interrupts what blocks it."""

AGAIN_AFTER = 1.0
"""Seconds from one such signal to the next."""

AFTER_GRACE = 10.0
"""Seconds that the process may take after its grace: threads, exit functions, a slow machine."""

_LAST_TURNS = 10
_SHOWN = 10


class GraceOver(KeyboardInterrupt):
    """The grace is over, and the run ends without the tasks that are left."""


def chosen_grace(grace: float | None) -> float | None:
    """Return the grace in seconds: the given one, else HWLOOP_GRACE's, else that of a service, else None: no bound.

    Raises TypeError or ValueError unless it is a number from 0 to a day, or inf for no bound.
    """
    if grace is None:
        text = os.environ.get("HWLOOP_GRACE", "")
        if not text:
            return SERVICE_GRACE if os.environ.get("NOTIFY_SOCKET") else None
        try:
            return checked_grace(float(text))
        except ValueError:
            raise ValueError(
                f"HWLOOP_GRACE must be a number of seconds, from 0 to a day, or inf, not {text!r}"
            ) from None
    return checked_grace(grace)


def checked_grace(grace: float) -> float | None:
    """Return a grace in seconds; None for inf. Raises TypeError or ValueError for anything else than 0 to a day."""
    return None if grace == math.inf else check_range("grace in seconds", grace, 0, LONGEST_GRACE)


def stop_within(grace: float | None) -> float | None:
    """Return the seconds for which the service manager should wait for the end of a process with this grace."""
    return None if grace is None else min(grace + AFTER_GRACE, lifecycle.LONGEST_STEP)


class Grace:
    """The grace of one run. Harmless where a call is repeated.

    Parameters:
        seconds: how long it is; None for no bound.
        since: its beginning, for the report: "SIGTERM".
        give_up: called when it is over, on the loop or in a signal handler; raises something that ends the run.
        reports: whether to report what is left then.
    """

    def __init__(
        self, seconds: float | None, since: str, give_up: Callable[[], object], *, reports: bool = True
    ) -> None:
        self._seconds = seconds
        self._since = since
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handler_before: Any = None
        self._has_alarm = False
        self._is_reported = not reports

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin on a loop, in its thread. The grace of a signal goes on where main ends within it."""
        if self._seconds is not None and loop not in _bounded:
            _bounded.append(loop)
            self._loop = loop
            self._timer = loop.call_later(self._seconds, self._expire, loop, context=contextvars.Context())

    def begin_alarm(self) -> None:
        """Begin for a loop that may be blocked, or a program without one; in the main thread, in real time."""
        global _alarm
        if (
            self._seconds is None
            or self._has_alarm
            or _alarm
            or threading.current_thread() is not threading.main_thread()
        ):
            return
        self._has_alarm = _alarm = True
        self._handler_before = signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self._seconds + BLOCKED_AFTER, AGAIN_AFTER)

    def end(self) -> None:
        """The run has ended, or is none of ours any more."""
        global _alarm
        if self._timer is not None:
            self._timer.cancel()
        if self._loop in _bounded:
            _bounded.remove(self._loop)
            self._loop = None
        if self._has_alarm:
            self._has_alarm = _alarm = False
            if signal.getsignal(signal.SIGALRM) == self._on_alarm:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, self._handler_before)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        tasks = [task for task in left if not _waits_for_executor(task)]
        if named := _names(map(_named, tasks)) or _names(_executor_threads(loop)):
            self._report(named)
        for task in tasks:
            task.cancel()
        self._last_turn(loop, _LAST_TURNS)

    def _last_turn(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        if turns:
            loop.call_soon(self._last_turn, loop, turns - 1, context=contextvars.Context())
            return
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is reported already
            _abandoned.append(task)
        self._give_up()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._has_alarm:
            with DeferredSignals():  # a further signal would interrupt the report
                self._report(_blocked_at(frame))
            self._give_up()

    def _report(self, left: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            logger.error(
                "the program has not ended within %g s after %s: %s; it ends without them: outputs go to "
                "their safe levels; a program that needs longer has a longer grace (--grace, HWLOOP_GRACE)",
                self._seconds, self._since, left,
            )  # fmt: skip


_abandoned: list[asyncio.Task[Any]] = []
"""The tasks that were left. They are never freed: Python would run their `finally` blocks then, which may block."""

_bounded: list[asyncio.AbstractEventLoop | None] = []
"""The loops on which a grace has begun."""

_alarm = False
"""Whether a grace uses SIGALRM: there is one timer for the process."""


@contextlib.contextmanager
def bounded(
    loop: asyncio.AbstractEventLoop | None, seconds: float | None, *, real_time: bool = True, reports: bool = True
) -> Iterator[None]:
    """Bound the end of a run whose main coroutine has ended: what this block waits for on `loop`.

    When the grace is over, that is reported, and the block is left.
    """

    def give_up() -> NoReturn:
        raise GraceOver

    grace = Grace(seconds, "its main coroutine ended", give_up, reports=reports)
    if loop is None or loop.is_closed() or loop.is_running():
        yield
        return
    try:
        grace.begin(loop)
        if real_time:
            grace.begin_alarm()
        try:
            yield
        finally:
            grace.end()  # the alarm may come just now
    except GraceOver:
        grace.end()


class Signals:
    """SIGINT and SIGTERM end a run in order: the first one cancels its main coroutine, and begins its grace.

    A second one forces the end. Signals that the program handles or ignores are left alone, and so are those of a run
    outside of the main thread. A context manager.

    Attributes:
        received: the first signal; 0 for none.
        forced: whether nothing that is left is waited for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, main: object, seconds: float, *, real_time: bool) -> None:
        self.received: int = 0
        self.forced: bool = False
        self._loop = loop
        self._main = main
        self._seconds = seconds
        self._real_time = real_time
        self._grace: Grace | None = None
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._replaced[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._grace is not None:
                self._grace.end()  # the alarm may come just now
        finally:
            while self._replaced:
                number, handler = self._replaced.popitem()
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self._force()
        self.received = number
        self._grace = Grace(self._seconds, signal.Signals(number).name, self._force)
        if self._real_time:
            self._grace.begin_alarm()
        self._loop.call_soon_threadsafe(self._cancel, self._grace)

    def _cancel(self, grace: Grace) -> None:
        lifecycle.stopping(within=stop_within(self._seconds))
        grace.begin(self._loop)
        for task in asyncio.all_tasks(self._loop):
            if task.get_coro() is self._main:
                task.cancel()

    def _force(self) -> NoReturn:
        self.forced = True
        if self._grace is not None:
            self._grace.end()
        raise GraceOver


def _named(task: asyncio.Task[Any]) -> str:
    """Return the name of a task, and the line at which it waits."""
    return f"task {task_name(task)} {waits_at(task).removeprefix('now ')}".rstrip()


def _names(named: Iterable[str]) -> str:
    shown = sorted(named)
    if len(shown) > _SHOWN:
        shown[_SHOWN:] = [f"{len(shown) - _SHOWN} others"]
    return ", ".join(shown)


def _waits_for_executor(task: asyncio.Task[Any]) -> bool:
    """Return whether a task is asyncio's end of the executor. Cancelled, it would block the loop (Python 3.11)."""
    return getattr(task.get_coro(), "cr_code", None) is asyncio.BaseEventLoop.shutdown_default_executor.__code__


def _executor_threads(loop: Any) -> list[str]:
    """Return the names of the executor's threads that run, and the line at which each of them is."""
    running = sys._current_frames()
    threads = getattr(getattr(loop, "_default_executor", None), "_threads", ())
    return [f"thread {each.name}{_place(running.get(each.ident))}" for each in tuple(threads) if each.is_alive()]


def _blocked_at(frame: FrameType | None) -> str:
    return f"the loop is blocked{_place(frame)}"


def _place(frame: FrameType | None) -> str:
    """Return the innermost line of the program in a stack, as " at pump.py:12 in measure"."""
    own = frame
    while own is not None and is_library(own):
        own = own.f_back
    found = own or frame
    return "" if found is None else f" at {place(found)}"
