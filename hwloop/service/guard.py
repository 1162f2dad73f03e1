"""The program's side of the guardian: reports the outputs that are open, and that the loops driving them are alive.

A process that is killed, or that hangs, sets no line any more. The kernel releases its lines, and the chip's driver
decides whether each keeps its level: a relay may stay closed for good. So before an output with a safe level is driven,
its process reports the level at which to leave it, and another process can do so (docs/guard.md):

- a guardian, `hwloop guard -- program`, to which every process of the program connects: through the descriptor in
  HWLOOP_GUARD_FD, or through the guardian's own. Either counts as the guardian's socket only if its device and inode
  are those in HWLOOP_GUARD_SOCKET; a number alone may be any descriptor.
- `hwloop guard --after FILE`, by the records in and beside the file in HWLOOP_GUARD_FILE.

A report never fails the program: a failed report is logged, and the program goes on. A forked child does not share its
parent's connection and record; it makes new ones if it opens outputs.
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
from hwloop.service.guard_records import GuardedOutput, Owner, Record, State

logger: logging.Logger = logging.getLogger("hwloop.service.guard")

CHANNEL, SOCKET = "HWLOOP_GUARD_FD", "HWLOOP_GUARD_SOCKET"
"""Environment variables: the guardian's socket as an inherited descriptor; and PID:DEVICE:INODE, the guardian's process
and the identity of its socket."""
RECORD, STALL = "HWLOOP_GUARD_FILE", "HWLOOP_GUARD_STALL"
"""Environment variables: the file for `--after`; the seconds without a sign of life until the process is killed."""
BEATS_PER_STALL = 3


class Reporter:
    """Reports the open outputs of this process. One per process; see `reporter()`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.RLock()
        self._owner = Owner.of(os.getpid()) or Owner(os.getpid(), 0, "")
        self._record = Record(path, self._owner) if (path := environment.get(RECORD, "")) else None
        self._environment = environment
        self._link: socket.socket | None = None
        self._looked_for_guardian = False
        self._interval = _seconds(environment.get(STALL, "")) / BEATS_PER_STALL
        self._keys = itertools.count(1)
        self._outputs: dict[int, GuardedOutput] = {}
        self._threads: dict[int, set[int]] = {}  # threads that opened or drove an output, by its key
        self._beats: dict[int, _Beat] = {}  # by thread
        self._record_failed = False

    @property
    def guarded(self) -> bool:
        """Whether a guardian listens, as far as is known."""
        return self._link is not None

    def opened(self, request: OutputRequest, safe: Level, board: str) -> int:
        """Report an output before it is opened, and return its key."""
        output = GuardedOutput(request.line, safe, request.drive, request.active_low, request.chip, board)
        with self._lock:
            if not self._looked_for_guardian:
                self._looked_for_guardian = True
                self._link = _connected(self._environment)
            key = next(self._keys)
            self._outputs[key] = output
            self._threads[key] = {threading.get_ident()}
            running.follow(self)
            self._changed()
            self._watch(asyncio._get_running_loop())
            return key

    def driven(self, key: int) -> None:
        """Watch the running loop: it drives this output."""
        thread = threading.get_ident()
        if thread not in self._threads.get(key, (thread,)) and (loop := asyncio._get_running_loop()) is not None:
            with self._lock:
                self._threads[key].add(thread)
                self._watch(loop)

    def closed(self, key: int) -> None:
        """Report that an output was closed at its safe level. Harmless for a key of another process."""
        with self._lock:
            if self._outputs.pop(key, None) is None:
                return
            del self._threads[key]
            for thread in [thread for thread in self._beats if not self._has_outputs(thread)]:
                self._beats.pop(thread).end()
            self._changed()

    # Called by `hwloop.core.registry` in the thread of the loop.

    def loop_started(self, loop: EventLoop) -> None:
        with self._lock:
            if self._has_outputs(threading.get_ident()):
                self._watch(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        with self._lock:
            for beat in [beat for beat in self._beats.values() if beat.loop() is loop]:
                self.forget(beat)

    def forget(self, ended: _Beat) -> None:
        """Stop watching a loop that has ended."""
        with self._lock:
            for thread in [thread for thread, beat in self._beats.items() if beat is ended]:
                self._beats.pop(thread).end()
                self.send()

    def _has_outputs(self, thread: int) -> bool:
        return any(thread in threads for threads in self._threads.values())

    def _watch(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Make a loop of this thread show that it is alive. A loop in virtual time can't: its hours take no time."""
        if loop is None or not self._interval or self._link is None or getattr(loop, "clock", REAL) is not REAL:
            return
        thread = threading.get_ident()
        before = self._beats.get(thread)
        if before is None or before.loop() is not loop:
            if before is not None:  # a thread runs only one loop at a time
                before.end()
            self._beats[thread] = beat = _Beat(self, loop, self._interval)
            beat.begin(loop)

    # Reporting.

    def _changed(self) -> None:
        self.send()
        if self._record is None:
            return
        try:
            self._record.write(tuple(self._outputs.values()))
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
        """Send the complete state. A message that is lost does no harm: the next one is complete too."""
        with self._lock:
            if self._link is None:
                return
            loops = {beat.name: beat.count for beat in self._beats.values()}
            message = State(self._owner, tuple(self._outputs.values()), loops).encode()
            try:
                self._link.send(message, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # the guardian is stopped, or far behind
            except OSError as error:
                self._link.close()
                self._link = None
                for beat in self._beats.values():
                    beat.end()
                self._beats.clear()
                logger.error(
                    "the guardian has ended (%s): the program goes on, but if it is killed or hangs, its outputs stay "
                    "as they are",
                    error.strerror or error,
                )

    def leave_to_parent(self) -> None:
        """Close the parent's connection in a forked child, without sending anything."""
        if self._link is not None:
            self._link.close()


class _Beat:
    """The sign of life of one loop: an ordinary timer, so that it proves that ordinary work runs."""

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
            # asyncio does not report when a loop stops. A closed loop drops its timers, and their arguments.
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
            # An empty context, so that the timer has the urgency of ordinary work.
            timer = loop.call_later(self._interval, self._beat, token, context=contextvars.Context())
            self._timer = weakref.ref(timer)
            self._reporter.send()


class _Token:
    """An object whose end can be observed."""


def reporter() -> Reporter | None:
    """Return the reporter of this process; None if no guardian asks for reports."""
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
    _making = threading.Lock()  # another thread of the parent may hold the old one
    if _reporter is not None:
        _reporter.leave_to_parent()
        _reporter = None


os.register_at_fork(after_in_child=_forked)


def _connected(environment: Mapping[str, str]) -> socket.socket | None:
    """Connect this process to the guardian; log a failure and return None."""
    number, expected = environment.get(CHANNEL, ""), environment.get(SOCKET, "")
    if not number and not expected:
        return None
    try:
        guardian, device, inode = map(int, expected.split(":"))
        places = [f"/proc/self/fd/{int(number)}", f"/proc/{guardian}/fd/{int(number)}"]
    except ValueError:
        reason = f"{CHANNEL}={number!r} and {SOCKET}={expected!r} don't name a socket"
    else:
        reason = f"descriptor {number} is not its socket here, and process {guardian} no longer has it"
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
        "the guardian can't be reached (%s): if process %d is killed or hangs, its outputs stay as they are",
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
        logger.error("%s=%r is not a number of seconds: no loop is watched", STALL, text)
        return 0.0
    return seconds
