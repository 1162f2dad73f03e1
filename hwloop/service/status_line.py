"""The status line: figures of the program in `systemctl status`, after the program's own text.

    Status: "door open | 3 sources, 12 events/s, 99 % of timers within 0.5 ms, 2 lost"

A timer of the loop renews it every ten seconds, and sends it only where it has changed: rates are rounded, so a program
at rest sends nothing. Totals (lost, dropped, missed deadlines) count from the start, rates and lateness since the last
renewal.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Mapping
from typing import Any

from hwloop.core.naming import error_text
from hwloop.service import lifecycle
from hwloop.service.figures import Figures, collect
from hwloop.service.messages import show_figures

logger: logging.Logger = logging.getLogger("hwloop.service")

EVERY = 10.0
"""Seconds from one renewal to the next."""

TOLERANCE = 5.0
"""Seconds that a renewal may be late, so that it does not wake a loop that sleeps."""

NAMES_SHOWN = 3


class StatusLine:
    """Renews the status line from `start()` to `stop()`, while it is the only one of the process.

    Parameters:
        loop: the loop whose figures are shown.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop
        self._timer: asyncio.TimerHandle | None = None
        self._last: Figures | None = None

    def start(self) -> None:
        """Begin. Harmless if another one has begun."""
        global _shown
        if _shown is None:
            _shown = self
            self._last = collect(self._loop)
            self._plan()

    def stop(self) -> None:
        """End. Harmless when repeated."""
        global _shown
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if _shown is self:
            _shown = None

    def _plan(self) -> None:
        when = self._loop.time() + EVERY
        context = contextvars.Context()  # the urgency of whoever called start() is not the timer's
        self._timer = self._loop.call_tolerant(when, self._renew, tolerance=TOLERANCE, context=context)

    def _renew(self) -> None:
        if lifecycle.is_stopping():
            return
        try:
            now = collect(self._loop)
            assert self._last is not None
            show_figures(line(self._last, now))
            self._last = now
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            logger.exception("the status line can't be renewed any more: %s", error_text(error))
            return
        self._plan()


_shown: StatusLine | None = None


def line(before: Figures, now: Figures) -> str:
    """Return the figures of a program in a few words: rates since `before`, totals as of `now`."""
    seconds = now.time - before.time
    old = _totals(before)
    new = _totals(now)
    away = [each.counts.name for each in now.sources if each.is_open is False]
    overdue = [name for name, is_overdue in now.overdue.items() if is_overdue]
    misses = sum(each.count for each in now.loop.deadline_misses.values())
    received = sum(max(new[name][0] - old.get(name, (0, 0, 0))[0], 0) for name in new)
    parts = [
        f"{len(now.sources)} source{'' if len(now.sources) == 1 else 's'}",
        f"{_rounded(received / seconds) if seconds > 0 else 0} events/s",
    ]
    if (bound := _lateness(before.loop.lateness.cumulative, now.loop.lateness.cumulative)) is not None:
        parts.append(f"99 % of timers within {bound * 1e3:g} ms")
    for count, what in (
        (sum(each[1] for each in new.values()), "lost"),
        (sum(each[2] for each in new.values()), "dropped"),
        (misses, "deadline missed" if misses == 1 else "deadlines missed"),
    ):
        if count:
            parts.append(f"{count} {what}")
    for names, what in ((away, "away"), (overdue, "overdue")):
        if names:
            parts.append(f"{what}: {', '.join(names[:NAMES_SHOWN])}{' …' if len(names) > NAMES_SHOWN else ''}")
    return ", ".join(parts)


def _totals(figures: Figures) -> dict[str, tuple[int, int, int]]:
    """Return by name of each source the events that were received, lost and dropped."""
    totals: dict[str, tuple[int, int, int]] = {}
    for counts, *_ in figures.sources:
        received, lost, dropped = totals.get(counts.name, (0, 0, 0))
        totals[counts.name] = received + counts.received, lost + counts.lost, dropped + counts.dropped
    return totals


def _lateness(before: Mapping[float, int], now: Mapping[float, int]) -> float | None:
    """Return the bound within which 99 % of the durations between two times lie; None without any."""
    counts = {bound: count - before[bound] for bound, count in now.items()}
    most = max(counts.values())
    return next((bound for bound, count in counts.items() if most and count >= 0.99 * most), None)


def _rounded(rate: float) -> str:
    """Return a rate with two significant digits."""
    digits = float(f"{rate:.2g}")
    return f"{digits:.0f}" if digits >= 10 else f"{digits:g}"
