"""`hwloop sim --explore N`: a scenario under many schedules of faults, and the smallest that makes it fail.

Each run is a process of its own, a fork that plays the scenario as `hwloop sim --schedule ...` would: the command that
the report shows. So a program can hang, crash or leave anything behind. Hypothesis tells failures apart by the type of
an exception, so each kind of failure has a type of its own here.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from firmware_sim.errors import FaultError
from hwloop.cli import Ended, Failure, UsageError, forked, say, signals
from hwloop.cli.sim_command import command_line, repeating
from hwloop.cli.term import Terminal
from hwloop.testing.drawing import schedules
from hwloop.testing.explore import Found, explore
from hwloop.testing.fault_names import all_but
from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.junit import Case, read_cases, write_cases
from hwloop.testing.scenario.reading import load
from hwloop.testing.schedule import Schedule
from hwloop.testing.targets import Targets
from hwloop.virtual.seeding import chosen_seed

SHORTEST = 20.0
"""Real seconds that each run may take, at least; it may take 20 times as long as the run without faults."""
_TIMES = 20


class RunFailed(Exception):
    """A run has failed."""


class Run(NamedTuple):
    """A run of the scenario under one schedule."""

    case: ElementTree.Element | None
    """Its result; None if its process has ended without one."""
    status: int
    problem: str
    """The problem, in a line; empty if there is none."""
    kind: tuple[str, str]
    """The kind of failure, and the place."""


def explore_one(arguments: argparse.Namespace) -> int:
    """Explore the scenario of a command line, report, and return the exit status."""
    try:
        title = load(arguments.scenario[0]).title
        seed, _ = chosen_seed(arguments.seed)
    except (ScenarioError, ValueError) as error:
        raise UsageError(str(error)) from error
    forked.prepare()
    directory = tempfile.mkdtemp(prefix="hwloop-sim-")  # a TemporaryDirectory would be removed by each fork that ends
    try:
        with signals.raised() as restore:
            return Exploration(arguments, title, seed or 0, Path(directory), restore).execute()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Exploration:
    """The exploration of one scenario.

    Parameters:
        arguments: those of the command.
        title: the title of the scenario.
        seed: decides which schedules are drawn.
        directory: where the runs leave what they print, and their results.
        restore: restores the handlers of signals in a fork.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        title: str,
        seed: int,
        directory: Path,
        restore: Callable[[], None],
    ) -> None:
        self._arguments = arguments
        self._title = title
        self._seed = seed
        self._result = directory / "result.xml"
        self._output = directory / "output"
        self._restore = restore
        self._terminal = Terminal(sys.stdout)
        self._terminal.width = None
        self._limit = SHORTEST
        self._runs = 0
        self._drawn: collections.Counter[str] = collections.Counter()
        self._smallest: Schedule | None = None
        self._kinds: dict[tuple[str, str], type[RunFailed]] = {}
        self._began = time.monotonic()

    def execute(self) -> int:
        """Explore, and return the exit status."""
        first = self._run(Schedule(), self._output)
        if first.problem:
            return self._report_first(first)
        assert first.case is not None
        self._limit = max(SHORTEST, _TIMES * float(first.case.get("time", "0")))
        try:
            drawn = schedules(_targets(first.case), self._arguments.faults)
        except FaultError as error:
            raise UsageError(f"--faults: {error}") from error
        try:
            found = explore(self._play, drawn, runs=self._arguments.explore, seed=self._seed)
        except Ended:
            self._report_interrupted()
            raise
        return self._report_none() if found is None else self._report_found(found)

    def _play(self, schedule: Schedule) -> None:
        self._runs += 1
        self._drawn.update(fault.name for fault in schedule.faults)
        self._show_progress()
        run = self._run(schedule, self._output)
        if run.problem:
            self._smallest = schedule
            raise self._kinds.setdefault(run.kind, type("RunFailed", (RunFailed,), {}))(run.problem)

    def _run(self, schedule: Schedule, output: Path | None, **changes: str | None) -> Run:
        """Play the scenario under a schedule, in a fork."""
        self._result.unlink(missing_ok=True)
        files = {"vcd": None, "trace": None, "artifacts": None, **changes, "junit": str(self._result)}
        words = command_line(
            self._arguments, explore=None, faults=None, seed=None, schedule=schedule, quiet=False, **files
        )
        ended = forked.call(words, output, self._limit, self._restore)
        if self._result.exists():
            (case,) = read_cases(self._result)
            failure = case.find("failure")
            if failure is None:
                return Run(case, ended.status, "", ("", ""))
            message = failure.get("message", "")
            kind = (failure.get("type", ""), _property(case, "failed at") or message)
            return Run(case, ended.status, message, kind)
        if ended.overdue:
            problem = f"the program did not end within {self._limit:.0f} s of real time"
        elif ended.status < 0:
            problem = f"the program's process was killed by {signal.Signals(-ended.status).name}"
        else:
            problem = f"the program's process ended with status {ended.status} before the scenario had"
        return Run(None, ended.status, problem, ("process", problem))

    def _show_progress(self) -> None:
        if sys.stderr.isatty():
            state = "" if self._smallest is None else "; one has failed, and is made smaller"
            say(f"\r{self._runs} schedules{state}", sys.stderr)

    def _end_progress(self) -> None:
        if sys.stderr.isatty():
            say("\r\033[K", sys.stderr)

    def _report_first(self, run: Run) -> int:
        """Report a run without faults that has failed."""
        say(self._output.read_text(encoding="utf-8", errors="replace"))
        if run.case is None and run.status == 2:
            return 2  # wrong arguments, which the output explains
        self._conclude(run.case, f"it fails without any fault, so no schedule was drawn: {run.problem}")
        return 1

    def _report_none(self) -> int:
        self._end_progress()
        drawn = ", ".join(f"{count} {name}" for name, count in sorted(self._drawn.items())) or "no faults"
        seconds = time.monotonic() - self._began
        summary = f"none of {self._runs} schedules fails, seed {self._seed}, in {seconds:.1f} s: {drawn}"
        self._terminal.line(("scenario  ", "dim"), (self._title, "bold"))
        self._terminal.line(("passed", "green"), f": {summary}")
        self._terminal.line(("to run it again: ", "dim"), repeating(self._arguments, self._seed))
        self._write(self._case("", "", summary).element())
        return 0

    def _report_found(self, found: Found) -> int:
        self._end_progress()
        arguments = self._arguments
        run = self._run(found.schedule, None, vcd=arguments.vcd, trace=arguments.trace, artifacts=arguments.artifacts)
        summary = f"{_counted(found.schedule)}, the smallest that was found in {self._runs} runs: {found.error}"
        if not run.problem:
            summary += "; it passed when it ran again, so something besides the schedule decides: real time, threads, "
            summary += "or state that a run has left in files"
            run = run._replace(case=None)
        elif run.case is None:
            self._terminal.line(("to run it again: ", "dim"), self._repeating(found.schedule))
        if names := all_but(found.schedule, arguments.faults):
            changed = argparse.Namespace(**{**vars(arguments), "faults": names})
            self._terminal.line(("to explore the other faults: ", "dim"), repeating(changed, self._seed))
        self._conclude(run.case, summary)
        return 1

    def _report_interrupted(self) -> None:
        self._end_progress()
        self._terminal.line(("interrupted", "red"), f": after {self._runs} schedules, ", self._so_far())

    def _so_far(self) -> str:
        if self._smallest is None:
            return "and none has failed"
        return f"the smallest that has failed so far: {self._repeating(self._smallest)}"

    def _conclude(self, case: ElementTree.Element | None, summary: str) -> None:
        """Print that the exploration has failed, and write the result."""
        self._terminal.line(("FAILED", "red"), f": {summary}")
        self._write(self._case(summary, "exploration", summary).element() if case is None else case)

    def _case(self, failure: str, kind: str, report: str) -> Case:
        program = self._arguments.program or self._arguments.module
        properties = {"seed": str(self._seed), "repeat": repeating(self._arguments, self._seed)}
        return Case(self._title, program, time.monotonic() - self._began, failure, kind, report, properties)

    def _write(self, case: ElementTree.Element) -> None:
        if self._arguments.junit is not None:
            try:
                write_cases([case], self._arguments.junit)
            except OSError as error:
                raise Failure(f"{self._arguments.junit}: {(error.strerror or str(error)).lower()}") from error

    def _repeating(self, schedule: Schedule) -> str:
        given = {**vars(self._arguments), "explore": None, "faults": None, "schedule": schedule}
        return repeating(argparse.Namespace(**given), None)


def _targets(case: ElementTree.Element) -> Targets:
    """Return the targets that the result of a run names."""
    given = json.loads(_property(case, "targets"))
    given["devices"] = [tuple(device) for device in given["devices"]]
    return dataclasses.replace(Targets([], [], [], [], 0.0), **given)


def _property(case: ElementTree.Element, name: str) -> str:
    return next((each.get("value", "") for each in case.iter("property") if each.get("name") == name), "")


def _counted(schedule: Schedule) -> str:
    count = len(schedule.faults)
    if not count:
        return f"seed {schedule.seed} without faults"
    return f"a schedule of {count} fault{'' if count == 1 else 's'}"
