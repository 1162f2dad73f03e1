"""`BoardFixture`: a simulated board with a program and a test on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from firmware_sim.board import SimBoard
from firmware_sim.trace import Trace, compare_with_golden
from hwloop import board as boards
from hwloop.core.clock import REAL, Clock
from hwloop.lines import EdgeStream, OutputLine
from hwloop.requests import EdgeRequest, OutputRequest
from hwloop.testing.conditions import NotReached, describe
from hwloop.testing.leftovers import Leftovers
from hwloop.testing.libraries import led_to
from hwloop.testing.loops import ObservedLoop, rest
from hwloop.testing.places import place_of_caller
from hwloop.testing.program import ProgramRun
from hwloop.testing.script import ScriptRun
from hwloop.testing.session import Session
from hwloop.testing.settings import Settings
from hwloop.testing.threaded_program import ThreadedProgram
from hwloop.trace_events import TraceEvent
from hwloop.virtual.clock import VirtualClock

T = TypeVar("T")

KEPT_EVENTS = 200_000
"""The newest events of a trace that are kept."""

DEFAULT_BOARD = Path(boards.__file__).parents[1] / "firmware_sim" / "default_board.toml"


class BoardFixture(SimBoard):
    """The fixture `board`: a simulated board, in virtual time, on which a test runs a program.

    Attributes:
        trace: all that has happened on its lines, ports and buses; the newest 200,000 events.
        session: the loop of the test.
        began_ns: the time at which the test began, on the board's clock.
        leftovers: at the end of the test, the threads, descriptors, processes, tasks and claimed lines left behind.
    """

    def __init__(self, settings: Settings) -> None:
        self.trace: Trace = Trace(KEPT_EVENTS)
        self._settings = settings
        self._claims: dict[str, str] = {}
        self.leftovers: list[str] = []
        self._runs: list[ProgramRun] = []
        clock: Clock = VirtualClock() if settings.clock == "virtual" else REAL
        self.session: Session = Session(clock, settings.seed, settings.limit, self._is_disturbed)
        wiring = DEFAULT_BOARD if settings.board == "sim" else settings.board
        try:
            super().__init__(wiring, clock=clock, tracer=self, lines="")
        except BaseException:
            self.session.loop.close()
            raise
        self.began_ns: int = clock.now_ns()
        self._program = ThreadedProgram(self, self.session, settings.date)
        if not settings.has_loop:
            self.session.follow_threads(self._program.waits)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the board in this block, for everything that looks for one; close it at the end."""
        leftovers = Leftovers()
        with leftovers.noting(), self, boards.using(self), self.session.open():
            with (
                self._with_loop() if self._settings.has_loop else self._program.running(self._settings.kept, leftovers)
            ):
                yield
            self.leftovers += [*self._program.left, *self._left_on_board()]
        self.leftovers += leftovers.found()

    @contextlib.contextmanager
    def _with_loop(self) -> Iterator[None]:
        """Run a test whose program has a loop in this block."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(led_to(self, "hwloop"))
            if self._settings.clock == "virtual":
                stack.enter_context(self._program.time.installed_in(self._settings.project))
            yield

    def _is_disturbed(self) -> bool:
        return (
            any(injection.begun for injection in self.faults)
            or not all(port.plugged for port in self.ports.values())
            or any(bus.hung for bus in self.buses.values())
        )

    def _left_on_board(self) -> Iterator[str]:
        """Yield a line for each task that has not ended, and each line that is still claimed."""
        for task in self.loop.tasks.pending(None):
            yield f"task {task.get_name()!r}, created at {self.loop.tasks.place(task)}"
        for line in map(self.chip.line, range(len(self.chip))):
            if line.consumer is not None:
                place = self._claims.get(str(line.number)) or self._claims.get(line.name)
                yield f"line {line.number}, claimed by {line.consumer}" + (f" at {place}" if place else "")

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        self._claims.update((str(line), place_of_caller(2)) for line in request.lines)
        return super().open_edges(request)

    def open_output(self, request: OutputRequest) -> OutputLine:
        self._claims[str(request.line)] = place_of_caller(2)
        return super().open_output(request)

    def record(self, event: TraceEvent) -> None:
        """Add an event to the trace, and check the conditions that the test waits for."""
        self.trace.record(event)
        self.session.conditions.on_event()

    @property
    def loop(self) -> ObservedLoop:
        """The loop of the test."""
        return self.session.loop

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

        The program begins with the block, which goes on when the program first waits. If it fails, the test fails with
        its exception, at once. At the end of the block the program is cancelled, as Ctrl-C would cancel it, and awaited
        with every task that it has started.
        """
        if not asyncio.iscoroutine(main):
            raise TypeError(f"board.run() takes a coroutine, as in board.run(station.main()), not {main!r}")
        made = ProgramRun(main, self.loop, self.session.interrupt)
        self._runs.append(made)
        return made

    def script(self, path: str | os.PathLike[str]) -> ScriptRun:
        """Run a script beside a test without a loop: `with board.script("lamp.py"): ...`.

        The path is relative to the directory of the test, or else of the project. The script runs in a thread of its
        own, as `__main__`, on the board and in its time: `sleep` and `pause` wait on the clock of the board.
        """
        __tracebackhide__ = True
        beside = [directory / path for directory in (self._settings.directory, self._settings.project)]
        found = next((file for file in beside if file.is_file()), None)
        if found is None:
            tried = " or ".join(dict.fromkeys(map(str, beside)))
            raise FileNotFoundError(f"board.script({os.fspath(path)!r}): no such file: {tried}")
        if self._settings.has_loop:
            raise RuntimeError(
                "board.script() is for plain tests; write 'def' instead of 'async def', and board.advance()"
            )
        return self._program.script(found)

    def advance(self, seconds: float) -> None:
        """Let time pass, in a test without a loop: board, scripts and gpiozero's devices go on meanwhile."""
        __tracebackhide__ = True
        self._check_resting("advance()", "asyncio.sleep(seconds)")
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"time advances by 0 seconds or more, not {seconds!r}")
        self.session.call(self.session.pass_time(seconds))

    def advance_until(self, condition: Callable[[], T], *, within: float = 60.0) -> T:
        """Let time pass until `condition()` is true, and return its value; `until` for tests without a loop."""
        __tracebackhide__ = True
        self._check_resting("advance_until()", "board.until(condition, within=...)")
        return self.session.call(self.until(condition, within=within))

    def _check_resting(self, name: str, instead: str) -> None:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(f"board.{name} is for tests without a loop; in an async test: await {instead}")

    async def until(self, condition: Callable[[], T], *, within: float = 60.0) -> T:
        """Wait until `condition()` is true, and return its value.

        The condition is checked after each event on the board and each step of the program. If it is still false after
        `within` seconds, an AssertionError shows the condition, its values, and where each task waits.
        """
        __tracebackhide__ = True
        try:
            return await self.session.conditions.wait(condition, within)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None  # the frames of the wait explain nothing
        except NotReached:
            await rest(self.loop)  # what happens at this very moment is in time
            if value := condition():
                return value
        clock = "virtual" if isinstance(self.clock, VirtualClock) else "real"
        others = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        waits = self.session.waits(others)
        if not others and self._settings.has_loop:
            waits = "  no other task is left"
        raise AssertionError("\n".join(filter(None, [describe(condition, within, clock), waits])))

    def raise_pending(self) -> None:
        """Raise an exception that has ended a thread of the program since the test last let time pass.

        Raises RuntimeError for a program that was made and has not run.
        """
        self._program.raise_pending()
        for run in self._runs:
            run.check_begun()

    def assert_golden(self, path: str | os.PathLike[str]) -> None:
        """Fail unless the trace is as in the golden file `path`, relative to the test.

        `pytest --hwloop-update-golden` writes the file instead.
        """
        __tracebackhide__ = True
        file, how = self._settings.directory / path, "write the file with pytest --hwloop-update-golden"
        compare_with_golden(self.trace, file, self._settings.update_golden, how=how)
