"""Periodic work without drift: `every()` for tasks, `loop.call_every()` for callbacks; and timers that may be late.

A tick's time is the start plus a whole number of periods. Adding the period to the last tick's float would drift, and
sleeping a period after the work would drift by the work. Here ticks are numbered, and the time of each is reckoned
anew from the period as an exact ratio, rounded once to a nanosecond: so tick 1,000,000 of a sixtieth of a second is
where it belongs. A tick that can't be kept is skipped and counted, unless told otherwise.

Timers with a tolerance share wakeups, see `hwloop.core.tolerant_timers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from hwloop.core import clock
from hwloop.core.handles import TimerHandle
from hwloop.core.naming import short_name
from hwloop.core.urgency import URGENCY, Priority, as_deadline, as_priority
from hwloop.errors import check_range
from hwloop.scheduling.cooperative import scheduled

if TYPE_CHECKING:
    from hwloop.core.tolerant_timers import Tolerant

Overrun = Literal["skip", "catch-up", "delay"]


class Tick(NamedTuple):
    """One tick."""

    scheduled: float
    """When it was due: seconds, loop time."""
    lateness: float
    """Seconds from then until it got to run."""
    missed: int
    """Ticks skipped since the last one, because the work or the loop took longer than a period."""
    missed_deadline: bool = False
    """Whether it got to run later than its deadline after it was due."""


class Plan(NamedTuple):
    """A tick of a `Schedule` that was not taken yet."""

    due_ns: int
    missed: int
    """Ticks that are skipped if it is taken."""
    start_ns: int
    number: int
    """Where the schedule stands if it is taken."""
    taken_before: int


class Schedule:
    """The times of the ticks: nanoseconds, loop time. For parameters see `every`."""

    __slots__ = ("_denominator", "_number", "_numerator", "_overrun", "_phase", "_start_ns", "_taken")

    def __init__(self, period: float, phase: float | None, overrun: Overrun) -> None:
        check_range("a period in seconds", period, 1e-6, 1e9)
        if phase is not None and check_range("a phase in seconds", phase, 0, period) == period:
            raise ValueError(f"a phase must be less than the period of {period!r} s")
        if overrun not in get_args(Overrun):
            raise ValueError(f"overrun must be one of {', '.join(map(repr, get_args(Overrun)))}, not {overrun!r}")
        numerator, self._denominator = period.as_integer_ratio()
        self._numerator = numerator * 1_000_000_000
        self._phase = phase
        self._overrun = overrun
        self._start_ns: int | None = None
        self._number = self._taken = 0

    def next(self, now_ns: int) -> tuple[int, int]:
        """When the next tick is due, which may be in the past, and how many were skipped before it."""
        plan = self.plan(now_ns)
        self.take(plan)
        return plan.due_ns, plan.missed

    def plan(self, now_ns: int) -> Plan:
        """The next tick, which is still the next one as long as nobody takes it."""
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
        """Go on to the tick after this one. False if another consumer has taken it since it was planned."""
        if plan.taken_before != self._taken:
            return False
        self._taken += 1
        self._start_ns, self._number = plan.start_ns, plan.number
        return True

    def _due_ns(self, number: int) -> int:
        """When a tick is due, rounded to the nearest nanosecond."""
        assert self._start_ns is not None
        return self._start_ns + (2 * number * self._numerator + self._denominator) // (2 * self._denominator)

    def _last_by(self, now_ns: int) -> int:
        """The last tick that is due by `now_ns`."""
        assert self._start_ns is not None
        return (now_ns - self._start_ns) * self._denominator // self._numerator


class every:
    """`async for tick in every(period)`: a `Tick` each `period` seconds; the first is due one period from now.

    Parameters:
        period: seconds from tick to tick, from a microsecond on.
        phase: where the ticks lie, in seconds below the period: those of all tasks with a phase are counted from the
            origin of the loop's clock, so `every(0.01, phase=0)` and `every(0.01, phase=0.005)` take turns.
        deadline: seconds after it was due within which a tick should get to run. Among what is ready with the same
            priority, the earliest deadline runs first; a tick that is later says so (`missed_deadline`).
        priority: how urgent the tick's wakeup is. What the task waits for in its work is as urgent as the task.
        tolerance: seconds that the wakeup may be later, to share it with others (`loop.call_tolerant`).
        overrun: what becomes of a tick that was due before the work of the last one had ended. "skip": it comes at
            once, those of which even the next is due are skipped and counted, and the grid stays. "catch-up": all
            come, one after the other, until none is late. "delay": it comes at once, and the grid begins anew with
            it, so that at least a period lies between it and the next.

    A tick is never early. A wait for one that is cancelled, by a timeout for instance, takes none: the next wait is for
    the same tick, or for what `overrun` says if that is late by then. On another loop than hwloop's, priority, deadline
    and tolerance have no effect, but for `missed_deadline`. Raises ValueError for what is out of range, TypeError for
    what is no number.
    """

    def __init__(
        self,
        period: float,
        *,
        phase: float | None = None,
        deadline: float | None = None,
        priority: Priority | None = None,
        tolerance: float = 0.0,
        overrun: Overrun = "skip",
    ) -> None:
        self._schedule = Schedule(period, phase, overrun)
        self._deadline = _checked_deadline(deadline)
        self._priority = None if priority is None else as_priority(priority)
        self._tolerance = _checked_tolerance(tolerance)
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
                return _tick(when, loop.time() - when, plan.missed, self._deadline)

    async def _wait_until(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() >= when:
            await asyncio.sleep(0)  # late, but others get their turn
        while loop.time() < when:  # other loops' timers may be early
            due = loop.create_future()
            timer = _call_about(loop, when, self._tolerance, _release, due)
            try:
                await due
            finally:
                timer.cancel()


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
        """No more ticks. Harmless when repeated, and from the callback itself."""
        self._cancelled = True
        self._timer.cancel()

    def cancelled(self) -> bool:
        """Whether `cancel()` was called."""
        return self._cancelled

    def __call__(self) -> None:
        """The next tick, called by the loop."""
        self.tick = tick = _tick(self._when, self._loop.time() - self._when, self._skipped, self._deadline)
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
        self._timer = _call_about(self._loop, self._when, self._tolerance, self, context=self._context)


class TolerantHandle(TimerHandle):
    """A timer with a tolerance. Until it is due, it is not in the loop's own heap (`_scheduled` is false)."""

    __slots__ = ("_waiting",)
    _waiting: bool

    def cancel(self) -> None:
        super().cancel()
        if self._waiting:
            self._waiting = False
            self._loop._tolerant.cancelled()


class Timed:
    """A mixin of `hwloop.EventLoop`: timers that asyncio does not have."""

    _debug: bool
    _guarded: bool
    _new_timers: list[Any]
    _tolerant: Tolerant
    _timer_sequence: int

    if TYPE_CHECKING:  # the loop's

        def heed_urgency(self) -> None: ...
        def _admit_timers(self) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: object, method: str) -> None: ...

    def call_tolerant(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        tolerance: float,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Like `call_at`, but the loop need not wake for it until `tolerance` seconds after `when` (loop time).

        Timers within each other's tolerance share one wakeup. It runs at `when` or at the first look after it, if the
        loop is awake anyway; never before. Raises ValueError for a time or tolerance that is not finite or negative.
        """
        if self._guarded or not (0 <= tolerance <= 1e9 and -_LATEST <= when <= _LATEST):
            check_range("when (loop time)", when, -_LATEST, _LATEST)
            _checked_tolerance(tolerance)
            self._check_closed()
            if self._debug:
                self._check_thread()
                self._check_callback(callback, "call_tolerant")
        timer = TolerantHandle(when, callback, args, self, copy_context() if context is None else context)
        if self._new_timers:
            self._admit_timers()  # equal times run in the order in which they were set
        self._timer_sequence += 1
        self._tolerant.add(when, tolerance, self._timer_sequence, timer)
        return timer

    def call_every(
        self,
        period: float,
        callback: Callable[..., object],
        *args: Any,
        phase: float | None = None,
        deadline: float | None = None,
        priority: Priority | None = None,
        tolerance: float = 0.0,
        overrun: Overrun = "skip",
    ) -> Periodic:
        """Call `callback(*args)` each `period` seconds, first one period from now, until what is returned is cancelled.

        For the parameters see `hwloop.every`; the priority and the deadline are also those of what the callback
        schedules. A callback that raises is reported, and the next tick still comes.
        """
        schedule = Schedule(period, phase, overrun)
        _checked_deadline(deadline)
        _checked_tolerance(tolerance)
        self._check_closed()
        self._check_callback(callback, "call_every")
        if self._debug:
            self._check_thread()
        context = copy_context()
        if priority is not None or deadline is not None:
            urgency = URGENCY.get()
            if priority is not None:
                urgency = urgency._replace(priority=as_priority(priority))
            if deadline is not None:
                urgency = urgency._replace(deadline=deadline)
            context.run(URGENCY.set, urgency)
            self.heed_urgency()
        loop: Any = self
        return Periodic(loop, schedule, callback, args, context, deadline, tolerance)


_PLAIN = contextlib.nullcontext()
_LATEST = 1e18  # seconds, loop time; more is a mistake


def _tick(when: float, lateness: float, missed: int, deadline: float | None) -> Tick:
    return Tick(when, lateness, missed, deadline is not None and lateness > deadline)


def _call_about(
    loop: asyncio.AbstractEventLoop,
    when: float,
    tolerance: float,
    callback: Callable[..., object],
    *args: object,
    context: Context | None = None,
) -> asyncio.TimerHandle:
    """A timer with a tolerance where there is one and the loop knows of it, else an ordinary one."""
    if tolerance and isinstance(loop, Timed):
        return loop.call_tolerant(when, callback, *args, tolerance=tolerance, context=context)
    return loop.call_at(when, callback, *args, context=context)


def _release(due: asyncio.Future[None]) -> None:
    if not due.done():
        due.set_result(None)


def _checked_deadline(deadline: float | None) -> float | None:
    return None if deadline is None else as_deadline(check_range("a deadline in seconds", deadline, 0, 1e9))


def _checked_tolerance(tolerance: float) -> float:
    return check_range("a tolerance in seconds", tolerance, 0, 1e9)
