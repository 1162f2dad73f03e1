"""Faults of lines: contacts that bounce, a line that is stuck, a flood of edges."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import LineFault
from firmware_sim.timeline import Event


class Profile(NamedTuple):
    """How a kind of switch bounces."""

    seconds: float
    """For how long, at most."""
    bounces: int
    """How often, at most."""


PROFILES = {
    "crisp": Profile(0.0005, 2),
    "ordinary": Profile(0.0062, 6),
    "worn": Profile(0.157, 15),
}
"""Ganssle, "A Guide to Debouncing" (2004), measured 18 kinds of switches: most are quiet within 6.2 ms, 1.6 ms on
average; one took 157 ms."""


@dataclass
class ContactBounce(LineFault):
    """A contact that bounces each time the part on the line moves: a button, a switch, whatever drives the line.

    The bounces crowd at the beginning, as those of real contacts do, and the contact ends where the part has moved to.
    A part that moves again while it bounces begins anew.

    Parameters:
        line: its number, or the name of the part on it.
        profile: "crisp" (0.5 ms), "ordinary" (up to 6.2 ms) or "worn" (up to 157 ms).
        seconds: for how long it bounces at most, instead of the profile's time.
        bounces: how often at most, instead of the profile's number.
    """

    name = "contact-bounce"
    occasion = "move"
    profile: Literal["crisp", "ordinary", "worn"] = "ordinary"
    seconds: float | None = None
    bounces: int | None = None

    def __post_init__(self) -> None:
        kind = PROFILES[self.profile]
        self._seconds = kind.seconds if self.seconds is None else self.seconds
        self._bounces = kind.bounces if self.bounces is None else self.bounces
        if not (0 < self._seconds <= 10 and 1 <= self._bounces <= 1000):
            raise ValueError(
                f"seconds must be more than 0 and at most 10, bounces 1 to 1000, not {self.seconds} and {self.bounces}"
            )

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        timeline, draw = board.timeline, chance.random
        planned: list[Event] = []

        def stop() -> None:
            for event in planned:
                event.cancel()
            planned.clear()

        def moved(before: int | None, now: int | None) -> None:
            stop()
            contact.bouncing = False
            if not chance.strikes():
                return
            seconds = self._seconds * draw.uniform(0.3, 1)
            moments = sorted(seconds * draw.random() ** 2 for _ in range(2 * draw.randint(1, self._bounces)))
            for place, moment in enumerate(moments):
                level = now if place % 2 else before
                planned.append(timeline.after(moment, functools.partial(contact.touch, level)))
            planned.append(timeline.after(moments[-1], contact.rest))

        def end() -> None:
            stop()
            contact.end()

        contact = self.find(board).contact(self.name, moved)
        return end


@dataclass
class StuckLine(LineFault):
    """A line that is stuck at a level: a wire that touches ground or 3.3 V.

    Parameters:
        line: its number, or the name of the part on it.
        level: 0 or 1.

    Lines that are wired to it are stuck too. A program that drives the other level causes a short circuit, which the
    chip counts. The line of an end floats at the level at which it was stuck if nothing else acts on it.
    """

    name = "stuck-line"
    level: Literal[0, 1] = 0

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        hold = self.find(board).hold(self.name)
        hold.set(self.level)
        return hold.end


@dataclass
class EdgeFlood(LineFault):
    """Edges without end, as from a cable that picks up interference, or an input that floats.

    Parameters:
        line: its number, or the name of the part on it.
        rate: edges a second.
    """

    name = "edge-flood"
    rate: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1e6:
            raise ValueError(f"rate must be more than 0 and at most 1e6 edges a second, not {self.rate!r}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        line = self.find(board)
        hold = line.hold(self.name)
        timeline = board.timeline
        planned: Event

        def toggle() -> None:
            nonlocal planned
            hold.set(1 - line.level)
            planned = timeline.after(1 / self.rate, toggle)

        def end() -> None:
            planned.cancel()
            hold.end()

        planned = timeline.after(0, toggle)
        return end
