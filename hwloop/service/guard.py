"""The program's side of the guardian: reports the outputs that are open, and that the loops driving them are alive.

A process that is killed, or that hangs, sets no line any more. The kernel releases its lines, and the chip's driver
decides whether each keeps its level: a relay may stay closed for good. So before an output with a safe level is driven,
its process reports the level at which to leave it, and another process can do so (docs/guard.md):

- a guardian, `hwloop guard -- program` or `hwloop guard --listen PATH`, to which every process of the program connects
  (`hwloop.service.guard_link`). It also holds the lines that outlive their program.
- `hwloop guard --after FILE`, by the records in and beside the file in HWLOOP_GUARD_FILE.

A report never fails the program: a failed report is logged, and the program goes on. A guardian that listens at a path
may be replaced: the loops that drive outputs look for the new one. A forked child does not share its parent's
connection and record; it makes new ones if it opens outputs.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Mapping

from hwloop.core import registry as running
from hwloop.core.clock import REAL
from hwloop.core.event_loop import EventLoop
from hwloop.lines import Level
from hwloop.output_reports import KeptLine
from hwloop.requests import OutputRequest
from hwloop.service.guard_link import (
    CHANNEL,
    PATIENCE,
    SOCKET,
    GuardianLink,
    UnreachableError,
    find_guardian,
    socket_path,
)
from hwloop.service.guard_records import GuardedOutput, Owner, Record, State

logger: logging.Logger = logging.getLogger("hwloop.service.guard")

RECORD, STALL = "HWLOOP_GUARD_FILE", "HWLOOP_GUARD_STALL"
"""Environment variables: the file for `--after`; the seconds without a sign of life until the process is killed."""
BEATS_PER_STALL = 3
_STALL_BY_PATH = "10"
"""Seconds, for a guardian that listens at a path, and sets no environment: it is looked for this often."""


class Reporter:
    """Reports the open outputs of this process. One per process; see `reporter()`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.RLock()
        self._owner = Owner.of(os.getpid()) or Owner(os.getpid(), 0, "")
        self._record = Record(path, self._owner) if (path := environment.get(RECORD, "")) else None
        self._environment = environment
        self._link: GuardianLink | None = None
        self._looked_for_guardian = False
        self._path = socket_path(environment)
        stall = environment.get(STALL, _STALL_BY_PATH if self._path else "")
        self._interval = _seconds(stall) / BEATS_PER_STALL
        self._keys = itertools.count(1)
        self._serials = itertools.count(1)
        self._outputs: dict[int, GuardedOutput] = {}
        self._held: dict[int, int] = {}  # the descriptors of the lines that the guardian is to hold, by key
        self._threads: dict[int, set[int]] = {}  # threads that opened or drove an output, by its key
        self._beats: dict[int, _Beat] = {}  # by thread
        self._record_failed = self._lost = self._behind = False

    @property
    def guarded(self) -> bool:
        """Whether a guardian listens, as far as is known."""
        return self._link is not None

    def opened(self, request: OutputRequest, safe: Level | None, board: str, within: float | None) -> int:
        """Report an output before it is opened, and return its key."""
        output = GuardedOutput(request.line, safe, request.drive, request.active_low, request.chip, board, within)
        with self._lock:
            if not self._looked_for_guardian:
                self._looked_for_guardian = True
                self._connect()
            for key in [key for key, other in self._outputs.items() if other.left and other.place == output.place]:
                del self._outputs[key]
            key = next(self._keys)
            self._outputs[key] = output
            self._threads[key] = {threading.get_ident()}
            running.follow(self)
            self._changed()
            self._watch(asyncio._get_running_loop())
            return key

    def take(self, key: int) -> KeptLine | None:
        """Ask the guardian for the kept line of an output that was reported; return None if it holds none."""
        with self._lock:
            serial = next(self._serials)
            if not self._send(take=(self._place(key), serial), patience=PATIENCE):
                return None
            assert self._link is not None
            try:
                answer = self._link.answer(serial)
            except OSError as error:
                self._lose(error)
                return None
        if answer is None:
            logger.error("the guardian does not answer: a line that it holds can't be taken over")
            return None
        for fd in answer.descriptors[1:]:
            os.close(fd)
        if not answer.kept and not answer.descriptors:
            return None
        return KeptLine(answer.descriptors[0] if answer.descriptors else -1, answer.kept)

    def hand_over(self, key: int, fd: int) -> bool:
        """Let the guardian hold a line; return whether it does. `fd` is its descriptor, -1 for a simulated one."""
        with self._lock:
            self._held[key] = fd
            done = self._hand(key)
            if not done and self._link is not None:  # it has no room for the message: it holds nothing
                del self._held[key]
            self._write_record()
            return done

    def holds(self, key: int) -> bool:
        """Return whether a guardian holds the line, as far as is known."""
        return self._link is not None and key in self._held

    def left(self, key: int) -> bool:
        """Report that the program leaves an output to the guardian, as it is; return whether that holds it."""
        with self._lock:
            if self._link is None and self._path:
                self._connect()
            held = self._held.pop(key, None)
            self._threads.pop(key, None)
            self._outputs[key] = self._outputs[key]._replace(left=True)
            sent = self._send(patience=PATIENCE)
            self._end_beats()
            if not sent:
                del self._outputs[key]
                self._changed()
            return sent and held is not None

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
            self._held.pop(key, None)
            del self._threads[key]
            self._end_beats()
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

    def _end_beats(self) -> None:
        for thread in [thread for thread in self._beats if not self._has_outputs(thread)]:
            self._beats.pop(thread).end()

    def _has_outputs(self, thread: int) -> bool:
        return any(thread in threads for threads in self._threads.values())

    def _watch(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Make a loop of this thread show that it is alive. A loop in virtual time can't: its hours take no time."""
        if (
            loop is None
            or not self._interval
            or not (self._link or self._path)
            or getattr(loop, "clock", REAL) is not REAL
        ):
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
        self._write_record()

    def _write_record(self) -> None:
        if self._record is None:
            return
        recorded = tuple(output for key, output in self._outputs.items() if self._is_recorded(key, output))
        try:
            self._record.write(recorded)
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

    def _is_recorded(self, key: int, output: GuardedOutput) -> bool:
        """Return whether `hwloop guard --after` is to drive an output: not one that a guardian holds."""
        if self._link is not None and (self._path or key in self._held or output.left):
            return False
        return output.safe is not None

    def send(self) -> None:
        """Send the complete state. A message that is lost does no harm: the next one is complete too."""
        with self._lock:
            if self._link is not None or (self._path and self._connect()):
                self._send()

    def _connect(self) -> bool:
        """Connect to the guardian, which holds the kept lines from then on. Return whether that succeeded."""
        try:
            self._link = find_guardian(self._environment)
        except UnreachableError as error:
            if not self._lost:
                self._lost = True
                logger.error(
                    "the guardian can't be reached (%s): if process %d is killed or hangs, its outputs stay as they "
                    "are",
                    error,
                    os.getpid(),
                )
            return False
        if self._link is None:
            return False
        if self._lost:
            self._lost = False
            logger.warning("a guardian listens again: it guards the outputs of process %d", os.getpid())
        for key in tuple(self._held):
            if not self._hand(key):
                return False
        if self._looked_for_guardian:
            self._write_record()
        return True

    def _hand(self, key: int) -> bool:
        fd = self._held[key]
        return self._send(hand=self._place(key), descriptors=() if fd < 0 else (fd,), patience=PATIENCE)

    def _place(self, key: int) -> int:
        return list(self._outputs).index(key)

    def _send(
        self,
        *,
        take: tuple[int, int] | None = None,
        hand: int | None = None,
        descriptors: tuple[int, ...] = (),
        patience: float = 0.0,
    ) -> bool:
        """Send the complete state, and return whether the guardian has it."""
        if self._link is None:
            return False
        loops = {beat.name: beat.count for beat in self._beats.values()}
        message = State(self._owner, tuple(self._outputs.values()), loops, take, hand).encode()
        try:
            # Waiting once is enough: a guardian that is stopped must not hold up the end of the program for each line.
            self._behind = not self._link.send(message, descriptors, 0.0 if self._behind else patience)
            return not self._behind
        except OSError as error:
            self._lose(error)
            return False

    def _lose(self, error: OSError) -> None:
        assert self._link is not None
        self._link.close()
        self._link = None
        self._lost = True
        if not self._path:
            for beat in self._beats.values():
                beat.end()
            self._beats.clear()
        logger.error(
            "the guardian has ended (%s): the program goes on, but if it is killed or hangs, its outputs stay as they "
            "are%s",
            error.strerror or error,
            ", unless another guardian listens by then" if self._path else "",
        )
        self._write_record()

    def leave_to_parent(self) -> None:
        """Close the parent's connection in a forked child, without sending anything, and report nothing any more."""
        self._lock = threading.RLock()  # another thread of the parent may hold the old one
        for kept in (self._outputs, self._threads, self._held):
            kept.clear()
        link, self._link, self._path = self._link, None, ""
        if link is not None:
            link.close()


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


def _seconds(text: str) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        logger.error("%s=%r is not a number of seconds: no loop is watched", STALL, text)
        return 0.0
    return seconds
