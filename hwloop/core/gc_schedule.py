"""Garbage collection as part of the schedule: when the loop has time for it, rather than in the middle of a handler.

Python looks for cycles of dead objects whenever enough new ones have been made, in whatever code happens to make the
last of them; of the whole heap, that takes tens of milliseconds on a Pi. In the mode "idle" the automatic collection
is off while the loop runs, and the loop, when it is about to sleep, collects what is due if it expects to be done
before its next timer. What finds no such gap is collected all the same once it is `PRESSING` times overdue, so that
memory stays bounded; that is counted as forced.

Which generation is due, Python's own counters and thresholds tell (gc.get_count(), gc.get_threshold()); how long it
will take, the longest of its last collections does. No look at the clock can foretell an edge: one that comes during
a collection waits for its end, as it would with automatic collection.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hwloop.core.statistics import CollectorStatistics

Mode = Literal["auto", "idle", "off"]

PRESSING = 10
"""What is so many times overdue is not put off any more."""

MARGIN = 2.0
"""A gap must be so many times longer than the collection is expected to take."""

FORGETTING = 0.9
"""By so much what was expected shrinks at each collection that takes less."""

FIRST_GUESS = (1e-4, 1e-3, 2e-2)
"""Seconds that the first collection of each generation is expected to take."""


class Collector:
    """Collects what is due when it is told that there is time.

    Attributes:
        now: the loop's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._expected = list(FIRST_GUESS)
        self._collections = [0, 0, 0]
        self._forced = 0
        self._longest = 0.0

    def collect_before(self, when: float | None) -> bool:
        """Collect the oldest generation that is due, if it presses or will be done by `when` (loop time; None: ever).

        Returns whether there was one.
        """
        counts, thresholds = gc.get_count(), gc.get_threshold()
        if counts[0] <= thresholds[0]:  # the usual case; older ones are collected together with the youngest
            return False
        for generation in (2, 1, 0):
            if 0 < thresholds[generation] < counts[generation]:
                forced = when is not None and when - self.now() < MARGIN * self._expected[generation]
                if not forced or counts[generation] > thresholds[generation] * PRESSING:
                    self._forced += forced
                    self._collect(generation)
                    return True
        return False

    def collect_if_pressing(self) -> None:
        """There is no time, but collect what has been put off for too long."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if 0 < thresholds[generation] * PRESSING < counts[generation]:
                self._forced += 1
                self._collect(generation)
                return

    def statistics(self) -> CollectorStatistics:
        from hwloop.core.statistics import CollectorStatistics

        young, middle, old = self._collections
        return CollectorStatistics((young, middle, old), self._forced, self._longest)

    def _collect(self, generation: int) -> None:
        start = perf_counter()
        gc.collect(generation)
        took = perf_counter() - start
        self._expected[generation] = max(took, self._expected[generation] * FORGETTING)
        self._collections[generation] += 1
        self._longest = max(self._longest, took)


class CountingCollector(Collector):
    """Collects after a number of looks: in virtual time, memory must not decide when finalizers run.

    Automatic collection stays on for what makes `VALVE` objects between two collections.
    """

    YOUNG_EVERY = 1000
    ALL_EVERY = 20_000
    VALVE = 100_000

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._looks = 0
        self._next_all = self.ALL_EVERY

    def collect_before(self, when: float | None) -> bool:
        self._looks += 1
        if self._looks % self.YOUNG_EVERY or not gc.isenabled():
            return False
        if self._looks < self._next_all:
            self._collect(0)
        else:
            self._next_all += min(self._looks, 25 * self.ALL_EVERY)  # seldom in a long run, whose heap may be large
            self._collect(2)
        return True

    def collect_if_pressing(self) -> None:
        self.collect_before(None)


class Collecting:
    """A mixin of `hwloop.EventLoop`."""

    _now: Callable[[], float]
    _collector: Collector | None

    if TYPE_CHECKING:

        def is_running(self) -> bool: ...

    _gc_mode: Mode = "auto"
    _gc_was_on = False

    def schedule_gc(self, mode: Mode) -> None:
        """Say who collects garbage while the loop runs; when it ends, all is as it was.

        "auto", as without this call: Python, at any moment. "idle": the loop, when it would sleep and has time before
        its next timer, or when it can't be put off any more; `statistics().gc` counts. "off": nobody, for programs
        that make no cycles or end soon. Garbage is the process's affair, not the loop's: let one loop have the say.
        Raises ValueError for another mode.
        """
        if mode not in ("auto", "idle", "off"):
            raise ValueError(f'gc must be "auto", "idle" or "off", not {mode!r}')
        self._give_gc_back()
        self._gc_mode = mode
        self._collector = Collector(self._now) if mode == "idle" else None
        if self.is_running():
            self._take_gc_over()

    def _take_gc_over(self) -> None:
        """The loop begins to run."""
        if self._gc_mode != "auto" and gc.isenabled():
            self._gc_was_on = True
            gc.disable()

    def _give_gc_back(self) -> None:
        """The loop has ended, or the mode changes."""
        if self._gc_was_on:
            self._gc_was_on = False
            gc.enable()


class CountedCollecting(Collecting):
    """A mixin of `hwloop.SimLoop`: garbage is collected after a number of looks in the modes "auto" and "idle"."""

    _thresholds: tuple[int, int, int] | None = None

    def schedule_gc(self, mode: Mode) -> None:
        super().schedule_gc("auto" if mode == "idle" else mode)
        self._collector = None if mode == "off" else CountingCollector(self._now)

    def _take_gc_over(self) -> None:
        super()._take_gc_over()
        if gc.isenabled():
            self._thresholds = gc.get_threshold()
            gc.set_threshold(CountingCollector.VALVE, *self._thresholds[1:])

    def _give_gc_back(self) -> None:
        super()._give_gc_back()
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            self._thresholds = None
