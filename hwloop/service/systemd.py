"""The service and its manager: it is ready, it gives a sign of life for the watchdog, and it is stopping.

systemd kills and restarts a service that does not feed its watchdog in time. That helps only if the loop that does the
work feeds it: a thread would go on feeding for a loop that hangs. So the watchdog here is an ordinary timer of the
loop, which runs only while ordinary work runs. It also heeds what the program calls critical
(`hwloop.service.critical`).

The environment variables are those of sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.clock import REAL
from hwloop.service import lifecycle
from hwloop.service.critical import shortest_bound, stalled
from hwloop.service.messages import notify

if TYPE_CHECKING:
    from hwloop.service.status_line import StatusLine

logger: logging.Logger = logging.getLogger("hwloop.service")

FEEDS_PER_TIMEOUT = 3
"""systemd recommends half of the timeout. A third leaves time for the loop to be late."""

SHORTEST_INTERVAL = 0.001
"""Seconds between two feeds, at least, so that feeding does not use all of the loop's time."""

_malformed: str | None = None
"""The value of WATCHDOG_USEC that was reported as malformed; each run reads the variable again."""


def watchdog_timeout() -> float:
    """Return the seconds within which systemd expects a sign of life from this process; 0 if it expects none.

    WATCHDOG_USEC holds the timeout. WATCHDOG_PID names the process, so that a child that inherits the environment does
    not feed for its parent.
    """
    if not os.environ.get("NOTIFY_SOCKET") or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    global _malformed
    given = os.environ.get("WATCHDOG_USEC", "0")
    # systemd counts in 64 bits; the highest value means "never".
    if not (given.isascii() and given.isdecimal() and len(given) <= 20 and int(given) < 2**64):
        shown = given if len(given) <= 40 else given[:40] + "…"
        if given != _malformed:
            logger.warning(
                "WATCHDOG_USEC=%r is not a number of microseconds; the watchdog is not fed (reported once)", shown
            )
        _malformed = given
        return 0.0
    return 0.0 if int(given) == 2**64 - 1 else int(given) / 1e6


class Watchdog:
    """Feeds systemd's watchdog from a loop, the running one by default, from `start()` to `stop()`.

    Where several loops of a process feed, systemd receives a feed only after each of them has run its timer.

    Parameters:
        loop: the loop that must be alive.

    Attributes:
        interval: seconds between two feeds; 0 if systemd expects none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        timeout = watchdog_timeout()
        self.interval: float = max(timeout / FEEDS_PER_TIMEOUT, SHORTEST_INTERVAL) if timeout else 0.0
        self.loop: asyncio.AbstractEventLoop = loop or asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Feed the watchdog now and every `interval`. Harmless if systemd expects nothing."""
        if self.interval and self._timer is None:
            self._feed()

    def stop(self) -> None:
        """Stop feeding the watchdog. Harmless when repeated."""
        _fed_since.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed(self) -> None:
        if stalled(self.loop):
            _fed_since[self] = 0
        else:
            _fed_since[self] = os.getpid()
        if all(_fed_since.values()):
            for each in tuple(_fed_since):
                _fed_since[each] = 0
            notify("WATCHDOG=1")
        # An empty context: the urgency of the caller of start() would keep the timer going while ordinary work starves.
        # Looking twice within a bound, the watchdog notices a pause that is half as long again, or sooner.
        interval = shortest_bound(self.loop, otherwise=2 * self.interval) / 2
        self._timer = self.loop.call_later(interval, self._feed, context=contextvars.Context())


_fed_since: dict[Watchdog, int] = {}
"""The watchdogs that feed, and whether the timer of each has run since the last feed."""


class LoopNotifier:
    """Notifies systemd for the loops of a program that does not do so; a follower, see `hwloop.core.registry`.

    It sends READY=1 once, when nothing is ready to run on the first of them: each task waits for something. Sources
    that main or the tasks of a group open before their first wait are open then, and a program that fails at once was
    never ready. It feeds the watchdog while a loop runs.

    Parameters:
        only: the loop to notify for; by default every loop.
    """

    def __init__(self, only: asyncio.AbstractEventLoop | None = None) -> None:
        self._only = only
        self._ready = False
        self._running: dict[asyncio.AbstractEventLoop, tuple[asyncio.Handle, Watchdog, StatusLine | None]] = {}

    def loop_started(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._only in (None, loop) and os.environ.get("NOTIFY_SOCKET") and _is_service():
            # Runs after the first steps of the existing tasks, usually the main one.
            begin = self._call_soon(loop, self._begin, asyncio.all_tasks(loop), ROUNDS)
            self._running[loop] = begin, Watchdog(loop), _status_line(loop)

    def loop_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop in self._running:
            begin, watchdog, line = self._running.pop(loop)
            begin.cancel()
            watchdog.stop()
            if line is not None:
                line.stop()

    def _begin(self, loop: Any, tasks: set[asyncio.Task[object]], rounds: int) -> None:
        if tasks and all(task.done() for task in tasks):
            return
        _, watchdog, line = self._running[loop]
        if rounds and loop.statistics().ready:
            # Behind it in the queue: tasks of a group, say, with sources of their own, or the failure of one.
            self._running[loop] = self._call_soon(loop, self._begin, tasks, rounds - 1), watchdog, line
            return
        self._ready = self._ready or lifecycle.is_held() or lifecycle.ready()
        if getattr(loop, "clock", REAL) is REAL:  # a loop in virtual time proves nothing
            watchdog.start()
            if line is not None:
                line.start()

    def _call_soon(self, loop: Any, callback: Callable[..., object], *args: object) -> asyncio.Handle:
        return loop.call_soon(callback, loop, *args, context=contextvars.Context())  # type: ignore[no-any-return]


ROUNDS = 100
"""Turns of the loop for which readiness waits, at most; some programs always have something to run."""


def _status_line(loop: Any) -> StatusLine | None:
    """Return the status line of a loop; None where nobody shows it, or the loop has no figures."""
    if not os.environ.get("NOTIFY_SOCKET") or not hasattr(loop, "call_tolerant"):
        return None
    from hwloop.service.status_line import StatusLine  # late: it loads the statistics

    return StatusLine(loop)


def _is_service() -> bool:
    """Return whether this process is the service, and not a child of it, as far as the environment says."""
    meant = os.environ.get("WATCHDOG_PID", "")
    workers = sys.modules.get("multiprocessing.process")
    return (not meant or meant == str(os.getpid())) and (workers is None or workers.parent_process() is None)


@contextlib.asynccontextmanager
async def supervised() -> AsyncIterator[None]:
    """Send READY=1 on entry, feed the watchdog inside, and send STOPPING=1 on exit, however the block ends.

        async with service.supervised():
            await work()

    Open everything that the service needs before the block. A program that takes long to end should call `stopping()`
    as soon as it is asked to stop.
    """
    loop = asyncio.get_running_loop()
    watchdog, line = Watchdog(loop), _status_line(loop)
    lifecycle.ready()
    watchdog.start()
    if line is not None:
        line.start()
    try:
        yield
    finally:
        lifecycle.stopping()
        watchdog.stop()
        if line is not None:
            line.stop()
