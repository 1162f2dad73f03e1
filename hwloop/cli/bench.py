"""Measure how late timers and edges are on this machine: on asyncio, on hwloop, on uvloop where it is installed.

    hwloop bench                                          (about four minutes)
    hwloop bench --quick --only timer-idle edge-busy      (a few seconds)
    hwloop bench --gpio 17:27                             (two lines wired together: 17 is the input)

Every figure comes from a fresh process, and the loops take turns within a round. The tables have medians over the
rounds, and their ratios to asyncio, and to the floor: the same work in bare Python without a loop. cyclictest stands
beside the 1 kHz timer where it is installed (Debian: rt-tests). The machine should have nothing else to do.

Ctrl-C ends it with what was measured so far.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys

import hwloop
from hwloop.cli import Failure, UsageError, bench_edges, bench_report, bench_timers
from hwloop.cli.bench_rounds import CYCLICTEST, FLOOR, SPIN, Case, Results, installed_loops, take_turns
from hwloop.cli.run import BOARD_HELP, chosen_board
from hwloop.cli.term import Terminal

ROUNDS, SECONDS = 5, 1.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.3

_BUSY_TIMER = {"callbacks": 200, "each": 50e-6}
_BUSY_EDGE = {"callbacks": 500, "each": 100e-6}
CASES = [
    Case("timer-idle", "1 kHz timer, idle", bench_timers.periodic, floors=(FLOOR, CYCLICTEST)),
    Case("timer-busy", "1 kHz timer under 200 busy callbacks of 0.05 ms", bench_timers.periodic, _BUSY_TIMER),
    Case("one-shot-0.3", "one-shot timer of 0.3 ms", bench_timers.one_shot, {"delay": 0.0003}, (FLOOR,)),
    Case("one-shot-2.5", "one-shot timer of 2.5 ms", bench_timers.one_shot, {"delay": 0.0025}, (FLOOR,)),
    Case("edge-idle", "edge to handler, idle", bench_edges.edge, floors=(FLOOR,)),
    Case("edge-busy", "edge to handler under 500 busy callbacks of 0.1 ms", bench_edges.edge, _BUSY_EDGE),
    Case("edge-chain", "edge to handler while one cheap callback is always ready", bench_edges.edge, {"callbacks": 1}),
    Case(
        "edge-task",
        "edge to queue to HIGH task under 500 busy tasks of 0.1 ms",
        bench_edges.to_task,
        {"tasks": 500, "each": 100e-6},
    ),
    Case("read-1", "edges per CPU second, one record a read", bench_edges.flood, {"records": 1}, (FLOOR,)),
    Case("read-256", "edges per CPU second, 256 records a read", bench_edges.flood, {"records": 256}, (FLOOR,)),
    Case("wakeups", "idle, one timer of 1 s", bench_timers.idle, seconds=3.2),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = " ".join(case.name for case in CASES)
    parser.add_argument("--gpio", metavar="IN:OUT", help="also edges on two lines that are wired together")
    parser.add_argument("--board", metavar="BOARD", help=f"for --gpio: {BOARD_HELP}")
    add_common_arguments(parser, names)


def execute(arguments: argparse.Namespace) -> int:
    cases = list(CASES)
    if arguments.gpio is not None:
        wire: dict[str, object] = {"lines": _lines(arguments.gpio), "board": chosen_board(arguments.board)}
        cases += [
            Case("gpio-idle", f"edge of GPIO {arguments.gpio} to handler, idle", bench_edges.wired, wire),
            Case(
                "gpio-busy",
                f"edge of GPIO {arguments.gpio} to handler under 500 busy callbacks of 0.1 ms",
                bench_edges.wired,
                wire | _BUSY_EDGE,
            ),
        ]
    return compare(cases, arguments)


# What the programs in benchmarks/ have in common with it.


def add_common_arguments(parser: argparse.ArgumentParser, names: str) -> None:
    """The options that say how to measure and what to print. `names` are those of the benchmarks."""
    loops = [*installed_loops(), FLOOR, CYCLICTEST]
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds to take medians over ({ROUNDS})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"how long each measurement takes ({SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} round of {QUICK_SECONDS:g} s each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"these benchmarks only: {names}")
    parser.add_argument("--loops", nargs="+", choices=loops, help="these only")
    parser.add_argument("--spin", action="store_true", help="also hwloop with spin=100e-6: see docs/scheduling.md")
    parser.add_argument("--realtime", action="store_true", help="every process in SCHED_FIFO, its memory locked")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON; - for stdout, and no tables then")
    parser.add_argument("--plot", metavar="FILE", help="draw the histograms (.png, .svg or .pdf; needs matplotlib)")


def compare(cases: list[Case], arguments: argparse.Namespace) -> int:
    """Measure the cases, tell what came out, and return an exit status: 1 if a process died."""
    rounds = arguments.rounds if arguments.rounds is not None else QUICK_ROUNDS if arguments.quick else ROUNDS
    seconds = arguments.seconds if arguments.seconds is not None else QUICK_SECONDS if arguments.quick else SECONDS
    if rounds < 1:
        raise UsageError(f"--rounds must be 1 or more, not {rounds}")
    if not 0 < seconds < math.inf:
        raise UsageError(f"--seconds is a number of seconds, more than 0, not {seconds:g}")
    known = {case.name: case for case in cases}
    if unknown := [name for name in arguments.only or () if name not in known]:
        raise UsageError(f"--only: there is no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(arguments.only or known)]
    loops = arguments.loops or [
        *installed_loops(), FLOOR, *([CYCLICTEST] if bench_timers.has_cyclictest() else [])
    ]  # fmt: skip
    if arguments.spin:
        loops.insert(loops.index("hwloop") + 1 if "hwloop" in loops else len(loops), SPIN)
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        if path not in (None, "-") and not os.path.isdir(os.path.dirname(path) or "."):
            raise UsageError(f"{option} {path}: there is no directory {os.path.dirname(path)}")
    if arguments.plot:
        bench_report.load_matplotlib()
    terminal = None if arguments.json == "-" else Terminal(sys.stdout)
    facts = bench_report.machine(loops)
    if terminal is not None:
        for name, fact in facts.items():
            terminal.line(f"{name:11}  {fact}")
        terminal.line(
            f"{'rounds':11}  {rounds}, {seconds:g} s a measurement; medians, and ratios of hwloop's to others"
        )
    results = Results()
    shown: set[str] = set()
    ended = None
    try:
        for case in take_turns(chosen, loops, rounds, seconds, results, arguments.realtime):
            shown.add(case.name)
            if terminal is not None:
                bench_report.show_case(terminal, case, results)
    except KeyboardInterrupt as interrupt:
        ended = interrupt
        if terminal is not None:
            for case in results.cases.values():
                if case.name not in shown:
                    bench_report.show_case(terminal, case, results)
    if results.realtime and terminal is not None:
        terminal.line("")
        for grant in results.realtime:
            terminal.line(f"real time: {grant}")
    for failure in results.failures:
        print(f"hwloop bench: {failure}", file=sys.stderr)
    if arguments.json is not None:
        settings = {"hwloop": hwloop.__version__, "machine": facts, "rounds": rounds, "seconds": seconds}
        _write_json(arguments.json, settings | results.as_json())
    if arguments.plot and results.cases:
        bench_report.plot(arguments.plot, results, facts)
    if ended is not None:
        raise ended
    return 1 if results.failures else 0


def _write_json(path: str, data: dict[str, object]) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=False)
    if path == "-":
        print(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            print(text, file=file)
    except OSError as error:
        raise Failure(f"--json {path}: {error.strerror}") from error


def _lines(text: str) -> list[int | str]:
    """The input and the output of --gpio."""
    names = text.split(":")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UsageError(f"--gpio {text}: give an input and an output that are wired together, as 17:27")
    return [int(name) if name.isdecimal() else name for name in names]
