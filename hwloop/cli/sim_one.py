"""One scenario with one program: `hwloop sim` with one file, in this process."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

from firmware_sim import SimBoard, WiringError
from firmware_sim.trace import Trace, write
from hwloop import board as boards
from hwloop.cli import Ended, Failure, UsageError, process
from hwloop.cli.execution import Found, find_program, run_program
from hwloop.cli.run import make_hosting
from hwloop.cli.sim_command import repeating
from hwloop.cli.term import Terminal
from hwloop.core import registry
from hwloop.core.clock import REAL, Clock
from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.junit import Case, write_cases
from hwloop.testing.scenario.output import traced_output
from hwloop.testing.scenario.player import Player
from hwloop.testing.scenario.reading import load
from hwloop.testing.scenario.report import failure_text, steps_text, waveform
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.times import duration_text
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.condition import NEVER_NS
from hwloop.virtual.seeding import chosen_seed

GRACE = 10.0
"""Seconds within which the program must have ended after the scenario."""
_SHOWN = 200
"""Steps that a report lists at most."""


def play_one(arguments: argparse.Namespace) -> int:
    """Play the scenario of a command line, report, and return the exit status."""
    (path,) = arguments.scenario
    try:
        scenario = load(path)
    except ScenarioError as error:
        raise UsageError(str(error)) from error
    found = None if arguments.program is None else find_program(arguments.program, None, arguments.rest)
    is_real = arguments.realtime or (found is not None and found.is_script)
    seed = None if is_real else _seed(arguments, scenario)
    if is_real and (arguments.seed is not None or arguments.limit is not None):
        raise UsageError(f"{arguments.program}: a script runs in real time, in which --seed and --limit mean nothing")
    options = argparse.Namespace(
        clock="real" if is_real else "virtual", realtime=None, seed=seed, limit=arguments.limit, debug=arguments.debug
    )
    hosting = make_hosting(options)
    lifetime: contextlib.ExitStack = arguments.lifetime
    choice = _board_of(arguments.board, scenario)
    try:
        host = lifetime.enter_context(process.hosted(choice, clock=hosting.clock, binding=True))
        board = boards.current()
    except WiringError as error:
        raise UsageError(str(error)) from error
    if not isinstance(board, SimBoard):
        raise UsageError(f"--board {choice}: scenarios are played on the simulated board only; give a board file")
    run = _Run(scenario, board, host, hosting.clock)

    def find() -> Found:
        return find_program(None, arguments.module, arguments.rest) if found is None else found

    begun = time.monotonic()
    failure: BaseException | None = None
    try:
        with traced_output(board):
            is_script = found is not None and found.is_script
            run.status = run_program(find, host, hosting, lifetime, simulated=True, begin=lambda: run.begin(is_script))
    except (UsageError, Failure):
        raise
    except Ended as ended:
        if ended.number not in run.sent:
            failure = ended
    except Exception as error:  # of the hardware: the command shows it
        failure, run.status = error, 1
    run.end(plays_on=failure is None and run.status == 0)
    report = _Report(run, arguments, seed, time.monotonic() - begun, interrupted=isinstance(failure, Ended))
    report.show()
    report.write_files()
    if failure is not None:
        raise failure
    return 0 if report.passed else 1


def _seed(arguments: argparse.Namespace, scenario: Scenario) -> int | None:
    """Return the seed: the option's, the scenario's, or that of the environment."""
    try:
        return chosen_seed(scenario.seed if arguments.seed is None else arguments.seed)[0]
    except ValueError as error:
        raise UsageError(str(error)) from error


def _board_of(option: str | None, scenario: Scenario) -> str:
    """Return the board to open, by its name or path."""
    if option is not None:
        return option
    if scenario.board is not None:
        return scenario.board if scenario.board == "sim" else str(scenario.directory / scenario.board)
    if named := os.environ.get("HWLOOP_BOARD"):
        return named
    beside = scenario.directory / "board.toml"
    return str(beside) if beside.exists() else "sim"


class _Run:
    """A program beside a scenario.

    Attributes:
        player: plays the scenario.
        sent: the signals sent to the program, because the scenario has ended or wants them.
        forced: whether a signal had to be repeated, because the program did not end.
        status: its exit status.
        ended_ns: when it ended (the board's clock).
    """

    def __init__(self, scenario: Scenario, board: SimBoard, host: process.Process, clock: Clock) -> None:
        self.scenario = scenario
        self.board = board
        self.trace: Trace = Trace()
        self.sent: set[int] = set()
        self.forced: bool = False
        self.status: int = 0
        self.ended_ns: int | None = None
        board.tracer = self.trace
        try:
            self.player: Player = Player(board, scenario, program=self, on_end=self._on_end)
        except ScenarioError as error:
            raise UsageError(str(error)) from error
        self._host = host
        self._clock = clock
        self._over = threading.Event()
        self._runs = False

    def begin(self, is_script: bool) -> None:
        """Begin, just before the program does; in real time a program with a loop begins when its loop does."""
        self._runs = True
        if self._clock is not REAL or is_script:
            self.player.start()
        else:
            registry.follow(self)

    def loop_started(self, loop: Any) -> None:
        """Begin: called by `hwloop.core.registry`."""
        if threading.current_thread() is threading.main_thread():
            registry.unfollow(self)
            self.player.start()

    def loop_ended(self, loop: Any) -> None:
        """Do nothing: called by `hwloop.core.registry`."""

    def send_signal(self, number: int) -> None:
        """Send a signal to the program, and a second one if it has not ended after a while."""
        if not self._runs:
            return
        self.sent.add(number)
        # To the main thread, so that a blocking call in it ends.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        self.board.timeline.after(GRACE, lambda: self._force(number))

    def end(self, *, plays_on: bool) -> None:
        """Note that the program has ended, and play the rest of the scenario, or end it."""
        self._runs = False
        self.ended_ns = self.board.timeline.now_ns()
        registry.unfollow(self)
        if plays_on:
            self._play_on()
        self.player.stop()

    def _play_on(self) -> None:
        if self.player.result.start_ns == 0:  # it never had a loop
            self.player.start()
        if isinstance(self._clock, VirtualClock):
            self._clock.limit = None
            self._clock.block_loop(NEVER_NS, lambda: self.player.ended)
        elif not self.player.ended:
            self._over.wait()

    def _on_end(self) -> None:
        self._over.set()
        if self._runs and not self.sent:
            self.send_signal(signal.SIGTERM)

    def _force(self, number: int) -> None:
        if self._runs:
            self.forced = True
            signal.pthread_kill(threading.main_thread().ident or 0, number)


class _Report:
    """The report of a run, for people and for CI."""

    def __init__(
        self, run: _Run, arguments: argparse.Namespace, seed: int | None, seconds: float, *, interrupted: bool
    ) -> None:
        self._run = run
        self._result = run.player.result
        self._arguments = arguments
        self._seed = seed
        self._seconds = seconds
        self._names = run.board.line_names
        self._interrupted = interrupted
        self._problem = self._find_problem()

    @property
    def passed(self) -> bool:
        """Whether the scenario has passed, and the program has ended well."""
        return not self._problem

    def _find_problem(self) -> str:
        """Return what went wrong, in a line; empty if nothing did."""
        run, result = self._run, self._result
        if self._interrupted:
            return f"interrupted after {result.steps} of the scenario's steps"
        if run.status not in (0, 128 + signal.SIGTERM) or (run.status and not run.sent):
            return f"the program failed, with exit status {run.status}"
        if result.failure is not None:
            return f"{result.failure.step.describe()}: {result.failure.problem}"
        return f"the program did not end within {duration_text(GRACE)} of the signal" if run.forced else ""

    def show(self) -> None:
        """Print it."""
        terminal = Terminal(sys.stdout)
        scenario = self._run.scenario
        title = f"{scenario.title} ({scenario.file})" if scenario.name else scenario.file
        terminal.line(("scenario  ", "dim"), (title, "bold"))
        for line in self._lines():
            terminal.line((line, "red") if "FAILED" in line else line)
        verdict = ("passed", "green") if self.passed else ("FAILED", "red")
        terminal.line(verdict, f": {self._summary()}")  # type: ignore[arg-type]
        terminal.line(("to run it again: ", "dim"), repeating(self._arguments, self._seed))

    def _lines(self) -> list[str]:
        result = self._result
        lines = list[str]()
        if result.failure is not None and not self._interrupted:
            lines = failure_text(result, self._names, steps=_SHOWN).splitlines()
        elif not self.passed or not self._arguments.quiet:
            lines = list(steps_text(result, _SHOWN))
            if not self.passed:
                lines += ["", *waveform(result, self._names).splitlines()]
        if self._run.ended_ns is not None and not self._run.sent:
            at = duration_text(round((self._run.ended_ns - result.start_ns) / 1e9, 6))
            lines.append(f"  the program ended by itself at {at}")
        return lines

    def _summary(self) -> str:
        result = self._result
        played = duration_text(round((result.end_ns - result.start_ns) / 1e9, 6))
        if isinstance(self._run.board.clock, VirtualClock):
            played = f"{played} of virtual time in {self._seconds:.1f} s"
            seed = ", no seed" if self._seed is None else f", seed {self._seed}"
        else:
            seed = " of real time"
        counts = f"{_counted(result.steps, 'step')}, {_counted(result.expectations, 'expectation')}, {played}{seed}"
        return counts if self.passed else f"{self._problem}; {counts}"

    def write_files(self) -> None:
        """Write the files of the options --vcd, --trace and --junit. Raises `Failure`."""
        arguments = self._arguments
        try:
            for path in (arguments.vcd, arguments.trace):
                if path is not None:
                    write(self._run.trace, path, names=self._names)
            if arguments.junit is not None:
                write_cases([self._case().element()], arguments.junit)
        except OSError as error:
            raise Failure(
                f"{error.filename}: {(error.strerror or str(error)).lower()}; the results are lost"
            ) from error

    def _case(self) -> Case:
        arguments = self._arguments
        properties = {"seed": "none" if self._seed is None else str(self._seed), "board": self._run.board.label}
        properties["repeat"] = repeating(arguments, self._seed)
        report = "\n".join([*self._lines(), self._summary()])
        program = arguments.program or arguments.module
        return Case(self._run.scenario.title, program, self._seconds, self._problem, report, properties)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
