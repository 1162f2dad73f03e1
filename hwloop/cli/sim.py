"""Play scenarios with a program on the simulated board, and report what was not as expected.

    hwloop sim station.py --board board.toml --scenario door.toml
    hwloop sim station.py --scenario door.toml climate.toml --junit results.xml
    hwloop sim station.py --scenario door.toml --seed 7 --vcd door.vcd

A scenario is a TOML file: a timeline of what happens on the board, and what the program should do. The program is run
as `hwloop run` would run it, in virtual time; a script without a loop, and with --realtime every program, runs in real
time. When the scenario has ended, the program gets SIGTERM and must end.

The exit status is 0 if everything was as expected; 1 if an expectation was not met or the program failed; 2 for wrong
arguments, and for a scenario or board file with a mistake. docs/scenarios.md describes scenario files.
"""

from __future__ import annotations

import argparse
import os

from hwloop.cli import Failure, UsageError
from hwloop.cli.run import BOARD_HELP, parse_limit, parse_seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop sim PROGRAM.py[:MAIN] --scenario FILE ... [--board BOARD] [--seed N] [--limit SECONDS] [--realtime] "
        "[--junit FILE] [--vcd FILE] [--trace FILE] [--quiet] [--debug] [-- ARGS ...]\n       hwloop sim -m MODULE ..."
    )
    parser.add_argument("program", nargs="?", metavar="PROGRAM.py[:MAIN]", help="the program, as for hwloop run")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    parser.add_argument(
        "--scenario",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="the scenarios, which are played one after the other, each with a new board and program",
    )
    parser.add_argument(
        "--board",
        metavar="BOARD",
        help=f"{BOARD_HELP}; without these, the board that the scenario names, a board.toml beside it, or sim",
    )
    parser.add_argument(
        "--seed",
        type=parse_seed,
        metavar="N",
        help='the seed for the order that asyncio leaves open; "random" for a new one each time',
    )
    parser.add_argument(
        "--limit", type=parse_limit, metavar="SECONDS", help="the longest run in virtual seconds; inf for no limit"
    )
    parser.add_argument("--realtime", action="store_true", help="play in real time, not in virtual time")
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML, for CI")
    parser.add_argument("--vcd", metavar="FILE", help="write the trace as a waveform (.vcd) for GTKWave or PulseView")
    parser.add_argument("--trace", metavar="FILE", help="write the trace in the format of the file's suffix")
    parser.add_argument("--quiet", action="store_true", help="list the steps only if one fails")
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    if (arguments.program is None) == (arguments.module is None):
        raise UsageError("give one program: the path of a Python file, or -m and the name of a module")
    if arguments.program == "-":
        raise UsageError("a program from standard input can't be run once for each scenario; save it in a file")
    if not arguments.scenario:
        raise UsageError("give a scenario: --scenario FILE")
    if arguments.realtime and (arguments.seed is not None or arguments.limit is not None):
        option = "--seed" if arguments.seed is not None else "--limit"
        raise UsageError(f"{option} is for virtual time; leave out --realtime")
    _check_traces(arguments)
    if len(arguments.scenario) > 1:
        from hwloop.cli import sim_many

        return sim_many.play_all(arguments)
    from hwloop.cli import sim_one

    return sim_one.play_one(arguments)


def _check_traces(arguments: argparse.Namespace) -> None:
    from firmware_sim.trace.files import writer_for

    if arguments.vcd is not None and not arguments.vcd.lower().endswith(".vcd"):
        raise UsageError(f"--vcd {arguments.vcd}: the name of a VCD file ends in .vcd; --trace writes other formats")
    for path in (arguments.vcd, arguments.trace):
        if path is not None:
            try:
                writer_for(path)
            except ValueError as error:
                raise UsageError(str(error)) from error
            except ImportError as error:
                raise Failure(f"{path}: {error}") from error
    for path in (arguments.junit, arguments.vcd, arguments.trace):
        directory = os.path.dirname(path or "") or "."
        if not os.path.isdir(directory):
            raise UsageError(f"{path}: there is no directory {directory}")
