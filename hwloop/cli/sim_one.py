"""One scenario with one program: `hwloop sim` with one file, in this process."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time

from firmware_sim import SimBoard, WiringError
from firmware_sim.errors import FaultError
from firmware_sim.trace import Trace
from hwloop import board as boards
from hwloop.board_interface import Board
from hwloop.cli import Ended, Failure, UsageError, process
from hwloop.cli.execution import Found, find_program, run_program
from hwloop.cli.run import make_hosting
from hwloop.cli.sim_program import GRACE, NoLoop, ProgramRun
from hwloop.cli.sim_report import Files, Report
from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.output import traced_output
from hwloop.testing.scenario.reading import load
from hwloop.testing.scenario.scenario import Scenario
from hwloop.virtual.seeding import chosen_seed


def play_one(arguments: argparse.Namespace) -> int:
    """Play the scenario of a command line, report, and return the exit status."""
    (path,) = arguments.scenario
    try:
        scenario = load(path)
    except ScenarioError as error:
        raise UsageError(str(error)) from error
    found = None if arguments.program is None else find_program(arguments.program, None, arguments.rest)
    is_real = arguments.realtime
    seed = None if is_real else _seed(arguments, scenario)
    options = argparse.Namespace(
        clock="real" if is_real else "virtual", realtime=None, seed=seed, limit=arguments.limit, debug=arguments.debug
    )
    hosting = make_hosting(options)
    lifetime: contextlib.ExitStack = arguments.lifetime
    choice = _board_of(arguments.board, scenario)
    is_traced = any(each is not None for each in (arguments.vcd, arguments.trace, arguments.artifacts))
    trace = Trace() if is_traced else None
    files = Files(arguments)

    def opened(board: Board) -> None:
        board.tracer = trace

    try:
        host = lifetime.enter_context(process.hosted(choice, clock=hosting.clock, binding=True, opened=opened))
        board = boards.current()
    except WiringError as error:
        raise UsageError(str(error)) from error
    if not isinstance(board, SimBoard):
        raise UsageError(f"--board {choice}: scenarios are played on the simulated board only; give a board file")
    board.faults.seed = seed or 0
    run = ProgramRun(scenario, board, hosting.clock)
    if arguments.schedule is not None:
        try:
            arguments.schedule.inject(board.faults)
        except FaultError as error:
            raise UsageError(f"--schedule: {error}") from error

    def find() -> Found:
        return find_program(None, arguments.module, arguments.rest) if found is None else found

    begun = time.monotonic()
    failure: BaseException | None = None
    try:
        with traced_output(board):
            is_script = found is not None and not found.is_async
            run.status = run_program(
                find,
                host,
                hosting,
                lifetime,
                simulated=True,
                begin=lambda: run.begin(is_script),
                limit=arguments.limit,
                grace=GRACE,
                failed=run.fail,
            )
    except (UsageError, Failure):
        raise
    except NoLoop:
        run.status = 1
    except Ended as ended:
        if ended.number not in run.sent:
            failure = ended
    except Exception as error:  # of the hardware: the command shows it
        failure = error
        run.fail(error)
    try:
        run.end(plays_on=failure is None and run.status == 0)
    except Ended as ended:
        failure = ended
        run.player.stop()
    report = Report(run, arguments, seed, time.monotonic() - begun, interrupted=isinstance(failure, Ended))
    report.show()
    files.write(trace, report.case(), board, failed=not report.passed)
    if failure is not None:
        raise failure
    if run.left:
        raise Ended(signal.SIGTERM, forced=True)  # the process would wait for them
    return 0 if report.passed else 1


def _seed(arguments: argparse.Namespace, scenario: Scenario) -> int | None:
    """Return the seed: the schedule's, the option's, the scenario's, or that of the environment."""
    try:
        if arguments.schedule is not None:
            return arguments.schedule.seed  # type: ignore[no-any-return]
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
