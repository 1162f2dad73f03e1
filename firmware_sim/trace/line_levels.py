"""The level of a line over time, from its changes."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from hwloop.trace_events import LineChange, TraceEvent


class LineLevels:
    """The levels of one line.

    Parameters:
        changes: the changes of the line, each with its place in the trace. They are sorted by their times; changes to
            the level that the line has already are left out: on a real board the edge in between may have been lost.

    Attributes:
        initial: the level before the first change: the other one. None for a line without changes.
        times: when the level changed (ns).
        levels: the level from each of these times on.
        places: the place of each change in the trace, which orders changes of several lines at one time.
    """

    def __init__(self, changes: Iterable[tuple[int, LineChange]]) -> None:
        self.initial: int | None = None
        self.times: list[int] = []
        self.levels: list[int] = []
        self.places: list[int] = []
        for place, change in sorted(changes, key=lambda each: each[1].when_ns):
            if not self.levels or change.level != self.levels[-1]:
                self.times.append(change.when_ns)
                self.levels.append(change.level)
                self.places.append(place)
        if self.levels:
            self.initial = 1 - self.levels[0]

    def at(self, when_ns: int) -> int | None:
        """Return the level at a time; None for a line without changes."""
        index = bisect.bisect_right(self.times, when_ns)
        return self.levels[index - 1] if index else self.initial

    def within(self, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """Return the changes from `start_ns` up to, but not including, `end_ns`: their times and levels."""
        part = self.part(start_ns, end_ns)
        return list(zip(part.times, part.levels, strict=True))

    def part(self, start_ns: int, end_ns: int) -> LineLevels:
        """Return the levels in a window."""
        first, last = bisect.bisect_left(self.times, start_ns), bisect.bisect_left(self.times, end_ns)
        part = LineLevels(())
        part.initial = self.at(start_ns - 1)
        part.times, part.levels, part.places = (each[first:last] for each in (self.times, self.levels, self.places))
        return part

    def widths(self, level: int) -> list[int]:
        """Return how long (ns) each pulse of `level` was."""
        pairs = zip(self.times, self.times[1:], self.levels, strict=False)
        return [end_ns - start_ns for start_ns, end_ns, value in pairs if value == level]


def lines_of(events: Iterable[TraceEvent]) -> dict[int, LineLevels]:
    """Return the levels of each line that changes, in the order of their numbers."""
    changes: dict[int, list[tuple[int, LineChange]]] = {}
    for place, event in enumerate(events):
        if isinstance(event, LineChange):
            changes.setdefault(event.line, []).append((place, event))
    return {line: LineLevels(changes[line]) for line in sorted(changes)}
