"""Edges without a report: streams that find them by reading their quiet lines.

A line that rests at another level than the last report changed without a report. The one fact that shaped this: a
reading of the line says nothing about reports that are on their way, so it counts only if a second one, with no report
in between, agrees.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from hwloop.boards.chip import GpioChip
from hwloop.boards.levels import LevelTracker, LineState
from hwloop.lines import Edge, EdgeStream, LineName, Losses


class LevelTrackingStream(EdgeStream):
    """An edge stream that keeps track of its lines' levels. Its subclass reads reports, and fills `states`.

    Parameters:
        lines: by number on the chip.
        levels: the decoder of the reports.
    """

    def __init__(self, chip: GpioChip, lines: Mapping[int, LineName], levels: LevelTracker) -> None:
        self.losses: Losses = levels.losses
        self.chip = chip
        self.states: dict[int, LineState] = levels.states
        self._levels = levels
        self._numbers = {line: number for number, line in lines.items()}
        self._removal = chip.watch_removal()

    @abstractmethod
    def read_level(self, number: int) -> int:
        """Return the logical level of a line, read from the kernel. Raises `HardwareError`."""

    @abstractmethod
    def now_ns(self) -> int:
        """Return the time on the clock of the reports."""

    @abstractmethod
    def waiting(self) -> bool:
        """Return whether reports wait to be read."""

    def restart(self, number: int) -> None:
        """Start tracking a line afresh: it was not watched for some time."""
        state = self.states[number]
        state.level, state.reported, state.suspect_ns, state.inferred_ns = self.read_level(number), False, 0, 0
        state.inferred = 0
        state.read_ns = self.now_ns()

    def recheck(self) -> list[Edge]:
        self.doubtful: bool = False
        if not self._levels.both or self.waiting():
            return []
        edges = []
        settling_ns = self._levels.settling_ns
        for number, state in self.states.items():
            level = self.read_level(number)
            now_ns = self.now_ns()
            if level == state.level:
                state.suspect_ns = 0
            elif not state.suspect_ns:
                state.suspect_ns = now_ns
                self.doubtful = True
            elif now_ns - state.suspect_ns < settling_ns:
                self.doubtful = True
            else:
                state.inferred = 1 if state.last_ns > state.inferred_ns else state.inferred + 1
                state.level, state.reported, state.suspect_ns, state.inferred_ns = level, True, 0, now_ns
                state.since_ns = now_ns + settling_ns + 1
                self.losses.reconciled += 1
                edges.append(Edge(state.line, level, now_ns, now_ns, 0))
        return edges

    def alarm_fileno(self) -> int:
        return self._removal.fileno()

    def check(self) -> None:
        self._removal.drain()
        self.read_level(next(iter(self.states)))

    def close(self) -> None:
        self._removal.close()
