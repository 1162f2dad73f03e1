"""Run the weather station of examples/ on the simulated board, on asyncio's loop and on hwloop, and compare both.

For about ten seconds in all a door opens and shuts with bouncing contacts, a BME280 is read ten times a second, a GPS
receiver sends at 9600 baud, and a control loop ticks a thousand times a second. In the second half on each loop 200
busy callbacks load it. The tables compare what the simulated board sent with what the program received, and how late.

The exit status is 0 only if what went in came out on the last loop, which is hwloop by default: every edge and sentence
delivered or counted as lost, sentences as the receiver sent them, and readings that agree with the simulated air.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hwloop
from firmware_sim import SimBoard
from hwloop.cli import Ended, Failure, UsageError, process, say
from hwloop.cli.execution import load_program
from hwloop.cli.term import Terminal
from hwloop_bench import demo_report
from hwloop_bench.performance import Performance

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "hwloop": hwloop.new_event_loop,
}
SECONDS = 10.0
"""Duration of all performances together, by default."""
SHORTEST = 2.0
"""Seconds in which everything on the board happens at least once."""
TURN = 500e-6
"""Seconds after which a thread of the simulated board gets its turn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loop", choices=LOOPS, help="only this event loop (both, one after the other)")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help=f"on each loop, {SHORTEST:g} or more ({SECONDS:g} in all)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and no events")


def execute(arguments: argparse.Namespace) -> int:
    loops = [arguments.loop] if arguments.loop else list(LOOPS)
    seconds = SECONDS / len(loops) if arguments.seconds is None else arguments.seconds
    if not SHORTEST <= seconds < math.inf:
        raise UsageError(
            f"--seconds must be {SHORTEST:g} or more, not {seconds:g}: everything has to happen at least once"
        )
    terminal = None if arguments.json else Terminal(sys.stdout)
    performances: list[Performance] = []
    ended = None
    with _quick_turns():
        for loop in loops:
            try:
                _perform(loop, seconds, terminal, arguments.debug, performances)
            except Ended as signal:
                if signal.forced:
                    raise
                ended = signal
                break
    if terminal is None:
        *others, last = (each.result() for each in performances)
        say(json.dumps(last | {"compared": others}) + "\n")
    else:
        demo_report.print_result(terminal, performances)
    if ended is not None:
        raise ended
    return 1 if performances[-1].differences() else 0


def _perform(
    loop: str, seconds: float, terminal: Terminal | None, debug: bool, performances: list[Performance]
) -> None:
    """Run the station on one loop, and append the performance, which may be interrupted."""
    examples = examples_directory()
    station = load_program(str(examples / "weather_station.py"))
    with SimBoard(examples / "weather_station.toml") as board:
        log = (examples / "weather_station.nmea").read_bytes().split()
        performance = Performance(loop, board, station, terminal, log)
        performance.say("board", f"{board.label}: {len(board.devices)} simulated devices, on the {loop} event loop")
        with process.hosted(board) as host:
            performances.append(performance)
            host.run(lambda: performance.play(seconds), loop_factory=LOOPS[loop], debug=debug)


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Switch threads more often.

    The threads of the simulated board act as hardware, which does not wait for our interpreter. A thread that wants
    the interpreter from a busy one waits for the switch interval, by default 5 ms.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def examples_directory() -> Path:
    """Return the directory of the examples: in an installed package, or in a clone of the project."""
    package = Path(__file__).parents[1]
    for directory in (package / "examples", package.parent / "examples"):
        if (directory / "weather_station.py").is_file():
            return directory
    raise Failure(f"{package / 'examples'}: the examples are not installed; reinstall hwloop, or run it from a clone")
