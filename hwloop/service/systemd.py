"""What a service tells systemd: that it is ready, what it is doing, that it is alive, and that it is stopping.

systemd kills and restarts a service whose watchdog is not fed in time. That is only worth something if what feeds it
is the loop that does the work: a thread that pings would outlive a loop that hangs. So the watchdog here is a timer of
the loop, as ordinary as any, and comes round only while ordinary work does.

Without NOTIFY_SOCKET in the environment, which systemd sets for services of `Type=notify`, nothing here does anything.
A socket that has gone never fails the program: what could not be said is counted, and reported the first time.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3): one datagram of lines `NAME=value` on a Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator

from hwloop.core.clock import REAL
from hwloop.core.naming import short_name

logger: logging.Logger = logging.getLogger("hwloop.service")

FEEDS_PER_TIMEOUT = 3
"""systemd asks for a feed in half of the timeout. A third leaves time for the loop to be late."""

LONGEST_STATUS = 1000
"""Characters. systemd drops a message of more than 4096 bytes, and a character has up to four."""

SHORTEST_INTERVAL = 0.001
"""Seconds between two feeds, at least: a loop that did nothing but feed would be no use."""

_undelivered = 0
_malformed: str | None = None
"""The WATCHDOG_USEC that was reported: each run and each block of a program looks at it anew."""


def notify(state: str | bytes) -> bool:
    """Tell systemd `state`: "READY=1", "RELOADING=1", "EXTEND_TIMEOUT_USEC=5000000", or several lines of such.

    Returns whether it was handed over: False where no service manager listens, and where it could not be reached.
    Never blocks and never raises for what the system does: a message that systemd has no room for is lost and counted.
    Raises `TypeError`, as a service and elsewhere, for what is no text.
    """
    if not isinstance(state, str | bytes):
        raise TypeError(f"notify() takes text such as 'READY=1', not {short_name(state)}")
    state = state.decode(errors="replace") if isinstance(state, bytes) else state
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            # A name that begins with @ is in the abstract namespace, unix(7), where it begins with a zero byte.
            channel.sendto(_sendable(state), "\0" + address[1:] if address.startswith("@") else address)
    except (OSError, ValueError) as error:
        _count_undelivered(address, state, error)
        return False
    return True


def status(text: str) -> bool:
    """Show `text` in `systemctl status`, as one line; a very long one is cut off."""
    line = " ".join(str(text).splitlines())
    return notify("STATUS=" + (line if len(line) <= LONGEST_STATUS else line[: LONGEST_STATUS - 1] + "…"))


def _sendable(state: str) -> bytes:
    """The bytes of a message: systemd drops one that is not UTF-8 or has a zero byte in it."""
    return state.replace("\0", " ").encode(errors="replace")


def undelivered() -> int:
    """How many messages systemd was not there to take."""
    return _undelivered


def watchdog_timeout() -> float:
    """Seconds within which systemd wants a sign of life from this process; 0 if it wants none.

    WATCHDOG_USEC holds it. WATCHDOG_PID names the process that is meant, so that a child which inherits the
    environment does not feed for its parent.
    """
    if not os.environ.get("NOTIFY_SOCKET") or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    global _malformed
    given = os.environ.get("WATCHDOG_USEC", "0")
    # systemd counts in 64 bits, of which the highest value is "never".
    if not (given.isascii() and given.isdecimal() and len(given) <= 20 and int(given) < 2**64):
        shown = given if len(given) <= 40 else given[:40] + "…"
        if given != _malformed:
            logger.warning(
                "WATCHDOG_USEC=%r is no number of microseconds; the watchdog is not fed (reported once)", shown
            )
        _malformed = given
        return 0.0
    return 0.0 if int(given) == 2**64 - 1 else int(given) / 1e6


class Watchdog:
    """Feeds systemd's watchdog from a loop, the running one by default, from `start()` to `stop()`.

    Where several loops of a process feed, each of them has to come round for one feed: the watchdog stands for all.

    Attributes:
        interval: seconds between two feeds; 0 if systemd wants none.
        loop: the loop whose life it shows.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        timeout = watchdog_timeout()
        self.interval: float = max(timeout / FEEDS_PER_TIMEOUT, SHORTEST_INTERVAL) if timeout else 0.0
        self.loop: asyncio.AbstractEventLoop = loop or asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Feed it now and every `interval` from now on. Harmless where systemd wants none."""
        if self.interval and self._timer is None:
            self._feed()

    def stop(self) -> None:
        """Feed it no more. Harmless when repeated."""
        _came_round.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed(self) -> None:
        _came_round[self] = os.getpid()
        if all(_came_round.values()):
            for each in tuple(_came_round):
                _came_round[each] = 0
            notify("WATCHDOG=1")
        # A context of its own: the urgency of whoever called start() would keep it going while ordinary work starves.
        self._timer = self.loop.call_later(self.interval, self._feed, context=contextvars.Context())


_came_round: dict[Watchdog, int] = {}
"""The watchdogs that feed, and whether each has come round since the last feed."""


class Attendant:
    """Speaks to systemd for the loops of a program that says nothing itself; a follower, see `hwloop.core.registry`.

    READY=1 goes out once, when the first of them has begun to wait for something: a program that fails at once was
    never ready. The watchdog is fed while a loop runs.
    """

    def __init__(self, only: asyncio.AbstractEventLoop | None = None) -> None:
        self._only = only
        self._ready = False
        self._running: dict[asyncio.AbstractEventLoop, tuple[asyncio.Handle, Watchdog]] = {}

    def loop_started(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._only in (None, loop) and os.environ.get("NOTIFY_SOCKET") and _is_service():
            watchdog = Watchdog(loop)
            # It comes after the first steps of the tasks that are there: the main one, as a rule.
            begin = loop.call_soon(self._begin, watchdog, asyncio.all_tasks(loop), context=contextvars.Context())
            self._running[loop] = begin, watchdog

    def loop_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop in self._running:
            begin, watchdog = self._running.pop(loop)
            begin.cancel()
            watchdog.stop()

    def _begin(self, watchdog: Watchdog, tasks: set[asyncio.Task[object]]) -> None:
        if tasks and all(task.done() for task in tasks):
            return
        self._ready = self._ready or notify("READY=1")
        if getattr(watchdog.loop, "clock", REAL) is REAL:  # virtual time is no sign of life
            watchdog.start()


def _is_service() -> bool:
    """Whether systemd means this process, as far as it has said, and not one whose child this is."""
    meant = os.environ.get("WATCHDOG_PID", "")
    workers = sys.modules.get("multiprocessing.process")
    return (not meant or meant == str(os.getpid())) and (workers is None or workers.parent_process() is None)


@contextlib.asynccontextmanager
async def supervised() -> AsyncIterator[None]:
    """READY=1 on the way in, the watchdog fed within, STOPPING=1 on the way out, whichever way that is.

        async with service.supervised():
            await work()

    What must be in place before the service counts as started belongs before the block. A program that takes its
    time to end says `notify("STOPPING=1")` itself as soon as it is asked to.
    """
    watchdog = Watchdog()
    notify("READY=1")
    watchdog.start()
    try:
        yield
    finally:
        notify("STOPPING=1")
        watchdog.stop()


def _count_undelivered(address: str, state: str, error: OSError | ValueError) -> None:
    global _undelivered
    _undelivered += 1
    if _undelivered == 1:
        said = state.partition("\n")[0][:40]
        reason = getattr(error, "strerror", None) or error
        # The environment and a status may hold what no stream can encode.
        where, said = (text.encode(errors="backslashreplace").decode() for text in (address, said))
        logger.warning("NOTIFY_SOCKET=%s: could not send %s: %s (reported once)", where, said, reason)
