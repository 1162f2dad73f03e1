"""Every figure that the loop must reach, with the limit and the measured value, as a Markdown table.

    make figures                                               (all parts, about seven minutes)
    python benchmarks/table.py timers --keep build/figures.json    (one part, about a minute; the table of all kept)

A ratio is that of hwloop's median over the rounds to asyncio's, unless the row says otherwise. "no" in the last column
means that this run did not reach the limit; on a shared machine, repeat it before you believe it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import core
import echo
import instructions
import scale
import startup

from hwloop_bench import command
from hwloop_bench.processes import CYCLICTEST, FLOOR, SPIN, Case
from hwloop_bench.report import machine
from hwloop_bench.results import Results, take_turns
from hwloop_bench.timers import has_cyclictest

ROOT = Path(__file__).parents[1]
PARTS = {
    "timers": ["timer-idle", "timer-busy"],
    "one-shots": ["one-shot-0.3", "one-shot-2.5"],
    "wakeups": ["wakeups"],
    "edges": ["edge-idle", "edge-busy"],
    "tasks": ["edge-chain", "edge-task"],
    "reads": ["read-1", "read-256"],
    "core": [case.name for case in core.CASES],
    "scale": ["timers-tolerant", "timers-outstanding", "fds-10", "fds-1000"],
    "startup": ["startup"],
    "echo": ["echo-stream", "echo-protocol"],
    "bulk": ["bulk-stream", "bulk-protocol", "bulk-out"],
}
"""The parts that can be measured separately, each in about a minute, with the names of their benchmarks."""
CASES = {case.name: case for case in [*command.CASES, *core.CASES, *scale.CASES, *startup.CASES, *echo.CASES]}


class Row(NamedTuple):
    """One figure: `case` and `figure` on `loop`, as a ratio to the same on `to`; "" for the figure itself."""

    what: str
    asked: str
    """"<= 0.14" or ">= 2.2"."""
    case: str
    figure: str
    to: str = "asyncio"
    loop: str = "hwloop"
    to_case: str = ""
    """The benchmark to compare with, if it is another one."""


P50, P90, EACH, COST = "p50 µs", "p90 µs", "each/CPU s", "µs CPU each"
ROWS = [
    Row("1 kHz timer idle, p50", "<= 0.14", "timer-idle", P50),
    Row("1 kHz timer idle, p90", "<= 0.10", "timer-idle", P90),
    Row("1 kHz timer idle, p50, to a bare timerfd", "<= 1.6", "timer-idle", P50, FLOOR),
    Row("1 kHz timer idle, p90, to a bare timerfd", "<= 1.6", "timer-idle", P90, FLOOR),
    Row("one-shot 0.3 ms, p50", "<= 0.07", "one-shot-0.3", P50),
    Row("one-shot 2.5 ms, p50", "<= 0.12", "one-shot-2.5", P50),
    Row("one-shot 0.3 ms, fired early, %", "<= 0", "one-shot-0.3", "early %", ""),
    Row("one-shot 2.5 ms, fired early, %", "<= 0", "one-shot-2.5", "early %", ""),
    Row("1 kHz timer under 200 busy callbacks, p50", "<= 0.01", "timer-busy", P50),
    Row("… slots missed, %", "<= 1", "timer-busy", "missed %", ""),
    Row("… background work done", ">= 0.95", "timer-busy", "work/s"),
    Row("edge under 500 busy callbacks, p50", "<= 0.003", "edge-busy", P50),
    Row("edge to queue to HIGH task under 500 busy tasks, p50", "<= 0.004", "edge-task", P50),
    Row("edge while a cheap callback chain is always ready, p50", "<= 2", "edge-chain", P50),
    Row("edge idle, p50", "<= 0.85", "edge-idle", P50),
    Row("edges per CPU second, one record a read", ">= 1.15", "read-1", "edges/CPU s"),
    Row("edges per CPU second, 256 a read", ">= 1.0", "read-256", "edges/CPU s"),
    Row("call_soon chain", ">= 2.2", "chain", EACH),
    Row("call_soon, batches of 100", ">= 1.15", "batch", EACH),
    Row("call_later and cancel", ">= 3.0", "cancel", EACH),
    Row("future wake", ">= 1.9", "future-wake", EACH),
    Row("create_task", ">= 1.1", "create-task", EACH),
    Row("task switch, 1 task", ">= 1.9", "switch-1", EACH),
    Row("task switch, 100 tasks", ">= 1.1", "switch-100", EACH),
    Row("threadsafe flood", ">= 2.0", "threadsafe", EACH),
    Row("threadsafe flood from another thread", ">= 2.0", "threads", EACH),
    Row("stream echo", ">= 3.3", "echo-stream", "messages/CPU s"),
    Row("protocol echo", ">= 5.0", "echo-protocol", "messages/CPU s"),
    Row("bulk transfer, received by a stream", ">= 1.0", "bulk-stream", "MB/CPU s"),
    Row("bulk transfer, received by a protocol", ">= 1.0", "bulk-protocol", "MB/CPU s"),
    Row("bulk transfer, sent", ">= 1.0", "bulk-out", "MB/CPU s"),
    Row("a thousand timers with a tolerance of 1 ms, time each", "<= 1.0", "timers-tolerant", COST),
    Row("short timers under 100,000 outstanding, time each", "<= 0.6", "timers-outstanding", "µs each"),
    Row("descriptor event with 10 idle ones, time", "<= 0.65", "fds-10", COST),
    Row("descriptor event with 1000 idle ones, time", "<= 0.65", "fds-1000", COST),
    Row("… 1000 to 10 idle ones, both on hwloop", "<= 1.1", "fds-1000", COST, "hwloop", to_case="fds-10"),
    Row("idle wakeups with one 1 s timer", "<= 1", "wakeups", "context switches"),
    Row("import hwloop and first callback, wall", "<= 1.15", "startup", "wall ms"),
    Row("import hwloop and first callback, memory", "<= 1.1", "startup", "MiB"),
    Row("spin on: 1 kHz timer, p50, to cyclictest", "<= 1", "timer-idle", P50, CYCLICTEST, SPIN),
]


def measured(row: Row, cases: Mapping[str, Any]) -> float | None:
    """Return the row's ratio or figure; None if it was not measured."""

    def median(case: str, loop: str) -> float | None:
        figure: float | None = cases.get(case, {}).get("loops", {}).get(loop, {}).get("median", {}).get(row.figure)
        return figure

    value, other = median(row.case, row.loop), median(row.to_case or row.case, row.to)
    if not row.to or value is None:
        return value
    return value / other if other else None


def wanted(case: Case) -> list[str]:
    """Return the loops that the rows of a case compare."""
    rows = [row for row in ROWS if case.name in (row.case, row.to_case)]
    loops = dict.fromkeys(loop for row in rows for loop in (row.to, row.loop) if loop)
    return [loop for loop in loops if loop != CYCLICTEST or has_cyclictest()]


def table(cases: Mapping[str, Any]) -> list[str]:
    """Return the Markdown; rows without a measurement say so."""
    lines = ["| what | asked | measured | ok? |", "|---|---|---|---|"]
    for row in ROWS:
        value = measured(row, cases)
        how, limit = row.asked.split()
        if value is None:
            shown, verdict = "not measured", ""
        else:
            # One digit more than the limit has.
            shown = f"{value:.{len(limit.partition('.')[2]) + 1}f}"
            verdict = "yes" if (value <= float(limit) if how == "<=" else value >= float(limit)) else "no"
        asked = f"at most {limit}" if how == "<=" else f"at least {limit}"
        lines.append(f"| {row.what} | {asked} | {shown} | {verdict} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or none, to show what was kept")
    parser.add_argument("--all", action="store_true", help="all parts")
    parser.add_argument("--rounds", type=int, default=command.ROUNDS, metavar="N", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=command.SECONDS, metavar="S", help="each (%(default)s)")
    parser.add_argument("--keep", metavar="FILE", help="show what this JSON file has too, and write all into it")
    parser.add_argument("--instructions", action="store_true", help="also count instructions, for --keep")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    kept: dict[str, Any] = {}
    if arguments.keep and os.path.exists(arguments.keep):
        kept = json.loads(Path(arguments.keep).read_text(encoding="utf-8"))
    results = Results()
    chosen = [CASES[name] for part in (PARTS if arguments.all else arguments.parts) for name in PARTS[part]]
    for case in chosen:
        for _ in take_turns([case], wanted(case), arguments.rounds, arguments.seconds, results):
            print(f"{case.name} measured", file=sys.stderr)
    for failure in results.failures:
        print(failure, file=sys.stderr)
    cases = kept.get("cases", {}) | results.as_json()["cases"]
    facts = kept.get("machine") if not chosen else machine(["asyncio", "hwloop"])
    counted = instructions.count(ROOT) if arguments.instructions else kept.get("instructions", {})
    if arguments.keep:
        data = {"machine": facts, "cases": cases, "instructions": counted}
        Path(arguments.keep).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in table(cases):
        print(line)
    print(f"\n{arguments.rounds} rounds. " + "; ".join(f"{name}: {fact}" for name, fact in (facts or {}).items()))


if __name__ == "__main__":
    main()
