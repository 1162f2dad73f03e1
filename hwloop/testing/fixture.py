"""`BoardFixture`: a simulated board with a program and a test on it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from firmware_sim.board import SimBoard
from firmware_sim.trace import Trace, compare_with_golden
from hwloop import board as boards
from hwloop.core.clock import REAL, Clock
from hwloop.testing.conditions import Conditions, NotReached, describe
from hwloop.testing.loops import ObservedLoop, RealLoop, VirtualLoop, ending_in_program
from hwloop.testing.program import ProgramRun, raise_as_it_was
from hwloop.testing.settings import LIMIT, Settings
from hwloop.trace_events import TraceEvent
from hwloop.virtual.clock import DeadlockError, VirtualClock
from hwloop.virtual.wait_report import waits_of

T = TypeVar("T")

KEPT_EVENTS = 200_000
"""The newest events of a trace that are kept."""

DEFAULT_BOARD = Path(boards.__file__).parents[1] / "firmware_sim" / "default_board.toml"


class BoardFixture(SimBoard):
    """The fixture `board`: a simulated board, in virtual time, on which a test runs a program.

    Attributes:
        trace: all that has happened on its lines, ports and buses; the newest 200,000 events.
    """

    def __init__(self, settings: Settings) -> None:
        self.trace: Trace = Trace(KEPT_EVENTS)
        self._on_event: Callable[[], object] | None = None
        self._settings = settings
        self._main: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._failed: ProgramRun | None = None
        self._conditions: Conditions | None = None
        clock: Clock = VirtualClock() if settings.clock == "virtual" else REAL
        wiring = DEFAULT_BOARD if settings.board == "sim" else settings.board
        super().__init__(wiring, clock=clock, tracer=self, lines="")
        self._runner = asyncio.Runner(loop_factory=self._make_loop)
        self._context = contextvars.copy_context()

    def record(self, event: TraceEvent) -> None:
        """Add an event to the trace, and check the conditions that the test waits for."""
        self.trace.record(event)
        if self._on_event is not None:
            self._on_event()

    @property
    def loop(self) -> ObservedLoop:
        """The loop of the test."""
        loop: Any = self._runner.get_loop()
        return loop  # type: ignore[no-any-return]

    @property
    def seed(self) -> int | None:
        """The seed that decides the order of tasks; None for first come, first served, and in real time."""
        return getattr(self.loop, "seed", None)

    @property
    def outputs(self) -> dict[int, int]:
        """The level of each line that the program drives, or has driven and left that way."""
        lines = (self.chip.line(number) for number in range(len(self.chip)))
        return {line.number: line.level for line in lines if line.output is not None}

    def run(self, main: Coroutine[Any, Any, Any]) -> ProgramRun:
        """Run a program beside the test: `async with board.run(station.main()): ...`.

        The program begins with the block. If it fails, the test fails with its exception, at once. At the end of the
        block the program is cancelled, as Ctrl-C would cancel it, and awaited with every task that it has started.
        """
        if not asyncio.iscoroutine(main):
            raise TypeError(f"board.run() takes a coroutine, as in board.run(station.main()), not {main!r}")
        return ProgramRun(main, self.loop, self._interrupt)

    async def until(self, condition: Callable[[], T], *, within: float = 60.0) -> T:
        """Wait until `condition()` is true, and return its value.

        The condition is checked after each event on the board and each step of the program. If it is still false after
        `within` seconds, an AssertionError shows the condition, its values, and where each task waits.
        """
        __tracebackhide__ = True
        assert self._conditions is not None
        try:
            return await self._conditions.wait(condition, within)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None  # the frames of the wait explain nothing
        except NotReached:
            pass
        clock = "virtual" if isinstance(self.clock, VirtualClock) else "real"
        others = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        waits = "".join(f"\n{line}" for line in waits_of(others)) if others else "\n  no other task is left"
        raise AssertionError(f"{describe(condition, within, clock)}{waits}")

    def assert_golden(self, path: str | os.PathLike[str]) -> None:
        """Fail unless the trace is as in the golden file `path`, relative to the test.

        `pytest --hwloop-update-golden` writes the file instead.
        """
        __tracebackhide__ = True
        try:
            compare_with_golden(self.trace, self._settings.directory / path, self._settings.update_golden)
        except AssertionError as error:
            error.add_note("pytest --hwloop-update-golden writes it")
            raise

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a part of the test on its loop: a fixture, or the test function."""
        __tracebackhide__ = True
        loop = self.loop  # made by the first call
        try:
            return self._runner.run(self._guarded(coroutine), context=self._context)
        except DeadlockError as error:
            waiting = self._main
            if waiting is None:
                raise
            self._interrupt(None, error)
        finally:
            self._main = None
        ended: T = loop.run_until_complete(waiting)
        return ended  # so that the error has the line at which the test waits

    async def _guarded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True
        self._main = asyncio.current_task()
        try:
            return await coroutine
        except asyncio.CancelledError as cancelled:
            failure = self._failure
            if failure is None:
                raise
            if isinstance(failure, DeadlockError):
                failure.__traceback__ = ending_in_program(cancelled.__traceback__)
        if self._failed is not None:
            self._failed.note_reported(failure)
        raise_as_it_was(failure)

    def _interrupt(self, run: ProgramRun | None, failure: BaseException) -> None:
        """End the test: a program has failed, or nothing can ever end the wait of the test."""
        self._failure, self._failed = failure, run
        if self._main is not None:
            self._main.cancel()

    def _make_loop(self) -> ObservedLoop:
        loop: ObservedLoop
        if isinstance(self.clock, VirtualClock):
            limit = LIMIT if self._settings.limit is None else self._settings.limit
            loop = VirtualLoop(self._settings.seed, limit=limit, clock=self.clock)
        else:
            loop = RealLoop()
        self._conditions = Conditions(loop, threading.get_ident(), threading.get_ident)
        loop.dispatcher.after_step = self._conditions.on_step
        self._on_event = self._conditions.on_event
        return loop

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the board in this block, for everything that looks for one; close it at the end."""
        with self, boards.using(self):
            self._context = contextvars.copy_context()
            try:
                yield
            finally:
                self._runner.close()
