"""The recorder: takes the events of a board, in any thread, and passes them to a file or a ring without ever blocking.

Events come from the loop, from bus threads, from the thread of a simulated board with its lock held, and even from a
signal handler that has interrupted another event. So there is no lock to wait for. Whoever finds the store free writes
all events that wait; whoever finds it in use leaves its event to the other.
"""

from __future__ import annotations

import collections
import logging
import os
import platform
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Protocol

from hwloop.board_interface import Board
from hwloop.core.clock import REAL
from hwloop.recording.format import Ended, Entry, Event, Header, Signalled
from hwloop.trace_events import BothTracers, TraceEvent, Tracer

logger: logging.Logger = logging.getLogger("hwloop")

_ARGUMENTS_MAX = 4000
"""Characters in the arguments of a program that a header keeps."""


class Store(Protocol):
    """A place where entries are kept: a file or a ring. One caller at a time."""

    path: str

    def begin(self, header: Header) -> None:
        """Begin the recording of a run."""

    def write(self, event: Event) -> None:
        """Keep an event. Must not block. Raises an exception for one that can't be kept."""

    def close(self) -> None:
        """Write what waits, and close the store."""

    def abandon(self) -> None:
        """Leave the store to the parent, in a forked child."""


class Recorder:
    """Records the events of the board in use.

    Parameters:
        store: where they are kept, `RecordingFile` or `Ring`.
        program: the path of the program, for the header.
        arguments: its arguments.
        seed, limit: those of a run in virtual time.
    """

    def __init__(
        self,
        store: Store,
        *,
        program: str = "",
        arguments: Sequence[str] = (),
        seed: int | None = None,
        limit: float | None = None,
    ) -> None:
        self.store = store
        self.status: str = ""
        """How the program has ended, for the end of the recording: "0", an exit status, or "SIGTERM"."""
        self.events: int = 0
        """Events recorded so far."""
        self.failures: int = 0
        """Events that could not be recorded, because the store rejected them."""
        self._program, self._seed, self._limit = program, seed, limit
        self._arguments = list(arguments) if sum(map(len, arguments)) <= _ARGUMENTS_MAX else []
        self._board: Board | None = None
        self._before: Tracer | None = None
        self._ours: Tracer | None = None
        self._closed = False
        self._waiting: collections.deque[Entry] = collections.deque()
        self._writing = threading.Lock()
        _recorders.add(self)

    @property
    def attached(self) -> bool:
        """Whether there has been a board."""
        return self._board is not None

    def attach(self, board: Board) -> None:
        """Record the events of a board from now on, beside a tracer that it may have already.

        A recording has one board: when another one comes into use, a warning is logged, and its events are missing.
        """
        if self._closed or self._board is board:
            return
        if self._board is not None:
            logger.warning("%s: recorded is %s, and not %s too", self.store.path, self._board.label, board.label)
            return
        self._board = board
        self._put(self._header(board, board.clock.now_ns()))
        self._before = board.tracer
        self._ours = board.tracer = self if self._before is None else BothTracers(self._before, self)

    def detach(self) -> None:
        """Record nothing more of the board. Harmless when repeated."""
        if self._board is not None and self._ours is not None and self._board.tracer is self._ours:
            self._board.tracer = self._before
        self._ours = None

    def record(self, event: TraceEvent) -> None:
        """Record an event. Called from any thread; never blocks or raises."""
        if not self._closed:
            self._put(event)

    def signalled(self, number: int) -> None:
        """Record that the program has received a signal that ends it."""
        if not self._closed:
            self._put(Signalled(self._now_ns(), number))

    def close(self) -> None:
        """End the recording. Harmless when repeated."""
        if self._closed:
            return
        now_ns = self._now_ns()
        self.detach()
        if self._board is None:
            self._put(self._header(None, now_ns))
        self._put(Ended(now_ns, self.status))
        self._closed = True
        with self._writing:  # another thread may be writing its event
            self.store.close()

    def abandon(self) -> None:
        """Record nothing more, in a forked child: the store belongs to its parent."""
        self._closed = True
        self._waiting.clear()
        self.store.abandon()

    def _now_ns(self) -> int:
        return time.monotonic_ns() if self._board is None else self._board.clock.now_ns()

    def _header(self, board: Board | None, now_ns: int) -> Header:
        return Header(
            board="" if board is None else board.label,
            simulated=board is not None and board.simulated,
            virtual=board is not None and board.clock is not REAL,
            start_ns=now_ns,
            started_at_ns=time.time_ns(),
            program=self._program,
            arguments=self._arguments,
            seed=self._seed,
            limit=self._limit,
            process=os.getpid(),
            hwloop=sys.modules["hwloop"].__version__,
            python=platform.python_version(),
            state={} if board is None else board.snapshot(),
        )

    def _put(self, entry: Entry) -> None:
        """Write an entry, and those that came meanwhile."""
        waiting, writing = self._waiting, self._writing
        waiting.append(entry)
        while waiting and writing.acquire(blocking=False):
            try:
                while waiting:
                    self._write(waiting.popleft())
            finally:
                writing.release()

    def _write(self, entry: Entry) -> None:
        try:
            if isinstance(entry, Header):
                self.store.begin(entry)
            else:
                self.store.write(entry)
                self.events += not isinstance(entry, Signalled | Ended)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                logger.exception("%s: an event could not be recorded: %r", self.store.path, entry)


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _abandon_all() -> None:
    for recorder in tuple(_recorders):
        recorder.abandon()


os.register_at_fork(after_in_child=_abandon_all)
