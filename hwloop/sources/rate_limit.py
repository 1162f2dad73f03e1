"""A limit on how often a source is read: above it, the source is off the loop until its bucket has filled again.

A line that chatters, or a device that babbles, wakes the loop for each edge or byte, at the expense of everything else
in the program. Reads in batches cost a tenth. So a source above its limit is not read for a while (as with sd-event's
rate limit, sd_event_source_set_ratelimit(3)), and the kernel's buffers collect its events: hwloop loses none, losses of
a full buffer are counted as always, and the buffered events arrive late, with their own timestamps.

A source comes back when its bucket is full, not at the next token: so it goes off seldom, for `burst / rate` seconds.
The kernel's buffer must suffice for that long.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from hwloop.core import clock
from hwloop.scheduling.limits import TokenBucket

CALM = 1.0
"""Seconds within its limit after which the log reports a source as back; one that keeps chattering is reported once."""

HOLD = 0.05
"""Seconds for which a source is off, unless the burst is given, or the rate is below 20 reads a second."""

logger: logging.Logger = logging.getLogger("hwloop")


@dataclass(frozen=True)
class RateLimit:
    """At most `rate` reads a second, `burst` of them at once; above that, the source is off for `burst / rate` seconds.

    A burst of None is the number of reads in 0.05 s at that rate, at least one. Raises ValueError or TypeError as
    `RateLimiter` does.
    """

    rate: float
    burst: int | None = None

    def __post_init__(self) -> None:
        TokenBucket(self.rate, 1 if self.burst is None else self.burst)

    def bucket(self) -> TokenBucket:
        """Return a full token bucket."""
        return TokenBucket(self.rate, max(1, int(self.rate * HOLD)) if self.burst is None else self.burst)


class Moderator:
    """Keeps one source to its limit.

    Parameters:
        limit: the limit; a number is its rate.
        name: the source's, for the log.
        stop: called to take the source off the loop.
        resume: called to put it back.
    """

    def __init__(
        self, limit: RateLimit | float, name: str, stop: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._bucket = (limit if isinstance(limit, RateLimit) else RateLimit(limit)).bucket()
        self._name = name
        self._stop = stop
        self._resume = resume
        self._loop: asyncio.AbstractEventLoop | None = None
        self._since = math.inf  # loop time at which the source went off
        self._seconds = 0.0
        self._before = (0, 0.0)  # times and seconds when the present outage began
        self._timer: asyncio.TimerHandle | None = None  # while off: of coming back; while on: of being calm
        self.times: int = 0
        """How often the source went off."""

    @property
    def off(self) -> bool:
        """Whether the limit keeps the source off the loop."""
        return self._since < math.inf

    @property
    def seconds(self) -> float:
        """Seconds for which the source has been off, in all."""
        if not self.off:
            return self._seconds
        assert self._loop is not None
        return self._seconds + self._loop.time() - self._since

    def admit(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the source may be read now; if not, take it off the loop."""
        now = loop.time()
        if self._bucket.take(clock.to_ns(now)):
            return True
        self._loop = loop
        if self._timer is None:
            self._before = (self.times, self._seconds)
            logger.warning(
                "%s is above its limit of %g reads a second: it is off the loop now and then, until it is within it",
                self._name,
                self._bucket.rate,
            )
        else:
            self._timer.cancel()
        self.times += 1
        self._since = now
        self._stop()
        self._timer = loop.call_at(clock.from_ns(self._bucket.due_ns(self._bucket.burst)), self._back)
        return False

    def end(self) -> None:
        """Forget that the source is off: it is closed, or its device has failed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._count()

    def _back(self) -> None:
        assert self._loop is not None
        self._count()
        self._timer = self._loop.call_later(max(CALM, self._bucket.burst / self._bucket.rate), self._calm)
        self._resume()

    def _calm(self) -> None:
        self._timer = None
        times, seconds = self._before
        logger.warning(
            "%s is back within its limit, after it was off %d times, %.3f s in all",
            self._name,
            self.times - times,
            self._seconds - seconds,
        )

    def _count(self) -> None:
        self._seconds = self.seconds
        self._since = math.inf
