"""Garbage collection as part of the schedule: when the loop has time for it, rather than in the middle of a handler.

Python looks for cycles of dead objects whenever enough new ones have been made, in whatever code happens to make the
last of them; for the whole heap, that takes tens of milliseconds on a Pi. In the mode "idle", automatic collection is
off while the loop runs. When the loop is about to sleep, it collects the generations that are due if it expects to
finish before its next timer. A collection that is more than `PRESSING` times overdue runs immediately, so that memory
stays bounded, and is counted as forced.

Python's own counters and thresholds say which generation is due (gc.get_count(), gc.get_threshold()); the longest of
its last collections says how long it will take. No clock can predict an edge: one that comes during a collection waits
for its end, as it would with automatic collection.
"""

from __future__ import annotations

import gc
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from hwloop.core.loop_clock import LoopClock

if TYPE_CHECKING:
    from hwloop.core.statistics import CollectorStatistics

GcMode = Literal["auto", "idle", "off"]

PRESSING = 10
"""A collection that is this many times overdue is not put off any longer."""

MARGIN = 2.0
"""A gap must be this many times longer than the collection is expected to take."""

FORGETTING = 0.9
"""Factor by which an expected duration shrinks at each collection that takes less."""

FIRST_GUESS = (1e-4, 1e-3, 2e-2)
"""Seconds that the first collection of each generation is expected to take."""


class GcSchedule:
    """Decides when garbage is collected while a loop runs.

    Attributes:
        is_active: whether the loop has to call `collect_before` and `collect_if_pressing`.
    """

    def __init__(self, clock: LoopClock) -> None:
        self.is_active: bool = False
        self._clock = clock
        self._mode: GcMode = "auto"
        self._was_enabled = False  # and has to be again when the run ends
        self._forget()

    def set_mode(self, mode: GcMode) -> None:
        """Choose how garbage is collected during a run; see `EventLoop.schedule_gc`. The counts begin anew."""
        if mode not in ("auto", "idle", "off"):
            raise ValueError(f'gc must be "auto", "idle" or "off", not {mode!r}')
        self._mode = mode
        self.is_active = mode == "idle"
        self._forget()

    def begin_run(self) -> None:
        """Switch automatic collection off, unless the mode is "auto"."""
        if self._mode != "auto" and gc.isenabled():
            self._was_enabled = True
            gc.disable()

    def end_run(self) -> None:
        """Restore automatic collection. Harmless when repeated."""
        if self._was_enabled:
            self._was_enabled = False
            gc.enable()

    def collect_before(self, when: float | None) -> bool:
        """Collect the oldest generation that is due, if it presses or will be done by `when` (loop time; None: ever).

        Return whether there was one.
        """
        counts, thresholds = gc.get_count(), gc.get_threshold()
        if counts[0] <= thresholds[0]:  # the usual case; older ones are collected together with the youngest
            return False
        for generation in (2, 1, 0):
            if 0 < thresholds[generation] < counts[generation]:
                forced = when is not None and when - self._clock.now() < MARGIN * self._expected[generation]
                if not forced or counts[generation] > thresholds[generation] * PRESSING:
                    self._forced += forced
                    self._collect(generation)
                    return True
        return False

    def collect_if_pressing(self) -> None:
        """Collect a generation that has been put off for too long, although there is work to do."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if 0 < thresholds[generation] * PRESSING < counts[generation]:
                self._forced += 1
                self._collect(generation)
                return

    def statistics(self) -> CollectorStatistics | None:
        """Return the counts since the mode was set; None if the loop does not collect."""
        if not self.is_active:
            return None
        from hwloop.core.statistics import CollectorStatistics

        young, middle, old = self._collections
        return CollectorStatistics((young, middle, old), self._forced, self._longest)

    def _forget(self) -> None:
        self._expected = list(FIRST_GUESS)
        self._collections = [0, 0, 0]
        self._forced = 0
        self._longest = 0.0

    def _collect(self, generation: int) -> None:
        start = perf_counter()
        gc.collect(generation)
        took = perf_counter() - start
        self._expected[generation] = max(took, self._expected[generation] * FORGETTING)
        self._collections[generation] += 1
        self._longest = max(self._longest, took)


class CountedGcSchedule(GcSchedule):
    """A schedule for virtual time, where memory must not decide when finalizers run: it counts polls.

    In the modes "auto" and "idle", garbage is collected after a number of polls. Automatic collection stays on for code
    that makes `VALVE` objects between two collections.
    """

    YOUNG_EVERY = 1000
    ALL_EVERY = 20_000
    VALVE = 100_000

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.is_active: bool = True
        self._thresholds: tuple[int, int, int] | None = None

    def set_mode(self, mode: GcMode) -> None:
        super().set_mode("auto" if mode == "idle" else mode)
        self.is_active = mode != "off"

    def begin_run(self) -> None:
        super().begin_run()
        if gc.isenabled():
            self._thresholds = gc.get_threshold()
            gc.set_threshold(self.VALVE, *self._thresholds[1:])

    def end_run(self) -> None:
        super().end_run()
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            self._thresholds = None

    def collect_before(self, when: float | None) -> bool:
        self._polls += 1
        if self._polls < self._next_young:
            return False
        self._next_young += self.YOUNG_EVERY
        if not gc.isenabled():
            return False
        if self._polls < self._next_all:
            self._collect(0)
        else:
            self._next_all += min(self._polls, 25 * self.ALL_EVERY)  # seldom in a long run, whose heap may be large
            self._collect(2)
        return True

    def collect_if_pressing(self) -> None:
        self.collect_before(None)

    def _forget(self) -> None:
        super()._forget()
        self._polls = 0
        self._next_young = self.YOUNG_EVERY
        self._next_all = self.ALL_EVERY
