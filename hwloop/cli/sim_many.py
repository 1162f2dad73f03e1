"""Several scenarios with one program: each in a process of its own, so that none finds what another has left."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from hwloop.cli import Ended, Failure, UsageError, signals
from hwloop.cli.sim_command import command_line
from hwloop.cli.term import Terminal
from hwloop.testing.scenario.junit import Case, read_cases, write_cases

_PATIENCE = 5.0
"""Seconds in which a process must end after a signal before it is killed."""


def play_all(arguments: argparse.Namespace) -> int:
    """Play the scenarios of a command line, and return the exit status: the worst of theirs."""
    _check_names(arguments)
    terminal = Terminal(sys.stdout)
    statuses = list[int]()
    cases = list[ElementTree.Element]()
    with tempfile.TemporaryDirectory(prefix="hwloop-sim-") as directory:
        for number, scenario in enumerate(arguments.scenario):
            results = Path(directory) / f"{number}.xml"
            traces = {option: _named(getattr(arguments, option), scenario) for option in ("vcd", "trace")}
            changes = {"scenario": [scenario], "junit": str(results), **traces}
            statuses.append(_run([sys.executable, "-m", "hwloop", *command_line(arguments, **changes)]))
            if results.exists():
                cases += read_cases(results)
            else:
                problem = f"not played: exit status {statuses[-1]}"
                program = arguments.program or arguments.module
                case = Case(scenario, program, 0.0, problem, "not played", "the reason is in the output")
                cases.append(case.element())
            terminal.line("")
    failed = [scenario for scenario, status in zip(arguments.scenario, statuses, strict=True) if status]
    if arguments.junit is not None:
        try:
            write_cases(cases, arguments.junit)
        except OSError as error:
            raise Failure(f"{arguments.junit}: {(error.strerror or str(error)).lower()}") from error
    verdict = f"{len(statuses) - len(failed)} of {len(statuses)} scenarios passed"
    terminal.line((verdict, "red" if failed else "green"), f"; failed: {', '.join(failed)}" if failed else "")
    return max(statuses)


def _check_names(arguments: argparse.Namespace) -> None:
    """Raise `UsageError` for scenarios whose traces would replace each other."""
    option = next((each for each in ("vcd", "trace", "artifacts") if getattr(arguments, each) is not None), None)
    if option is None:
        return
    found = dict[str, str]()
    for scenario in arguments.scenario:
        name = Path(scenario).stem
        if name in found:
            raise UsageError(
                f"--{option} {getattr(arguments, option)}: the traces of {found[name]} and {scenario} would have the "
                "same name; rename one of the scenarios, or play them in two calls"
            )
        found[name] = scenario


def _named(path: str | None, scenario: str) -> str | None:
    """Return the path of a trace for one of several scenarios: run.vcd becomes run-door.vcd."""
    if path is None:
        return None
    stem, suffix = os.path.splitext(path)
    return f"{stem}-{Path(scenario).stem}{suffix}"


def _run(command: list[str]) -> int:
    """Run a process to its end and return its status. Signals end it too, and then raise `Ended`."""
    with signals.raised():
        child = subprocess.Popen(command)
        try:
            status = child.wait()
        except Ended as ended:
            _end(child, ended.number)
            raise
    return status if status >= 0 else 1  # a signal that only this process got, from a fault or for its threads


def _end(child: subprocess.Popen[bytes], number: int) -> None:
    """Pass a signal on, unless the terminal has sent Ctrl-C to both processes; end the child at last."""
    if number != signal.SIGINT:
        child.send_signal(number)
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
