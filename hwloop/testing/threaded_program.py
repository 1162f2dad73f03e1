"""The program of a plain test: a script, or functions that the test calls, with all threads that they start.

Its threads take turns on the clock of the board, which the thread of the test drives. gpiozero's devices are made with
gpiozero's own pin factory for lgpio, as on a Pi: their handlers run in lgpio's thread, which may sleep while the test
goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from firmware_sim import imports
from firmware_sim.board import SimBoard
from hwloop.testing.leftovers import JOIN_SECONDS, Leftovers
from hwloop.testing.libraries import led_to
from hwloop.testing.places import is_of_project
from hwloop.testing.program_time import ProgramTime, RealProcess, Surroundings
from hwloop.testing.script import ScriptRun, end_thread
from hwloop.testing.session import Session
from hwloop.testing.thread_report import HANDLERS, thread_waits
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.errors import DeadlockError
from hwloop.virtual.program_waits import RealWaits, VirtualWaits, Waits

_REAL_STEP = 0.002
"""Seconds between two looks at a condition that no event on the board and no step of the loop makes true."""


class ThreadedProgram:
    """The threads of the program of one test.

    Attributes:
        time: the time that the program finds.
        left: at the end, a line for each thread that it has left behind.
    """

    def __init__(self, board: SimBoard, session: Session, date: str | None) -> None:
        self._board = board
        self._session = session
        clock = board.clock
        self._waits: Waits = (
            VirtualWaits(
                clock,
                board.timeline.count_read,
                session.block_here,
                session.sleep_here,
                None if date is None else round(datetime.datetime.fromisoformat(date).timestamp() * 1e9),
            )
            if isinstance(clock, VirtualClock)
            else RealWaits()
        )
        self.time: ProgramTime = ProgramTime(self._waits, self._surroundings, "test it with clock='real'")
        self.left: list[str] = []
        self._failures: list[BaseException] = []
        self._driver = threading.get_ident()
        self._process = RealProcess(_pause)
        self._run: Callable[[], ScriptRun | None] = lambda: None

    @contextlib.contextmanager
    def running(self, kept: frozenset[str], leftovers: Leftovers) -> Iterator[None]:
        """Let the program find its time and its board in this block, and end its threads at the end."""
        hook = threading.excepthook
        threading.excepthook = functools.partial(self._on_failure, set(threading.enumerate()), hook)
        try:
            with self.time.installed(kept):
                try:
                    with led_to(self._board, "lgpio"):
                        try:
                            yield
                        finally:
                            self._end_handler()
                finally:
                    self._end_threads(leftovers)
        finally:
            threading.excepthook = hook

    def script(self, path: Path) -> ScriptRun:
        """Return a script, to run on the board. Raises RuntimeError while another one runs."""
        __tracebackhide__ = True
        if (run := self._run()) is not None and run.running:
            raise RuntimeError(
                f"{run.path} still runs, and a board has one script at a time: end its block before the next one "
                "begins, or give each a board of its own"
            )
        made = ScriptRun(path, self._waits, self)
        self._run = weakref.ref(made)  # one that nobody enters is reported when it is deleted
        return made

    def waits(self) -> list[str]:
        """Return a line for each thread, with the line of the program at which it waits."""
        handler = self._board.lgpio.calling_thread()
        return thread_waits([*self._waits.threads(), *([handler] if handler is not None else [])])

    def _surroundings(self) -> Surroundings:
        """Return the process in which the calling thread believes to be."""
        run = self._run()
        return self._process if run is None or threading.get_ident() == self._driver else run.process

    def _on_failure(self, before: set[threading.Thread], hook: Callable[[Any], object], failure: Any) -> None:
        """Fail the test, because an exception has ended a thread of the program."""
        error, thread = failure.exc_value, failure.thread
        if error is None or thread is None or thread in before:
            hook(failure)
            return
        if isinstance(error, SystemExit):
            return  # ends the thread and nothing else, as Python does it
        while (start := error.__traceback__) is not None and start.tb_next is not None:
            if is_of_project(start.tb_frame.f_code.co_filename):
                break
            error.__traceback__ = start.tb_next  # the libraries that call the program
        if thread.name == HANDLERS:
            error.add_note(
                "raised in the thread in which lgpio calls handlers: it has ended, and no handler runs any more"
            )
        else:
            error.add_note(f"raised in the thread {thread.name!r}, which it has ended")
        self._failures.append(error)
        self.interrupt(error)

    def raise_pending(self) -> None:
        """Raise an exception that has ended a thread, if the test has not raised it."""
        for failure in self._failures:
            if failure not in self._session.raised:
                raise failure

    def _end_handler(self) -> None:
        """End a handler that still sleeps."""
        if (thread := self._board.lgpio.calling_thread()) is not None:
            self.end_handlers(self._end_wait)
            self._ended(lambda: self._board.lgpio.calling_thread() is not thread)

    def _end_threads(self, leftovers: Leftovers) -> None:
        """Wait for the threads of the program for a moment, and end those that are left."""
        if not self._waits.threads() or self._ended(lambda: not self._waits.threads()):
            return
        left = self._waits.threads()
        self.left += map(leftovers.describe, left)
        for thread in left:
            self._end_wait(thread.ident or 0)
        self._ended(lambda: not self._waits.threads())

    def _ended(self, check: Callable[[], object]) -> bool:
        try:
            return self.run_until(check, JOIN_SECONDS)
        except DeadlockError:
            return False

    def _end_wait(self, ident: int) -> None:
        self._waits.interrupt(ident, end_thread)

    # The driver of a script.

    def run_until(self, check: Callable[[], object], within: float) -> bool:
        """Let time pass until `check()` is true. Return whether it is, after `within` seconds at most."""
        if self._waits.is_virtual:
            return self._session.run_until(check, within)
        until = time.monotonic() + within
        while not check():
            if time.monotonic() >= until:
                return False
            self._session.call(self._session.pass_time(_REAL_STEP))
        return True

    def interrupt(self, failure: BaseException) -> None:
        """End the test: the program has failed."""
        self._session.interrupt(None, failure)

    def end_handlers(self, end: Callable[[int], object]) -> None:
        """Let no handler begin any more, and call `end(thread)` for the thread in which one runs."""
        self._board.lgpio.cancel_callbacks()
        if (thread := self._board.lgpio.calling_thread()) is not None and thread.ident is not None:
            end(thread.ident)

    def close_devices(self) -> None:
        """Close the devices of the program, as gpiozero does at the end of a process, and free its lines."""
        imports.clean_gpiozero_up(self._board)
        self._board.lgpio.free_lines()


def _pause() -> None:
    raise RuntimeError("signal.pause() in a test would wait for ever; run the script with board.script()")
