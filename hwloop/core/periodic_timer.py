"""Periodic timers without drift: `loop.call_every()`, and the grid of ticks behind `hwloop.every()`.

A tick's time is the start plus a whole number of periods. Adding the period to the last tick's float would drift, and
sleeping a period after the work would drift by the work. Here ticks are numbered, and the time of each is computed
anew from the period as an exact ratio, rounded once to a nanosecond: so tick 1,000,000 of a sixtieth of a second is
where it belongs. A tick that is late is skipped and counted, unless the program chooses otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Literal, NamedTuple, get_args

from hwloop.core import clock
from hwloop.core.naming import short_name
from hwloop.core.urgency import as_deadline
from hwloop.errors import check_range

OverrunPolicy = Literal["skip", "catch-up", "delay"]


class Tick(NamedTuple):
    """One tick of a periodic timer."""

    scheduled: float
    """When it was due: seconds, loop time."""
    lateness: float
    """Seconds from then until it got to run."""
    missed: int
    """Ticks skipped since the last one, because the work or the loop took longer than a period."""
    missed_deadline: bool = False
    """Whether it got to run later than its deadline after it was due."""


class Plan:
    """A tick of a `Schedule` that is not taken yet.

    Attributes:
        due_ns: when it is due.
        missed: ticks that are skipped if it is taken.
        start_ns: where the grid starts.
        number: the number of the tick on the grid.
        taken_before: the number of ticks that were taken when it was planned.
    """

    __slots__ = ("due_ns", "missed", "number", "start_ns", "taken_before")

    def __init__(self, due_ns: int, missed: int, start_ns: int, number: int, taken_before: int) -> None:
        self.due_ns: int = due_ns
        self.missed: int = missed
        self.start_ns: int = start_ns
        self.number: int = number
        self.taken_before: int = taken_before


class Schedule:
    """The times of the ticks: nanoseconds, loop time. For parameters see `every`."""

    __slots__ = ("_denominator", "_number", "_numerator", "_overrun", "_phase", "_start_ns", "_taken")

    def __init__(self, period: float, phase: float | None, overrun: OverrunPolicy) -> None:
        check_range("a period in seconds", period, 1e-6, 1e9)
        if phase is not None and check_range("a phase in seconds", phase, 0, period) == period:
            raise ValueError(f"a phase must be less than the period of {period!r} s")
        if overrun not in get_args(OverrunPolicy):
            raise ValueError(f"overrun must be one of {', '.join(map(repr, get_args(OverrunPolicy)))}, not {overrun!r}")
        numerator, self._denominator = period.as_integer_ratio()
        self._numerator = numerator * 1_000_000_000
        self._phase = phase
        self._overrun = overrun
        self._start_ns: int | None = None
        self._number = self._taken = 0

    def next(self, now_ns: int) -> tuple[int, int]:
        """Take the next tick. Return when it is due, perhaps in the past, and how many were skipped before it."""
        plan = self.plan(now_ns)
        self.take(plan)
        return plan.due_ns, plan.missed

    def plan(self, now_ns: int) -> Plan:
        """Return the next tick. It stays the next one until a call of `take`."""
        if self._start_ns is None:
            self._start_ns = now_ns if self._phase is None else clock.to_ns(self._phase)
            self._number = self._last_by(now_ns)
        number = self._number + 1
        due_ns = self._due_ns(number)
        if due_ns >= now_ns or self._overrun == "catch-up":
            return Plan(due_ns, 0, self._start_ns, number, self._taken)
        if self._overrun == "delay":
            return Plan(due_ns, 0, now_ns, 0, self._taken)
        last = self._last_by(now_ns)
        return Plan(self._due_ns(last), last - number, self._start_ns, last, self._taken)

    def take(self, plan: Plan) -> bool:
        """Go on to the tick after this one. Return False if another consumer has taken it since it was planned."""
        if plan.taken_before != self._taken:
            return False
        self._taken += 1
        self._start_ns, self._number = plan.start_ns, plan.number
        return True

    def _due_ns(self, number: int) -> int:
        """Return when a tick is due, rounded to the nearest nanosecond."""
        assert self._start_ns is not None
        return self._start_ns + (number * self._numerator + (self._denominator >> 1)) // self._denominator

    def _last_by(self, now_ns: int) -> int:
        """Return the number of the last tick that is due by `now_ns`."""
        assert self._start_ns is not None
        return (now_ns - self._start_ns) * self._denominator // self._numerator


class Periodic:
    """A callback that runs each period; made by `loop.call_every`.

    Attributes:
        tick: the present or last `Tick`; None before the first.
        ticks: how many there were.
        missed: ticks that were skipped.
        missed_deadlines: ticks that came after their deadline.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        schedule: Schedule,
        callback: Callable[..., object],
        args: tuple[object, ...],
        context: Context,
        deadline: float | None,
        tolerance: float,
    ) -> None:
        self.tick: Tick | None = None
        self.ticks: int = 0
        self.missed: int = 0
        self.missed_deadlines: int = 0
        self._loop = loop
        self._schedule = schedule
        self.__wrapped__ = self._callback = callback  # reports name it instead of us
        self._args = args
        self._context = context
        self._deadline = deadline
        self._tolerance = tolerance
        self._cancelled = False
        self._arm()

    def cancel(self) -> None:
        """Stop. Harmless when repeated, and from the callback itself."""
        self._cancelled = True
        self._timer.cancel()

    def cancelled(self) -> bool:
        """Return whether `cancel()` was called."""
        return self._cancelled

    def __call__(self) -> None:
        """Run the next tick; called by the loop."""
        self.tick = tick = tick_of(self._when, self._loop.time() - self._when, self._skipped, self._deadline)
        self.ticks += 1
        self.missed += tick.missed
        self.missed_deadlines += tick.missed_deadline
        try:
            self._callback(*self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler({"message": f"Exception in {self!r}; it goes on", "exception": error})
        finally:
            if not self._cancelled:
                self._arm()

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else f"after {self.ticks} ticks"
        return f"<Periodic {short_name(self._callback)} {state}>"

    def _arm(self) -> None:
        due_ns, self._skipped = self._schedule.next(clock.to_ns(self._loop.time()))
        self._when = clock.from_ns(due_ns)
        self._timer = call_about(self._loop, self._when, self._tolerance, self, context=self._context)


def tick_of(when: float, lateness: float, missed: int, deadline: float | None) -> Tick:
    """Return the tick that was due at `when`."""
    return Tick(when, lateness, missed, deadline is not None and lateness > deadline)


def call_about(
    loop: asyncio.AbstractEventLoop,
    when: float,
    tolerance: float,
    callback: Callable[..., object],
    *args: object,
    context: Context | None = None,
) -> asyncio.TimerHandle:
    """Set a timer, with the tolerance if it is not 0 and the loop has such timers."""
    tolerant: Any = getattr(loop, "call_tolerant", None) if tolerance else None
    if tolerant is None:
        return loop.call_at(when, callback, *args, context=context)
    return tolerant(when, callback, *args, tolerance=tolerance, context=context)  # type: ignore[no-any-return]


def checked_deadline(deadline: float | None) -> float | None:
    """Return `deadline`, in seconds. Raises TypeError or ValueError for an invalid one."""
    return None if deadline is None else as_deadline(check_range("a deadline in seconds", deadline, 0, 1e9))


def checked_tolerance(tolerance: float) -> float:
    """Return `tolerance`, in seconds. Raises TypeError or ValueError for an invalid one."""
    return check_range("a tolerance in seconds", tolerance, 0, 1e9)
