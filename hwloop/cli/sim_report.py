"""The report of a scenario that was played with a program, for people and for CI, and its files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import traceback
from typing import NamedTuple

from firmware_sim import SimBoard
from firmware_sim.trace import Trace, write
from hwloop.cli import Failure, causes, say
from hwloop.cli.sim_command import repeating
from hwloop.cli.sim_program import GRACE, ProgramRun
from hwloop.cli.term import Terminal
from hwloop.testing.places import is_of_project
from hwloop.testing.report import write_artifacts
from hwloop.testing.scenario.junit import Case, write_cases
from hwloop.testing.scenario.report import WIDTH, failure_text, is_expectation, steps_text, waveform
from hwloop.testing.scenario.times import duration_text
from hwloop.testing.targets import Targets
from hwloop.virtual.clock import VirtualClock

_SHOWN = 200
"""Steps that a report lists at most."""


class Problem(NamedTuple):
    """A problem of a run; none if its text is empty."""

    text: str = ""
    """A line for the report."""
    kind: str = ""
    """The type of the program's exception, or what else went wrong."""
    place: str = ""
    """The line of the program or the scenario file where it happened, if it is known."""


class Files:
    """The files of --vcd, --trace, --junit and --artifacts, whatever directory the program changes to."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        given = (arguments.vcd, arguments.trace)
        self._traces = [os.path.abspath(path) for path in given if path is not None]
        self._junit = None if arguments.junit is None else os.path.abspath(arguments.junit)
        self._artifacts = None if arguments.artifacts is None else os.path.abspath(arguments.artifacts)
        self._scenario = os.path.splitext(os.path.basename(arguments.scenario[0]))[0]

    def write(self, trace: Trace | None, case: Case, board: SimBoard, *, failed: bool) -> None:
        """Write them, and those of --artifacts if the scenario has failed. Raises `Failure`."""
        if self._artifacts is not None and failed:
            for each in write_artifacts(trace or (), board.line_names, self._scenario, self._artifacts):
                say(f"artifact: {each}\n")
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
        return not self._problem.text

    def _find_problem(self) -> Problem:
        run, result = self._run, self._result
        if self._interrupted:
            return Problem(f"interrupted after {_counted(result.steps, 'step')}", "interrupted")
        if run.problem:
            return Problem(run.problem, "no event loop")
        if run.status not in (0, 128 + signal.SIGTERM) or (run.status and not run.sent):
            text = f"the program failed, with exit status {run.status}"
            if run.error is None:
                return Problem(text, "SystemExit")
            cause = causes(run.error)[0]
            return Problem(text, type(cause).__name__, _place(cause))
        if (failed := result.failure) is not None:
            kind = "expectation" if is_expectation(failed.step) else "action"
            return Problem(f"{failed.step.describe()}: {failed.problem}", kind, str(failed.step.place or ""))
        if run.left:
            return Problem(
                f"the program has left threads running ({', '.join(run.left)}), which keep its process from ending; "
                "end them on SIGTERM, or make them daemon threads",
                "threads",
            )
        if run.forced:
            return Problem(f"the program did not end within {duration_text(GRACE)} of the signal", "signal ignored")
        return Problem()

    def show(self) -> None:
        """Print it."""
        terminal = Terminal(sys.stdout)
        self._width = min(terminal.width or WIDTH, WIDTH)
        terminal.width = None  # a command that is cut can't be copied
        scenario = self._run.scenario
        title = f"{scenario.title} ({scenario.file})" if scenario.name else scenario.file
        terminal.line(("scenario  ", "dim"), (title, "bold"))
        if self._arguments.schedule is not None:
            for fault in self._arguments.schedule.faults:
                terminal.line(("fault     ", "dim"), str(fault))
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
        return counts if self.passed else f"{self._problem.text}; {counts}"

    def case(self) -> Case:
        """Return it for JUnit XML."""
        arguments = self._arguments
        properties = {"seed": "none" if self._seed is None else str(self._seed), "board": self._run.board.label}
        properties["repeat"] = repeating(arguments, self._seed)
        if (schedule := arguments.schedule) is not None:
            properties["schedule"] = str(schedule)
            targets = Targets.of(self._run.board, self._run.began_ns)
            properties["targets"] = json.dumps(dataclasses.asdict(targets))
        text, kind, place = self._problem
        if place:
            properties["failed at"] = place
        report = "\n".join([*self._lines(), self._summary()])
        program = arguments.program or arguments.module
        return Case(self._run.scenario.title, program, self._seconds, text, kind, report, properties)


def _place(error: BaseException) -> str:
    """Return the innermost line of the program that an exception has passed, as FILE:LINE; empty if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_of_project(frame.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
