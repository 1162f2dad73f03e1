"""Periodic work in a task: `async for tick in hwloop.every(period)`.

The ticks lie on a grid that does not drift, see `hwloop.core.periodic_timer`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from hwloop.core import clock
from hwloop.core.periodic_timer import (
    OverrunPolicy,
    Schedule,
    Tick,
    call_about,
    checked_deadline,
    checked_tolerance,
    tick_of,
)
from hwloop.core.urgency import Priority, as_priority
from hwloop.scheduling.cooperative import scheduled


class every:
    """`async for tick in every(period)`: a `Tick` each `period` seconds; the first is due one period from now.

    Parameters:
        period: seconds from tick to tick, from a microsecond on.
        phase: where the ticks lie, in seconds below the period: those of all tasks with a phase are counted from the
            origin of the loop's clock, so `every(0.01, phase=0)` and `every(0.01, phase=0.005)` take turns.
        deadline: seconds after it was due within which a tick should get to run. Among what is ready with the same
            priority, the earliest deadline runs first; a tick that is later says so (`missed_deadline`).
        priority: how urgent the tick's wakeup is. The task's other wakeups have the urgency of the task.
        tolerance: seconds that the wakeup may be later, to share it with others (`loop.call_tolerant`).
        overrun: decides about ticks that were due before the work of the last one had ended. "skip": only the latest of
            them comes, at once; the others are skipped and counted, and the grid stays. "catch-up": all come, one after
            the other, until none is late. "delay": one comes at once, and the grid begins anew with it, so that at
            least a period lies between it and the next.

    A tick is never early. A wait that is cancelled, by a timeout for instance, takes no tick: the next wait is for the
    same tick, or for the one that `overrun` chooses if that is late by then. On another loop than hwloop's, priority
    and tolerance have no effect, and a deadline only sets `missed_deadline`. Raises ValueError for a value out of
    range, TypeError for one that is not a number.
    """

    def __init__(
        self,
        period: float,
        *,
        phase: float | None = None,
        deadline: float | None = None,
        priority: Priority | None = None,
        tolerance: float = 0.0,
        overrun: OverrunPolicy = "skip",
    ) -> None:
        self._schedule = Schedule(period, phase, overrun)
        self._deadline = checked_deadline(deadline)
        self._priority = None if priority is None else as_priority(priority)
        self._tolerance = checked_tolerance(tolerance)
        self._urgent = deadline is not None or priority is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tick:
        loop = asyncio.get_running_loop()
        while True:
            # Taken after the wait: a wait that is cancelled takes no tick.
            plan = self._schedule.plan(clock.to_ns(loop.time()))
            when = clock.from_ns(plan.due_ns)
            # The wakeup looks the urgency up in the task's context, where it stands for as long as the task waits.
            urgency = scheduled(priority=self._priority, deadline=self._deadline) if self._urgent else _PLAIN
            with urgency:
                await self._wait_until(when, loop)
            if self._schedule.take(plan):
                return tick_of(when, loop.time() - when, plan.missed, self._deadline)

    async def _wait_until(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() >= when:
            await asyncio.sleep(0)  # late, but others get their turn
        while loop.time() < when:  # other loops' timers may be early
            due = loop.create_future()
            timer = call_about(loop, when, self._tolerance, _release, due)
            try:
                await due
            finally:
                timer.cancel()


_PLAIN = contextlib.nullcontext()


def _release(due: asyncio.Future[None]) -> None:
    if not due.done():
        due.set_result(None)
