"""Mechanical contacts: they bounce for some milliseconds after each move.

Debouncing exists for that reason, and a simulated switch without bounces would hide that a program lacks it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from firmware_sim.timeline import Event, Timeline


class Contacts:
    """A pair of contacts that a part closes and opens.

    Parameters:
        timeline: the board's.
        touch: called as `touch(closed)` at each change, bounces included. The timeline's lock is held.
        seed: of the bounces: the same seed gives the same ones.

    Attributes:
        closed: whether they are closed, or on their way to that.
    """

    def __init__(self, timeline: Timeline, touch: Callable[[bool], object], seed: int = 0) -> None:
        self.closed: bool = False
        self._timeline = timeline
        self._touch = touch
        self._random = random.Random(seed)
        self._bounces: list[Event] = []

    def move(self, closed: bool, bounce: float = 0.0) -> None:
        """Close or open them; they bounce for `bounce` seconds. Harmless if they are there already."""
        with self._timeline.lock:
            self._timeline.catch_up()
            if closed == self.closed:
                return
            self.closed = closed
            for event in self._bounces:
                event.cancel()
            self._bounces.clear()
            self._touch(closed)
            if bounce:
                self._plan_bounces(closed, bounce)

    def _plan_bounces(self, closed: bool, bounce: float) -> None:
        """Plan an even number of changes after the first, so that they end where they were moved to."""
        now_ns = self._timeline.moment_ns()
        moments = sorted(self._random.uniform(0, bounce) for _ in range(2 * self._random.randint(1, 4)))
        for moment, level in zip(moments, itertools.cycle((not closed, closed)), strict=False):
            when_ns = now_ns + round(moment * 1e9)
            self._bounces.append(self._timeline.at(when_ns, lambda level=level: self._touch(level)))  # type: ignore[misc]
