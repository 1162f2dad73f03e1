"""The clock that a loop goes by: CLOCK_MONOTONIC, unless a program gives the loop another one.

Test helpers move time by replacing `loop.time`: on the loop, on its class, or in a subclass, and some in the middle of
a run. The loop has to notice that, because the kernel's alarm knows only its own clock. A function assigned to the loop
is noticed at once (`LoopTime`), one assigned to its class at the next poll (`LoopClock.follow`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from hwloop.core import clock

_CALL_TIME = operator.methodcaller("time")


class LoopTime(property):
    """`EventLoop.time`: notices an assignment, and runs no Python code when it is read.

    The loop's dictionary shows a replaced clock, as that of asyncio's loop does: unittest.mock looks there to find out
    what it has to restore.
    """

    def __call__(self, loop: Any) -> float:
        """Return the time of `loop`, for code that calls `EventLoop.time(loop)`."""
        now: Callable[[], float] = self.__get__(loop)
        return now()


class LoopClock:
    """The clock of one loop.

    Attributes:
        now: returns the loop's time in seconds.
        own: `loop.time`, where neither a subclass nor a patch of the class has another.
        time_of_class: the class's `LoopTime`, or None where the class has another `time`. While the class still has
            it, there is no need to call `follow`.
        is_replaced: whether the clock is neither the one that the loop was made with nor CLOCK_MONOTONIC.
    """

    __slots__ = ("_first", "_followed", "_original", "is_replaced", "now", "own", "time_of_class")

    def __init__(self, own: Callable[[], float] = clock.monotonic) -> None:
        self.now: Callable[[], float] = own
        self.own: Callable[[], float] = own
        self._original = own
        self.is_replaced: bool = False
        self.time_of_class: object = None
        self._first: object = own
        self._followed: object = own

    def begin(self, loop: Any) -> None:
        """Go by the `time` that a new loop has."""
        self.now = loop.time
        self._first = self._followed = self._source(loop)

    def restore_own(self) -> None:
        """Undo an assignment to `own`."""
        self.own = self._original

    def follow(self, loop: Any) -> bool:
        """Go by the loop's `time` from now on. Return whether that is another clock than before."""
        followed = self._source(loop)
        if followed is self._followed:
            return False
        self._followed = followed
        now = loop.time
        # The class's function is looked up each time: it may be restored before the next poll.
        self.now = now if followed is now else functools.partial(_CALL_TIME, loop)
        self.is_replaced = now is not clock.monotonic and followed is not self._first
        return True

    def close(self) -> None:
        """Drop the references to the loop."""
        self.now = clock.monotonic

    def _source(self, loop: Any) -> Any:
        """Return where the loop's time comes from: a function of its class, or the loop's own.

        (Bound methods are other objects each time, and comparing mocks for equality leaves garbage.)
        """
        of_class = type(loop).time
        self.time_of_class = of_class if isinstance(of_class, LoopTime) else None
        return loop.time if self.time_of_class is not None or "time" in loop.__dict__ else of_class
