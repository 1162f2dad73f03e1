"""Measuring as a command line says: the options, the benchmarks of `hwloop bench`, tables, JSON and pictures.

`hwloop bench` and the scripts in benchmarks/ have the same options and the same output.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

import hwloop
from hwloop.cli import Failure, UsageError, say
from hwloop.cli.output_file import check_output
from hwloop.cli.term import Terminal
from hwloop.core.bases import CORE
from hwloop_bench import edges, report, timers
from hwloop_bench.processes import CYCLICTEST, FLOOR, LOOPS, SPIN, Case, installed_loops, missing
from hwloop_bench.results import Results, take_turns

ROUNDS, SECONDS = 5, 1.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.3

_BUSY_TIMER = {"callbacks": 200, "each": 50e-6}
BUSY_EDGE = {"callbacks": 500, "each": 100e-6}
CASES = [
    Case("timer-idle", "1 kHz timer, idle", timers.periodic, floors=(FLOOR, CYCLICTEST)),
    Case("timer-busy", "1 kHz timer under 200 busy callbacks of 0.05 ms", timers.periodic, _BUSY_TIMER),
    Case("one-shot-0.3", "one-shot timer of 0.3 ms", timers.one_shot, {"delay": 0.0003}, (FLOOR,)),
    Case("one-shot-2.5", "one-shot timer of 2.5 ms", timers.one_shot, {"delay": 0.0025}, (FLOOR,)),
    Case("edge-idle", "edge to handler, idle", edges.edge, floors=(FLOOR,)),
    Case("edge-busy", "edge to handler under 500 busy callbacks of 0.1 ms", edges.edge, BUSY_EDGE),
    Case("edge-chain", "edge to handler while one cheap callback is always ready", edges.edge, {"callbacks": 1}),
    Case(
        "edge-task",
        "edge to queue to HIGH task under 500 busy tasks of 0.1 ms",
        edges.to_task,
        {"tasks": 500, "each": 100e-6},
    ),
    Case("read-1", "edges per CPU second, one record a read", edges.flood, {"records": 1}, (FLOOR,)),
    Case("read-256", "edges per CPU second, 256 records a read", edges.flood, {"records": 256}, (FLOOR,)),
    Case("wakeups", "idle, one timer of 1 s", timers.idle, seconds=3.2),
]


def count(text: str) -> int:
    """Parse an option that is a number of things."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)


def duration(text: str) -> float:
    """Parse an option that is a time."""
    try:
        time = float(text)
    except ValueError:
        time = 0.0
    if not 0 < time < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return time


def add_common_arguments(parser: argparse.ArgumentParser, names: str) -> None:
    """Add the options that say how to measure and what to print. `names` are those of the benchmarks."""
    loops = [*LOOPS, FLOOR, CYCLICTEST]
    parser.add_argument("--rounds", type=count, metavar="N", help=f"number of rounds, for medians ({ROUNDS})")
    parser.add_argument("--seconds", type=duration, metavar="S", help=f"duration of each measurement ({SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} round of {QUICK_SECONDS:g} s each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"only these benchmarks: {names}")
    parser.add_argument("--loops", nargs="+", choices=loops, metavar="LOOP", help=f"only these: {', '.join(loops)}")
    parser.add_argument("--spin", action="store_true", help="also hwloop with spin=100e-6: see docs/real-time.md")
    parser.add_argument("--realtime", action="store_true", help="run every process in SCHED_FIFO with locked memory")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON; - for stdout, without tables")
    parser.add_argument("--plot", metavar="FILE", help="draw the histograms (.png, .svg or .pdf; needs matplotlib)")


def measure_all(cases: Sequence[Case], arguments: argparse.Namespace) -> int:
    """Measure the cases, print the results, and return an exit status: 1 if a process died.

    Ctrl-C ends it with the results so far, and is raised again after they have been printed.
    """
    rounds, seconds = _effort(arguments)
    chosen, loops = _chosen(cases, arguments)
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        if path not in (None, "-"):
            check_output(option, path)
    if arguments.plot:
        report.load_matplotlib()
    terminal = None if arguments.json == "-" else Terminal(sys.stdout)
    facts = report.machine(loops)
    if terminal is not None:
        shown = {
            **facts,
            "core": CORE,
            "rounds": f"{rounds} of {seconds:g} s each; medians, and ratios of hwloop's to others",
        }
        for name, fact in shown.items():
            terminal.line(f"{name:11}  {fact}")
    results = Results()
    waiting = list(chosen)
    ended = None
    try:
        for case in take_turns(chosen, loops, rounds, seconds, results, arguments.realtime):
            waiting.remove(case)
            if terminal is not None:
                report.show_case(terminal, case, results)
    except KeyboardInterrupt as interrupt:
        ended = interrupt
        if terminal is not None and waiting:
            report.show_case(terminal, waiting[0], results)
    if results.realtime and terminal is not None:
        terminal.line("")
        for grant in results.realtime:
            terminal.line(f"real time: {grant}")
    for failure in results.failures:
        print(f"hwloop bench: {failure}", file=sys.stderr)
    if arguments.json is not None:
        settings = {"hwloop": hwloop.__version__, "machine": facts, "core": CORE, "rounds": rounds, "seconds": seconds}
        _write_json(arguments.json, settings | results.as_json())
    if arguments.plot and results.cases:
        report.plot(arguments.plot, results, facts)
    if ended is not None:
        raise ended
    return 1 if results.failures else 0


def _effort(arguments: argparse.Namespace) -> tuple[int, float]:
    """Return the rounds, and the seconds of each measurement."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if arguments.quick else (ROUNDS, SECONDS)
    return arguments.rounds or rounds, arguments.seconds or seconds


def _chosen(cases: Sequence[Case], arguments: argparse.Namespace) -> tuple[list[Case], list[str]]:
    """Return the cases and the loops to measure."""
    known = {case.name: case for case in cases}
    if unknown := [name for name in arguments.only or () if name not in known]:
        raise UsageError(f"--only: unknown benchmark {unknown[0]!r}; choose from {', '.join(known)}")
    for loop in arguments.loops or ():
        if reason := missing(loop):
            raise UsageError(f"--loops {loop}: {reason}")
    loops = arguments.loops or [*installed_loops(), FLOOR, *([CYCLICTEST] if timers.has_cyclictest() else [])]
    if arguments.spin:
        loops.insert(loops.index("hwloop") + 1 if "hwloop" in loops else len(loops), SPIN)
    return [known[name] for name in dict.fromkeys(arguments.only or known)], loops


def _write_json(path: str, data: dict[str, object]) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=False)
    if path == "-":
        say(f"{text}\n")
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            print(text, file=file)
    except OSError as error:
        raise Failure(f"--json {path}: {error.strerror}") from error
