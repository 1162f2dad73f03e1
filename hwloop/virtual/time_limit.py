"""Time limits: they end a run in virtual time that would never end by itself.

Virtual time costs nothing, so a program that waits for an edge that never comes, on a board on which a button presses
itself, would let centuries pass and use a processor all the while. Two limits end that with a `TimeLimitError`:

- the limit that the program or HWLOOP_LIMIT sets: virtual seconds for one run of the loop;
- without one, the *stall* limit. It applies while the program waits without a timer and nothing on the board reaches
  it. It counts from when every event has happened that was planned on the board when the wait began: after that, the
  board's parts only repeat themselves. A program that waits a day for a planned edge is not affected.
"""

from __future__ import annotations

import math
import os
import time
from typing import Protocol

STALL_SECONDS = 30 * 86400.0
"""Virtual seconds for which a stall may last."""

STALL_CPU_SECONDS = 3.0
"""Seconds of processor time for which a stall may last."""

_CHECK_EVERY = 256
_ADVICE = "limit=, --limit or HWLOOP_LIMIT (virtual seconds, or inf) changes this"


class LimitedClock(Protocol):
    """The part of a virtual clock that a time limit uses."""

    seconds: float

    def now_ns(self) -> int: ...
    def planned(self) -> tuple[int, ...]: ...
    def plans_before(self, counts: tuple[int, ...]) -> bool: ...


def chosen_limit(limit: float | None) -> float | None:
    """Return the limit in seconds: the given one, else HWLOOP_LIMIT's, else None.

    Raises TypeError or ValueError unless it is a number above 0.
    """
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise TypeError(f"limit must be a number of virtual seconds, not {limit!r}")
        if not limit > 0:
            raise ValueError(f"limit must be more than 0 virtual seconds, not {limit!r}; inf means no limit")
        return limit
    text = os.environ.get("HWLOOP_LIMIT", "")
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise ValueError(f"HWLOOP_LIMIT must be a number of virtual seconds above 0, or inf, not {text!r}")
    return limit


class TimeLimit:
    """Decides when virtual time has passed for too long. One for each clock."""

    def __init__(self, clock: LimitedClock, limit: float | None) -> None:
        self._clock = clock
        self._limit = limit
        self.ends_ns: float = math.inf
        """The time at which the run must end."""
        self._last_ns: float = math.inf
        self._last_reason = ""
        self._jumps = 0
        self._planned: tuple[int, ...] = (0,)
        self._stalled_until = math.inf
        self._cpu = 0.0

    def begin_run(self) -> None:
        """Begin to count: a run of the loop begins."""
        ends_ns = math.inf if self._limit is None else self._clock.now_ns() + self._limit * 1e9
        self.ends_ns = min(ends_ns, self._last_ns)

    def end_by(self, when_ns: int, reason: str) -> None:
        """End all runs by this time, for this reason."""
        self._last_ns, self._last_reason = when_ns, reason

    def begin_wait(self) -> None:
        """Begin to count: the program begins a wait that no timer ends."""
        self._jumps = 0
        self._stalled_until = math.inf
        self._planned = self._clock.planned()

    def reason(self) -> str:
        """Return the reason why the run must end at `ends_ns`."""
        if self.ends_ns == self._last_ns:
            return self._last_reason
        return f"the limit of {self._limit:g} s of virtual time has passed, and this program has not ended; {_ADVICE}"

    def reached(self, next_ns: int, *, waits: bool) -> str | None:
        """Return the reason why the run must end rather than go on to `next_ns`, or None.

        `waits` says whether the program waits without a timer.
        """
        reason = self.stalled() if waits else None
        return self.reason() if next_ns > self.ends_ns else reason

    def stalled(self, jumps: int = 1) -> str | None:
        """Return the reason why a wait without a timer must end, or None. Called after each jump of such a wait, or
        after some."""
        if self._limit is not None:
            return None
        before, self._jumps = self._jumps // _CHECK_EVERY, self._jumps + jumps
        if self._jumps // _CHECK_EVERY == before and self._clock.seconds < self._stalled_until:
            return None
        if self._stalled_until == math.inf:
            if not self._clock.plans_before(self._planned):
                self._stalled_until = self._clock.seconds + STALL_SECONDS
                self._cpu = time.thread_time()
            return None
        used = time.thread_time() - self._cpu
        if used < STALL_CPU_SECONDS and self._clock.seconds < self._stalled_until:
            return None
        passed = self._clock.seconds - (self._stalled_until - STALL_SECONDS)
        return (
            f"this program waits for an event that never comes: for {passed:.0f} s of virtual time and {used:.1f} s of "
            f"processor time only the simulated board has moved, and none of its events reached the program; {_ADVICE}"
        )
