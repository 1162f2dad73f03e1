"""One scenario with one program: `hwloop sim` with one file, in this process."""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import signal
import sys
import time

from firmware_sim import SimBoard, WiringError
from firmware_sim.trace import write
from hwloop import board as boards
from hwloop.cli import Ended, Failure, UsageError, process
from hwloop.cli.execution import Found, find_program, run_program
from hwloop.cli.run import make_hosting
from hwloop.cli.sim_command import repeating
from hwloop.cli.sim_program import GRACE, NoLoop, ProgramRun
from hwloop.cli.term import Terminal
from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.junit import Case, write_cases
from hwloop.testing.scenario.output import traced_output
from hwloop.testing.scenario.reading import load
from hwloop.testing.scenario.report import failure_text, steps_text, waveform
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.times import duration_text
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.seeding import chosen_seed

_LOOPS = {"anyio", "asyncio", "hwloop", "uvicorn"}
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
    run = ProgramRun(scenario, board, hosting.clock)

    def find() -> Found:
        return find_program(None, arguments.module, arguments.rest) if found is None else found

    begun = time.monotonic()
    failure: BaseException | None = None
    try:
        with traced_output(board):
            is_script = found is not None and (found.is_script or (is_real and not _is_async(found)))
            run.status = run_program(find, host, hosting, lifetime, simulated=True, begin=lambda: run.begin(is_script))
    except (UsageError, Failure):
        raise
    except NoLoop:
        run.status = 1
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


def _is_async(found: Found) -> bool:
    """Return whether the file of a program has coroutine functions, or imports a library that runs loops."""
    if found.program.tree is None or found.name is not None:
        return True
    for node in ast.walk(found.program.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if isinstance(node, ast.AsyncFunctionDef) or any(name.partition(".")[0] in _LOOPS for name in names):
            return True
    return False


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


class _Report:
    """The report of a run, for people and for CI."""

    def __init__(
        self, run: ProgramRun, arguments: argparse.Namespace, seed: int | None, seconds: float, *, interrupted: bool
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
            return f"interrupted after {_counted(result.steps, 'step')}"
        if run.problem:
            return run.problem
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
