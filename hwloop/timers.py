"""Periodic work without drift: `every()`.

A tick's time is the start plus a whole number of periods, counted in integer nanoseconds, so a million ticks later the
error is still below a nanosecond. (Adding the period to the last tick's float would drift; sleeping a period after
the work would drift by the work.) A tick that can't be kept is skipped and counted, never caught up in a burst.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self


class Tick(NamedTuple):
    """One tick of `every()`."""

    scheduled: float
    """When it was due: seconds, loop time."""
    lateness: float
    """Seconds from then until the task got to run."""
    missed: int
    """Ticks skipped since the last one, because the work or the loop took longer than a period."""


class every:
    """`async for tick in every(period)`: a `Tick` each `period` seconds; the first is due one period from now.

    Works on any asyncio loop. Raises ValueError for a period below a microsecond, or one that is no finite number.
    """

    def __init__(self, period: float) -> None:
        if not 1e-6 <= period < float("inf"):
            raise ValueError(f"a period is in seconds, at least a microsecond, not {period!r}")
        self._period_ns = round(period * 1e9)
        self._due_ns = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tick:
        loop = asyncio.get_running_loop()
        if not self._due_ns:
            self._due_ns = round(loop.time() * 1e9) + self._period_ns
        # Ticks whose successor is due too are gone.
        missed = max(0, (round(loop.time() * 1e9) - self._due_ns) // self._period_ns)
        self._due_ns += missed * self._period_ns
        scheduled = self._due_ns / 1e9
        self._due_ns += self._period_ns
        if loop.time() < scheduled:
            due = loop.create_future()
            timer = loop.call_at(scheduled, _release, due)
            try:
                await due
            finally:
                timer.cancel()
        else:
            await asyncio.sleep(0)  # late, but others get their turn
        return Tick(scheduled, loop.time() - scheduled, missed)


def _release(due: asyncio.Future[None]) -> None:
    if not due.done():
        due.set_result(None)
