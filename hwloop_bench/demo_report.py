"""The result of `hwloop demo`: tables with the loops side by side, and a verdict that depends on them."""

from __future__ import annotations

from collections.abc import Sequence

from hwloop.cli.term import Colour, Terminal
from hwloop_bench.performance import PHASES, Account, Performance, milliseconds, quantiles

MOST_MISSING = 0.01
"""The share of events skipped or lost up to which a performance counts as a success."""


def print_result(terminal: Terminal, performances: Sequence[Performance]) -> None:
    """Print the tables of all performances, and the verdict on the last one."""
    terminal.line()
    rows = [("part", "events", "loop", "in", "delivered", "lost", "skipped")]
    for accounts in zip(*(each.accounts for each in performances), strict=True):
        for each, (part, unit, *numbers) in zip(performances, accounts, strict=True):
            first = each is performances[0]
            rows.append((part if first else "", unit if first else "", each.loop, *map(str, numbers)))  # type: ignore[arg-type]
    terminal.table(rows, left=3)
    terminal.line()
    terminal.table([("", "", "loop", "p50", "p99", "max"), *_figures(performances)], left=3)
    terminal.line()
    for each in performances:
        prefix = f"on {each.loop}: " if len(performances) > 1 else ""
        for difference in each.differences():
            terminal.line((prefix + difference, "red"))
    if len(performances) > 1:
        for line in comparison(*performances):
            terminal.line(line)
    if not performances[-1].differences():
        terminal.line(verdict(performances[-1]))


def _figures(performances: Sequence[Performance]) -> list[tuple[str, ...]]:
    rows = []
    for name in performances[0].figures():
        for number, phase in enumerate(PHASES):
            for each in performances:
                histogram = each.figures()[name][number]
                labels = (name if number == 0 else "", phase) if each is performances[0] else ("", "")
                values = (milliseconds(ns) if histogram.count else "-" for ns in quantiles(histogram))
                rows.append((*labels, each.loop, *values))
    return rows


def comparison(first: Performance, second: Performance) -> list[str]:
    """Return sentences that compare the loops."""
    edges, ticks = [], []
    for each in (first, second):
        latency = each.edge_latency[1]
        if latency.count:  # an interrupted performance has perhaps none
            edges.append(f"{milliseconds(latency.quantile(0.5))} on {each.loop}")
        control = next(account for account in each.accounts if account.part == "control")
        ticks.append(f"{each.loop} skipped {control.skipped} of {control.came_in}")
    lines = [f"Edge to handler under load (median): {', '.join(edges)}."] if len(edges) == 2 else []
    return [*lines, f"Ticks: {', '.join(ticks)}."]


def verdict(performance: Performance) -> tuple[str, Colour]:
    """Return the verdict on a performance without differences: green only if hardly any event was lost or skipped."""
    worst = max(performance.accounts, key=_missing)
    if _missing(worst) <= MOST_MISSING:
        return f"Every event is accounted for, and {performance.loop} delivered at least 99 % of each kind.", "green"
    missing = f"{worst.lost + worst.skipped} of {worst.came_in} {worst.unit}"
    return f"Every event is accounted for, but {performance.loop} lost or skipped {missing}.", "yellow"


def _missing(account: Account) -> float:
    """Return the share of events that were lost or skipped."""
    return (account.lost + account.skipped) / max(1, account.came_in)
