"""The report of a benchmark: the machine, tables with ratios, and histograms in text or as a picture.

A median says little about a loop: how often it is late, and by how much, matters more. So all latencies are shown as a
histogram, in buckets from one power of two of microseconds to the next, all loops side by side on one scale.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import hwloop
from hwloop.cli import Failure, UsageError
from hwloop.cli.term import Terminal
from hwloop_bench.processes import COMPILED, CYCLICTEST, FLOOR, Case
from hwloop_bench.results import Results

WIDTH = 79
"""Columns of the widest line."""
_LABEL = 7
_PERCENT = 6
_CLASSES = {
    os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_BATCH: "SCHED_BATCH", os.SCHED_IDLE: "SCHED_IDLE",
    os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR",
}  # fmt: skip


def machine(loops: Sequence[str]) -> dict[str, str]:
    """Return the facts on which figures depend besides the loop; "unknown" where the system does not say."""
    versions = [f"hwloop {hwloop.__version__}"]
    versions += [f"{loop} {metadata.version(loop)}" for loop in ("uvloop", "rloop") if loop in loops]
    governors = {
        path.read_text().strip() for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    priority = os.sched_getparam(0).sched_priority
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "machine": _read("/proc/device-tree/model").rstrip("\0")
        or _read("/sys/devices/virtual/dmi/id/product_name")
        or "unknown",
        "CPUs": f"{len(os.sched_getaffinity(0))}, governor {', '.join(sorted(governors)) or 'unknown'}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "loops": ", ".join(versions),
        "scheduling": _CLASSES.get(policy, str(policy)) + (f" priority {priority}" if priority else ""),
        "timer slack": f"{slack} ns" if (slack := _read("/proc/self/timerslack_ns")) else "unknown",
        "load": " ".join(_read("/proc/loadavg").split()[:3]) or "unknown",
    }


def show_case(terminal: Terminal, case: Case, results: Results) -> None:
    """Print the medians of a case, their ratios, and its histogram."""
    loops = results.loops(case.name)
    if not loops:
        return
    terminal.line("")
    terminal.line((case.title, "bold"))
    medians = {loop: results.medians(case.name, loop) for loop in loops}
    ours = next((loop for loop in ("hwloop", COMPILED) if loop in loops), None)
    against = [to for to in ("asyncio", FLOOR, CYCLICTEST) if to in loops and ours]
    rows = [["", *loops, *(f"to {to}" for to in against)]]
    for figure in dict.fromkeys(figure for figures in medians.values() for figure in figures):
        ratios = [results.ratio(case.name, figure, ours or "", to) for to in against]
        rows.append(
            [
                figure,
                *(number(medians[loop][figure]) if figure in medians[loop] else "" for loop in loops),
                *("" if ratio is None else f"{ratio:.3f}" for ratio in ratios),
            ]
        )
    terminal.table(rows, left=1)
    histogram = histogram_lines({loop: results.histogram(case.name, loop) for loop in loops})
    if histogram:
        terminal.line("")
    for line in histogram:
        terminal.line(line)


def number(value: float) -> str:
    """Format a figure with a sensible number of digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def histogram_lines(histograms: Mapping[str, Mapping[int, int]]) -> list[str]:
    """Return histograms (counts by `processes.bucket`) side by side in text; no lines if all are empty."""
    shown = {loop: counts for loop, counts in histograms.items() if counts}
    if not shown:
        return []
    lows = sorted({low for counts in shown.values() for low in counts})
    if lows[-1] > 0:  # without gaps, so that the eye can compare
        first = next(low for low in lows if low > 0)
        powers = [1 << power for power in range(first.bit_length() - 1, lows[-1].bit_length())]
        lows = [low for low in lows if low <= 0] + powers
    totals = {loop: sum(counts.values()) for loop, counts in shown.items()}
    most = max(count / totals[loop] for loop, counts in shown.items() for count in counts.values())
    column = min(24, (WIDTH - _LABEL) // len(shown) - 2)
    lines = [f"{'from':>{_LABEL}}" + "".join(f"  {loop:{column}}" for loop in shown).rstrip()]
    for low in lows:
        cells = []
        for loop, counts in shown.items():
            share = counts.get(low, 0) / totals[loop]
            bar = "#" * round(share / most * (column - _PERCENT))
            percent = "" if not share else "<1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")
            cells.append(f"  {bar} {percent}".ljust(column + 2))
        lines.append(f"{_bound(low):>{_LABEL}}{''.join(cells)}".rstrip())
    return lines


def _bound(low: int) -> str:
    """Format the lower bound of a bucket."""
    if low < 0:
        return "early"
    if low < 1000:
        return f"{low} µs"
    return f"{low / 1e3:.0f} ms" if low < 1_000_000 else f"{low / 1e6:.0f} s"


def load_matplotlib() -> None:
    """Raise `UsageError` without matplotlib, before anything is measured."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib, which is not installed; install it with: pip install 'hwloop[plot]'"
        ) from None


def plot(path: str, results: Results, facts: Mapping[str, str]) -> None:
    """Draw the histograms of all cases into a file, in the format of its suffix."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    cases = [
        case
        for case in results.cases.values()
        if any(results.histogram(case.name, loop) for loop in results.loops(case.name))
    ]
    if not cases:
        raise Failure(f"{path}: nothing to draw: none of the chosen benchmarks measures latencies")
    figure, axes = pyplot.subplots(
        len(cases), 1, figsize=(9, 2.6 * len(cases) + 0.6), squeeze=False, layout="constrained"
    )
    for axis, case in zip(axes[:, 0], cases, strict=True):
        for loop in results.loops(case.name):
            counts = {max(low, 0.5): count for low, count in results.histogram(case.name, loop).items()}
            lows = [2.0**power for power in range(-1, 21)]
            total = sum(counts.values())
            axis.stairs([100 * counts.get(low, 0) / total for low in lows], [*lows, 2.0**21], label=loop, linewidth=1.6)
        axis.set(xscale="log", xlim=(1, 2e5), ylabel="%", title=case.title)
        axis.legend(fontsize="small")
    axes[-1, 0].set_xlabel("late by, µs")
    figure.suptitle(f"{facts['machine']}, {facts['kernel']}, {facts['Python']}", fontsize="small")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise Failure(f"--plot {path}: {error}") from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
