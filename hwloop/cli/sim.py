"""Play scenarios with a program on the simulated board, and report what was not as expected.

    hwloop sim station.py --board board.toml --scenario door.toml
    hwloop sim station.py --scenario door.toml climate.toml --junit results.xml
    hwloop sim station.py --scenario door.toml --seed 7 --vcd door.vcd
    hwloop sim station.py --scenario door.toml --explore 200 --faults i2c-nack,i2c-hang

A scenario is a TOML file: a timeline of what happens on the board, and what the program should do. The program is run
as `hwloop run --clock virtual` would run it; with --realtime, in real time. When the scenario has ended, the program
gets SIGTERM and must end.

--explore N plays the scenario under N schedules, each of a seed and up to four faults, and shows the smallest that
fails with the command that plays it again (--schedule). docs/bug-hunting.md describes it.

The exit status is 0 if everything was as expected; 1 if an expectation was not met or the program failed; 2 for wrong
arguments, and for a scenario or board file with a mistake. docs/scenarios.md describes scenario files.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hwloop.cli import UsageError
from hwloop.cli.output_file import check_output
from hwloop.cli.run import BOARD_HELP, parse_limit, parse_seed

if TYPE_CHECKING:
    from hwloop.testing.schedule import Schedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop sim PROGRAM.py[:MAIN] --scenario FILE ... [--board BOARD] [--seed N] [--limit SECONDS] [--realtime] "
        "[--explore N [--faults NAMES]] [--schedule SCHEDULE] [--junit FILE] [--vcd FILE] [--trace FILE] "
        "[--artifacts DIR] [--quiet] [--debug] [-- ARGS ...]\n       hwloop sim -m MODULE ..."
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
        help='the seed for the order that asyncio leaves open; "random" for a new one each time; with --explore, the '
        "seed of the schedules",
    )
    parser.add_argument(
        "--limit", type=parse_limit, metavar="SECONDS", help="the longest run in virtual seconds; inf for no limit"
    )
    parser.add_argument("--realtime", action="store_true", help="play in real time, not in virtual time")
    parser.add_argument(
        "--explore", type=_parse_count, metavar="N", help="play it under N schedules of faults, drawn by Hypothesis"
    )
    parser.add_argument(
        "--faults",
        type=_parse_names,
        metavar="NAMES",
        help="the faults that --explore draws, separated by commas; --faults=-chip-vanishes draws all others; default: "
        "all that the board can have",
    )
    parser.add_argument(
        "--schedule", type=_parse_schedule, metavar="SCHEDULE", help="play it under one schedule, as a report shows it"
    )
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML, for CI")
    parser.add_argument("--vcd", metavar="FILE", help="write the trace as a waveform (.vcd) for GTKWave or PulseView")
    parser.add_argument("--trace", metavar="FILE", help="write the trace in the format of the file's suffix")
    parser.add_argument(
        "--artifacts", metavar="DIR", help="write the trace of each scenario that fails into DIR, in every format"
    )
    parser.add_argument("--quiet", action="store_true", help="list the steps only if one fails")
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    if (arguments.program is None) == (arguments.module is None):
        raise UsageError("give one program: the path of a Python file, or -m and the name of a module")
    if arguments.program == "-":
        raise UsageError("a program from standard input can't be run once for each scenario; save it in a file")
    if not arguments.scenario:
        raise UsageError("give a scenario: --scenario FILE")
    given = [option for option in ("seed", "limit", "explore", "schedule") if getattr(arguments, option) is not None]
    if arguments.realtime and given:
        raise UsageError(f"--{given[0]} is for virtual time; leave out --realtime")
    _check_exploration(arguments)
    _check_traces(arguments)
    if len(arguments.scenario) > 1:
        from hwloop.cli import sim_many

        return sim_many.play_all(arguments)
    if arguments.explore is not None:
        try:
            from hwloop.cli import sim_explore
        except ImportError as error:
            if error.name != "hypothesis":
                raise
            raise UsageError("--explore needs the package hypothesis: pip install 'hwloop[explore]'") from error
        return sim_explore.explore_one(arguments)
    from hwloop.cli import sim_one

    return sim_one.play_one(arguments)


def _parse_count(text: str) -> int:
    """Convert an argument for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of schedules is 1 or more, not {text!r}")
    return int(text)


def _parse_names(text: str) -> list[str]:
    """Convert an argument for argparse."""
    from firmware_sim.errors import FaultError
    from hwloop.testing.fault_names import chosen_faults

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("name at least one fault, such as i2c-nack")
    try:
        chosen_faults(names)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return list(dict.fromkeys(names))


def _parse_schedule(text: str) -> Schedule:
    """Convert an argument for argparse."""
    from hwloop.testing.schedule import ScheduleError, parse

    try:
        return parse(text)
    except ScheduleError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _check_exploration(arguments: argparse.Namespace) -> None:
    if arguments.faults is not None and arguments.explore is None:
        raise UsageError("--faults names the faults that --explore draws; give --explore too")
    if arguments.schedule is not None and (arguments.explore is not None or arguments.seed is not None):
        option = "--explore" if arguments.explore is not None else "--seed"
        reason = "plays one schedule and draws none" if option == "--explore" else "has a seed of its own"
        raise UsageError(f"--schedule {reason}; leave out {option}")


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
                raise UsageError(f"{path}: {error}") from error
    for option, path in (("--junit", arguments.junit), ("--vcd", arguments.vcd), ("--trace", arguments.trace)):
        if path is not None:
            check_output(option, path, replaced=option != "--junit")
