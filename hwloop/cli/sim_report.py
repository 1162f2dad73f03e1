"""The report of a scenario that was played with a program, for people and for CI, and its files."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from firmware_sim import SimBoard
from firmware_sim.trace import Trace, write
from hwloop.cli import Failure
from hwloop.cli.sim_command import repeating
from hwloop.cli.sim_program import GRACE, ProgramRun
from hwloop.cli.term import Terminal
from hwloop.testing.scenario.junit import Case, write_cases
from hwloop.testing.scenario.report import WIDTH, failure_text, steps_text, waveform
from hwloop.testing.scenario.times import duration_text
from hwloop.virtual.clock import VirtualClock

_SHOWN = 200
"""Steps that a report lists at most."""


class Files:
    """The files of the options --vcd, --trace and --junit, whatever directory the program changes to."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        given = (arguments.vcd, arguments.trace)
        self._traces = [os.path.abspath(path) for path in given if path is not None]
        self._junit = None if arguments.junit is None else os.path.abspath(arguments.junit)

    def write(self, trace: Trace | None, case: Case, board: SimBoard) -> None:
        """Write them. Raises `Failure`."""
        try:
            for path in self._traces:
                write(trace or (), path, names=board.line_names)
            if self._junit is not None:
                write_cases([case.element()], self._junit)
        except OSError as error:
            raise Failure(
                f"{error.filename}: {(error.strerror or str(error)).lower()}; the results are lost"
            ) from error


class Report:
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
        self._width = WIDTH
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
        if run.left:
            return (
                f"the program has left threads running ({', '.join(run.left)}), which keep its process from ending; "
                "end them on SIGTERM, or make them daemon threads"
            )
        return f"the program did not end within {duration_text(GRACE)} of the signal" if run.forced else ""

    def show(self) -> None:
        """Print it."""
        terminal = Terminal(sys.stdout)
        self._width = min(terminal.width or WIDTH, WIDTH)
        terminal.width = None  # a command that is cut can't be copied
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
            lines = failure_text(result, self._names, steps=_SHOWN, width=self._width).splitlines()
        elif not self.passed or not self._arguments.quiet:
            lines = list(steps_text(result, _SHOWN))
            if not self.passed:
                lines += ["", *waveform(result, self._names, self._width).splitlines()]
        if self._run.ended_ns is not None and not self._run.sent and not self._interrupted:
            at = duration_text(round((self._run.ended_ns - result.start_ns) / 1e9, 6))
            lines.append(f"  the program {'failed' if self._run.status else 'ended by itself'} at {at}")
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

    def case(self) -> Case:
        """Return it for JUnit XML."""
        arguments = self._arguments
        properties = {"seed": "none" if self._seed is None else str(self._seed), "board": self._run.board.label}
        properties["repeat"] = repeating(arguments, self._seed)
        report = "\n".join([*self._lines(), self._summary()])
        program = arguments.program or arguments.module
        return Case(self._run.scenario.title, program, self._seconds, self._problem, report, properties)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
