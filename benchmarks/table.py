"""Every figure that the loop must reach, with its goals and what was measured, as Markdown tables.

    make figures                                               (all parts, ten to fifteen minutes)
    python benchmarks/table.py timers --keep build/figures.json    (one part; the tables of all kept)

Each row compares hwloop from its sources ("plain"), hwloop on the compiled core, and uvloop with asyncio in the same
run: its figure is that of the loop's median over the rounds to asyncio's, unless the row says otherwise. The last
column has how many times as good as uvloop the compiled core is. A figure in bold misses its goal in this run; on a
shared machine, repeat it before you believe it. The second table has rloop's own benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import core
import echo
import instructions
import scale
import startup
import threads
import virtual
import worst
from goals import ROWS, SAME, WORST, Row

from hwloop_bench import command
from hwloop_bench.processes import COMPILED, CYCLICTEST, LOOPS, Case, missing
from hwloop_bench.report import machine
from hwloop_bench.results import Results, take_turns
from hwloop_bench.timers import has_cyclictest

ROOT = Path(__file__).parents[1]
PARTS = {
    "timers": ["timer-idle", "timer-busy"],
    "one-shots": ["one-shot-0.3", "one-shot-2.5"],
    "worst": ["timer-worst"],
    "wakeups": ["wakeups"],
    "edges": ["edge-idle", "edge-busy"],
    "tasks": ["edge-chain", "edge-task"],
    "reads": ["read-1", "read-256"],
    "core": [case.name for case in core.CASES],
    "scale": ["timers-tolerant", "timers-outstanding", "fds-10", "fds-1000"],
    "startup": ["startup", "lifetime"],
    "threads": ["executor", "ping-pong"],
    "echo": ["echo-stream", "echo-protocol"],
    "bulk": ["bulk-stream", "bulk-protocol", "bulk-out"],
    "exchanges": list(echo.EXCHANGES),
    "virtual": ["virtual-board", "virtual-station"],
}
"""The parts that can be measured separately, each in about a minute, with the names of their benchmarks."""
MODULES = (command, core, scale, startup, threads, echo, worst, virtual)
CASES: dict[str, Case] = {case.name: case for module in MODULES for case in module.CASES}
EXCHANGE_LOOPS = ("asyncio", "uvloop", "rloop", "hwloop", COMPILED)
SECONDS = 0.5
"""The measuring time that suits a whole run: with it, all rounds of the worst tick together are a minute."""
OVERHEAD = 0.3
"""Seconds that a measurement takes in addition, for the estimate of the time."""


def found(row: Row, loop: str, cases: Mapping[str, Any]) -> float | None:
    """Return the row's figure on a loop, as a ratio where it is one; None if it was not measured."""

    def taken(case: str, on: str) -> float | None:
        measured = cases.get(case, {}).get("loops", {}).get(on, {})
        if row.figure == WORST:  # all rounds are one long one
            return max((figures[WORST] for figures in measured.get("rounds", ())), default=None)
        figure: float | None = measured.get("median", {}).get(row.figure)
        return figure

    value = taken(row.case, loop)
    if not row.to or value is None:
        return value
    other = taken(row.to_case or row.case, loop if row.to == SAME else row.to)
    return value / other if other else None


def lead(row: Row, cases: Mapping[str, Any]) -> float | None:
    """Return how many times as good as uvloop the compiled core is; None where the two can't be compared.

    They can't where uvloop's timers fire early.
    """
    ours, theirs = (found(row, loop, cases) for loop in (COMPILED, "uvloop"))
    if not row.ahead or not ours or theirs is None or theirs <= 0:
        return None
    return ours / theirs if row.limit == "at least" else theirs / ours


def wanted(case: Case) -> list[str]:
    """Return the loops that the rows of a case compare, as far as they can be measured here."""
    if case.name in echo.EXCHANGES:
        loops: Iterable[str] = EXCHANGE_LOOPS
    else:
        rows = [row for row in ROWS if case.name in (row.case, row.to_case)]
        loops = dict.fromkeys(loop for row in rows for loop in (row.to, *row.loops) if loop not in ("", SAME))
    return [loop for loop in loops if not missing(loop) and (loop != CYCLICTEST or has_cyclictest())]


def shown(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def cell(value: float | None, misses: bool, absent: str = "not measured") -> str:
    """Return a value as the table shows it: bold if it misses its goal."""
    if value is None:
        return absent
    return f"**{shown(value)}**" if misses else shown(value)


def table(cases: Mapping[str, Any]) -> list[str]:
    """Return the Markdown of all rows; those without a measurement say so."""
    lines = [
        "| figure | goal | plain | goal, compiled | compiled | uvloop | compiled to uvloop |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = []
        for goal, loop in zip((row.plain, row.compiled), row.loops, strict=False):
            value = found(row, loop, cases)
            misses = value is not None and (value > goal if row.limit == "at most" else value < goal)
            cells += [f"{row.limit} {goal:g}", cell(value, misses)] if loop else ["", ""]
        theirs, ahead = found(row, row.loops[2], cases), lead(row, cases)
        cells += [cell(theirs, False), cell(ahead, ahead is not None and ahead < row.ahead, "")]
        lines.append(f"| {row.what} | {' | '.join(cells)} |")
    return lines


def exchange_table(cases: Mapping[str, Any]) -> list[str]:
    """Return the Markdown of rloop's benchmark: asyncio's figures, and those of the others as ratios to them."""
    lines = [f"| echo over TCP, one connection | {' | '.join(EXCHANGE_LOOPS)} |", "|---" * 6 + "|"]
    for name in echo.EXCHANGES:
        medians = {loop: each["median"] for loop, each in cases.get(name, {}).get("loops", {}).items()}
        for figure in ("messages/CPU s", "messages/s"):
            base, *values = (medians.get(loop, {}).get(figure) for loop in EXCHANGE_LOOPS)
            ratios = [value / base if value and base else None for value in values]
            uvloop, ours = ratios[0], ratios[-1]
            misses = uvloop is not None and ours is not None and ours < uvloop
            cells = [cell(base, False), *(cell(ratio, False) for ratio in ratios[:-1]), cell(ours, misses)]
            lines.append(f"| {name.removeprefix('exchange-').replace('-', ', ')}, {figure} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Measure and print the tables; return an exit status. Ctrl-C ends it with the cases that are complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or none, to show what was kept")
    parser.add_argument("--all", action="store_true", help="all parts")
    parser.add_argument("--rounds", type=command.count, default=command.ROUNDS, metavar="N", help="(%(default)s)")
    parser.add_argument("--seconds", type=command.duration, default=SECONDS, metavar="S", help="each (%(default)s)")
    parser.add_argument("--keep", metavar="FILE", help="show what this JSON file has too, and write all into it")
    parser.add_argument("--instructions", action="store_true", help="also count instructions, for --keep")
    parser.add_argument("--check", action="store_true", help="only check the command line")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if arguments.check:
        return 0
    os.environ["HWLOOP_PURE"] = "1"  # the processes that measure "hwloop" run its sources
    kept: dict[str, Any] = {}
    if arguments.keep and os.path.exists(arguments.keep):
        try:
            kept = json.loads(Path(arguments.keep).read_text(encoding="utf-8"))
        except ValueError as error:
            parser.error(f"--keep {arguments.keep}: not a file of figures ({error}); remove it to begin anew")
    chosen = [CASES[name] for part in (PARTS if arguments.all else arguments.parts) for name in PARTS[part]]
    results = Results()
    complete: list[str] = []
    status = 0
    try:
        for case in measured(chosen, arguments.rounds, arguments.seconds, results) if chosen else ():
            complete.append(case.name)
    except KeyboardInterrupt:
        status = 130
    for failure in results.failures:
        print(failure, file=sys.stderr)
    new: Any = results.as_json()["cases"]
    cases = kept.get("cases", {}) | {name: new[name] for name in complete if name in new}
    facts = machine([loop for loop in LOOPS if not missing(loop)]) if chosen else kept.get("machine")
    counted = {name: kept[name] for name in ("instructions", "instructions compiled") if name in kept}
    if arguments.instructions and not status:
        counted["instructions"] = instructions.count(ROOT)
        if not missing(COMPILED):
            counted["instructions compiled"] = instructions.count(ROOT, compiled=True)
    if arguments.keep:
        data = {"machine": facts, "cases": cases, **counted}
        Path(arguments.keep).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.keep).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join([*table(cases), "", *exchange_table(cases), ""]))
    for loop in LOOPS if chosen else ():
        if reason := missing(loop):
            print(f"Left out: {reason}")
    print(f"{arguments.rounds} rounds. " + "; ".join(f"{name}: {fact}" for name, fact in (facts or {}).items()))
    if status:
        print(f"Interrupted: {len(complete)} of {len(chosen)} benchmarks were measured.", file=sys.stderr)
    return status


def measured(chosen: list[Case], rounds: int, seconds: float, results: Results) -> Iterator[Case]:
    """Measure cases, and yield each when it is done.

    Reports the progress on stderr, with the time that all take: an estimate, then the truth.
    """
    loops = {case.name: wanted(case) for case in chosen}
    runs = [(1 if case.together else len(loops[case.name]), case.seconds) for case in chosen]
    estimate = rounds * sum(turns * (seconds * each + OVERHEAD) for turns, each in runs)
    start = time.monotonic()
    print(f"{len(chosen)} benchmarks, about {estimate / 60:.0f} minutes", file=sys.stderr)
    for position, case in enumerate(chosen, 1):
        for _ in take_turns([case], loops[case.name], rounds, seconds, results):
            minutes = (time.monotonic() - start) / 60
            print(f"{position} of {len(chosen)}: {case.name} measured, {minutes:.1f} minutes", file=sys.stderr)
        yield case


if __name__ == "__main__":
    sys.exit(main())
