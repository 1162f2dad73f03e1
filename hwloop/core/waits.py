"""The waits that are not the usual one: through a selector, and beside other threads.

The usual one, an epoll set with an alarm in it, stands in the core. A selector that the user gave, or a clock that no
kernel alarm follows, needs the selector's own wait, which is as precise as the selector. Such a clock may be that of a
subclass, or take the place of `loop.time` in the middle of a run: test helpers move the time in that way. And where
other threads are at work, a look that does not wait must not take their turn from them (see `hwloop.core.gil_poll`).
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import operator
import select
import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core import clock
from hwloop.core.descriptors import IN, OUT, Descriptors
from hwloop.core.dispatch import EVENTS_PER_LOOK, LONGEST_WAIT

if TYPE_CHECKING:
    from hwloop.core.gc_schedule import Collector


_TIME = operator.methodcaller("time")


class LoopTime(property):
    """`EventLoop.time`, which notices at once that a loop is given another clock, and costs no look at it meanwhile.

    Reading it runs no Python code. The loop's dictionary shows a replaced clock, as that of asyncio's loop does:
    unittest.mock looks there for what it has to restore.
    """

    def __init__(self) -> None:
        super().__init__(operator.attrgetter("_clock"), _set_time, _reset_time, "Seconds of CLOCK_MONOTONIC.")

    def __call__(self, loop: Waits) -> float:
        """`EventLoop.time(loop)`, as it can be written for a method."""
        return loop._clock()


def _set_time(loop: Waits, time: Callable[[], float]) -> None:
    loop.__dict__["time"] = loop._clock = time
    loop._follow_clock(time)


def _reset_time(loop: Waits) -> None:
    if loop.__dict__.pop("time", None) is None:
        raise AttributeError("time")
    loop._clock = clock.monotonic
    loop._follow_clock(clock.monotonic)


class Waits:
    """A mixin of `hwloop.EventLoop`: its cold half where waiting is concerned."""

    _selector: selectors.BaseSelector
    _descriptors: Descriptors
    _inbox: collections.deque[Any]
    _sleeping: bool
    _now: Callable[[], float]
    _epoll: select.epoll | None
    _peek: Callable[[], list[tuple[int, int]]] | None
    _collector: Collector | None
    _alarm: clock.Alarm | None
    _alarm_fd: int
    _alarm_when: float
    _look_next: bool
    _time_of_class: object

    _clock: Callable[[], float] = clock.monotonic  # `time`, where no subclass has its own
    _followed: object = clock.monotonic  # where the time comes from, see `_source_of`
    _moved = False  # the time is neither the one that the loop was made with nor the kernel's

    def _follow_clock(self, now: Callable[[], float]) -> None:
        """`time` is `now` from here on: replaced on the loop, on its class or in a subclass, or set back."""
        of_class = type(self).time  # type: ignore[attr-defined]
        self._time_of_class = of_class if isinstance(of_class, LoopTime) else None
        followed = self._source_of(now)
        if followed is not self._followed:
            self._followed = followed
            # What the class has is looked up each time: it may be set back before the next look.
            self._use_clock(now if followed is now else functools.partial(_TIME, self))
            self._moved = now is not clock.monotonic
            self._look_next = True

    def _source_of(self, now: Callable[[], float]) -> object:
        """Return where `now`, the loop's `time`, comes from: an attribute of the class, or itself.

        (Bound methods are other objects each time, and a comparison with a mock leaves garbage.)
        """
        of_class = type(self).time  # type: ignore[attr-defined]
        return now if "time" in self.__dict__ or isinstance(of_class, LoopTime) else of_class

    def _use_clock(self, now: Callable[[], float]) -> None:
        """Wait by the kernel's alarm if there is one and `now` is its clock, else through the selector."""
        self._now = now
        if self._collector is not None:
            self._collector.now = now
        if self._alarm is not None and self._alarm_when:
            self._alarm.clear()
        self._epoll = self._alarm = None
        self._alarm_when = 0.0
        descriptors = self._descriptors
        if descriptors.epoll is not None and descriptors.alarm is not None:
            self._alarm_fd = descriptors.alarm.fileno()
            if now is clock.monotonic:
                self._epoll, self._alarm = descriptors.epoll, descriptors.alarm

    def _expect_threads(self) -> None:
        """Get ready for other threads before the loop runs: later, the first of them would hold everything up.

        That is a look that keeps the global lock, and the module that asyncio imports at the first `to_thread()`.
        """
        import concurrent.futures.thread  # noqa: F401

        if self._peek is None and self._epoll is not None:
            with contextlib.suppress(ImportError, AttributeError):  # this system has none: the usual look will do
                from hwloop.core.gil_poll import Peek

                self._peek = Peek(self._epoll.fileno(), EVENTS_PER_LOOK)

    def _wait_in_selector(self, when: float | None) -> list[tuple[int, int]]:
        """Wait through a selector that the user gave, or on a clock that the kernel's alarm does not know."""
        timeout = when if when is None else max(0.0, min(when - self._now(), LONGEST_WAIT))
        epoll = self._descriptors.epoll
        self._sleeping = True
        try:
            if self._inbox:
                timeout = 0.0
            if self._moved:
                self._look_next = True  # after each batch, as asyncio: this clock may stand still, or leap
            # As the selector does, but with the numbers it does not know. looptime puts another select() there.
            if epoll is not None and "select" not in vars(self._selector):
                return epoll.poll(timeout and math.ceil(timeout * 1e3) / 1e3, EVENTS_PER_LOOK)
            found = self._selector.select(timeout)
        finally:
            self._sleeping = False
        return [
            (key.fd, (IN if mask & selectors.EVENT_READ else 0) | (OUT if mask & selectors.EVENT_WRITE else 0))
            for key, mask in found
        ]
