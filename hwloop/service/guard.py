"""The program's side of the guardian: which outputs are open, and that the loops that drive them are alive.

A process that is killed, or that hangs, sets nothing any more. The kernel releases its lines, and each keeps or loses
its level as the chip's driver pleases: a relay may stay closed for good. So before an output with a safe level is
driven, its process reports at what level it is to be left, and somebody else can see to it (docs/guard.md):

- a guardian, `hwloop guard -- program`, to which every process of the program connects by itself: through the
  descriptor in HWLOOP_GUARD_FD, or through the guardian's own. Either is taken for the guardian's socket only if it
  has the device and inode that HWLOOP_GUARD_SOCKET names; a number alone may be anybody's.
- `hwloop guard --after FILE`, by the records in and beside the file that HWLOOP_GUARD_FILE names.

A report never fails the program: what can't be reported is logged, and the program goes on as it would without.
A forked child has neither connection nor record of its parent's; it gets its own if it opens outputs of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import os
import socket
import stat
import threading
import weakref
from collections.abc import Mapping

from hwloop.core import registry as running
from hwloop.core.clock import REAL
from hwloop.core.event_loop import EventLoop
from hwloop.lines import Level
from hwloop.requests import OutputRequest
from hwloop.service.guard_records import Charge, Owner, Record, State

logger: logging.Logger = logging.getLogger("hwloop.service.guard")

CHANNEL, SOCKET = "HWLOOP_GUARD_FD", "HWLOOP_GUARD_SOCKET"
"""Environment variables: the guardian's socket as an inherited descriptor; and PID:DEVICE:INODE, which is the guardian
and what its socket must be."""
RECORD, STALL = "HWLOOP_GUARD_FILE", "HWLOOP_GUARD_STALL"
"""Environment variables: the file for what comes after; seconds without a sign of life."""
BEATS_PER_STALL = 3


class Reporter:
    """Reports which outputs of this process are open. One per process; see `reporter()`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.RLock()
        self._owner = Owner.of(os.getpid()) or Owner(os.getpid(), 0, "")
        self._record = Record(path, self._owner) if (path := environment.get(RECORD, "")) else None
        self._environment = environment
        self._link: socket.socket | None = None
        self._looked_for_guardian = False
        self._interval = _seconds(environment.get(STALL, "")) / BEATS_PER_STALL
        self._keys = itertools.count(1)
        self._charges: dict[int, Charge] = {}
        self._threads: dict[int, set[int]] = {}  # those that have opened or driven an output, by its key
        self._beats: dict[int, _Beat] = {}  # by thread
        self._record_failed = False

    @property
    def guarded(self) -> bool:
        """Whether a guardian listens, as far as is known."""
        return self._link is not None

    def opened(self, request: OutputRequest, safe: Level, board: str) -> int:
        """An output is about to be opened. Returns the key under which it is reported."""
        charge = Charge(request.line, safe, request.drive, request.active_low, request.chip, board)
        with self._lock:
            if not self._looked_for_guardian:
                self._looked_for_guardian = True
                self._link = _connected(self._environment)
            key = next(self._keys)
            self._charges[key] = charge
            self._threads[key] = {threading.get_ident()}
            running.follow(self)
            self._changed()
            self._watch(asyncio._get_running_loop())
            return key

    def driven(self, key: int) -> None:
        """An output is driven here: the loop that does it is one to watch."""
        thread = threading.get_ident()
        if thread not in self._threads.get(key, (thread,)) and (loop := asyncio._get_running_loop()) is not None:
            with self._lock:
                self._threads[key].add(thread)
                self._watch(loop)

    def closed(self, key: int) -> None:
        """It was closed, and left as it should be. Harmless where it is not this process's."""
        with self._lock:
            if self._charges.pop(key, None) is None:
                return
            del self._threads[key]
            for thread in [thread for thread in self._beats if not self._has_outputs(thread)]:
                self._beats.pop(thread).end()
            self._changed()

    # Which loops to watch: called by `hwloop.core.registry` in the loop's thread.

    def loop_started(self, loop: EventLoop) -> None:
        with self._lock:
            if self._has_outputs(threading.get_ident()):
                self._watch(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        with self._lock:
            for beat in [beat for beat in self._beats.values() if beat.loop() is loop]:
                self.forget(beat)

    def forget(self, ended: _Beat) -> None:
        """Watch a loop no longer: it has ended, and gives no sign of life any more."""
        with self._lock:
            for thread in [thread for thread, beat in self._beats.items() if beat is ended]:
                self._beats.pop(thread).end()
                self.send()

    def _has_outputs(self, thread: int) -> bool:
        return any(thread in threads for threads in self._threads.values())

    def _watch(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Have a loop of this thread show that it is alive. One in virtual time can't: its hours are no time here."""
        if loop is None or not self._interval or self._link is None or getattr(loop, "clock", REAL) is not REAL:
            return
        thread = threading.get_ident()
        before = self._beats.get(thread)
        if before is None or before.loop() is not loop:
            if before is not None:  # a thread runs one loop at a time
                before.end()
            self._beats[thread] = beat = _Beat(self, loop, self._interval)
            beat.begin(loop)

    # What is said.

    def _changed(self) -> None:
        self.send()
        if self._record is None:
            return
        try:
            self._record.write(tuple(self._charges.values()))
            self._record_failed = False
        except OSError as error:
            if not self._record_failed:
                self._record_failed = True
                logger.error(
                    "%s can't be written (%s): if this process is killed, 'hwloop guard --after' will not find its "
                    "outputs there (reported once)",
                    self._environment[RECORD],
                    error.strerror or error,
                )

    def send(self) -> None:
        """Send the whole state. What does not get through now is in the next message."""
        with self._lock:
            if self._link is None:
                return
            loops = {beat.name: beat.count for beat in self._beats.values()}
            message = State(self._owner, tuple(self._charges.values()), loops).encode()
            try:
                self._link.send(message, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # it is stopped, or far behind
            except OSError as error:
                self._link.close()
                self._link = None
                for beat in self._beats.values():
                    beat.end()
                self._beats.clear()
                logger.error(
                    "the guardian has ended (%s): the program goes on, and nobody sees to its outputs if it is killed "
                    "or hangs",
                    error.strerror or error,
                )

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what is the parent's, without a word to anybody."""
        if self._link is not None:
            self._link.close()


class _Beat:
    """The sign of life of one loop: a timer as ordinary as any, so that it stands for the loop doing ordinary work."""

    _numbers = itertools.count(1)

    def __init__(self, reporter: Reporter, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self.name: str = str(next(self._numbers))
        self.count: int = 0
        self.loop: weakref.ref[asyncio.AbstractEventLoop] = weakref.ref(loop)
        self._reporter = reporter
        self._interval = interval
        self._timer: weakref.ref[asyncio.TimerHandle] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        token = _Token()
        if not isinstance(loop, EventLoop):
            # asyncio does not say when a loop stops. When it is closed it drops its timers, and their arguments.
            weakref.finalize(token, self._reporter.forget, self).atexit = False
        self._beat(token)

    def end(self) -> None:
        self._interval = 0.0
        if self._timer is not None and (timer := self._timer()) is not None:
            timer.cancel()

    def _beat(self, token: _Token) -> None:
        loop = self.loop()
        if loop is not None and self._interval:
            self.count += 1
            # A context of its own, so that it has the urgency of ordinary work.
            timer = loop.call_later(self._interval, self._beat, token, context=contextvars.Context())
            self._timer = weakref.ref(timer)
            self._reporter.send()


class _Token:
    """Something that can be seen to vanish."""


def reporter() -> Reporter | None:
    """This process's reporter; None where nobody asks for reports."""
    global _reporter
    if _reporter is None and (CHANNEL in os.environ or SOCKET in os.environ or RECORD in os.environ):
        with _making:  # threads may open their first outputs at the same time
            if _reporter is None:
                _reporter = Reporter(os.environ)
    return _reporter


_reporter: Reporter | None = None
_making = threading.Lock()


def _forked() -> None:
    global _making, _reporter
    _making = threading.Lock()  # a thread that the child does not have may have had it
    if _reporter is not None:
        _reporter.leave_to_parent()
        _reporter = None


os.register_at_fork(after_in_child=_forked)


def _connected(environment: Mapping[str, str]) -> socket.socket | None:
    """A connection of this process's own to the guardian; None where there is none, which is logged."""
    number, expected = environment.get(CHANNEL, ""), environment.get(SOCKET, "")
    if not number and not expected:
        return None
    try:
        guardian, device, inode = map(int, expected.split(":"))
        places = [f"/proc/self/fd/{int(number)}", f"/proc/{guardian}/fd/{int(number)}"]
    except ValueError:
        reason = f"{CHANNEL}={number!r} and {SOCKET}={expected!r} don't say where it is"
    else:
        reason = f"descriptor {number} is not its socket here, and process {guardian} has it no more"
        for place in places:
            try:
                found = os.stat(place)
                if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != (device, inode):
                    continue
                if place == places[0]:
                    os.set_inheritable(int(number), False)
                return _connect(place)
            except OSError as error:
                if place == places[0] and os.path.exists(places[1]):
                    continue
                reason = f"{(error.strerror or str(error)).lower()}; it may have ended"
    logger.error(
        "the guardian can't be reached (%s): nobody sees to the outputs of process %d if it is killed or hangs",
        reason,
        os.getpid(),
    )
    return None


def _connect(place: str) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        link.connect(place)
    except BaseException:
        link.close()
        raise
    return link


def _seconds(text: str) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        logger.error("%s=%r is no number of seconds: no loop is watched", STALL, text)
        return 0.0
    return seconds
