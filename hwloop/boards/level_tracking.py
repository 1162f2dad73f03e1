"""The last known level of each watched line, and the missing edges that can be inferred from it.

Under both edges levels alternate, so two equal reports in a row mean that an edge between them was lost. And a line
that rests at another level than the last report changed without a report. The one fact that shaped this: a reading of
the line says nothing about reports that are on their way, so it counts only if a second one, with no report in between,
agrees.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from hwloop.boards.chip import GpioChip
from hwloop.lines import Edge, EdgeStream, LineName, Losses


class LineState:
    """The state that a stream keeps of one of its lines."""

    __slots__ = (
        "claimed_ns",
        "inferred",
        "inferred_ns",
        "last_ns",
        "level",
        "line",
        "owed",
        "read_ns",
        "reported",
        "seqno",
        "since_ns",
        "suspect_ns",
    )

    def __init__(self, line: LineName, claimed_ns: int) -> None:
        self.line: LineName = line
        self.claimed_ns: int = claimed_ns
        """A time before the claim; older reports belong to the line's last user."""
        self.since_ns: int = claimed_ns
        """Reports from this time on are news. Older ones may belong to the line's last user, or come after the edge
        that `recheck` inferred from their lack."""
        self.level: int = 0
        """The logical level of the last report; before any report, the one read after the claim."""
        self.read_ns: int = 0
        """When it was read after the claim."""
        self.reported: bool = False
        """Whether there was a report since the claim."""
        self.last_ns: int = 0
        """Time stamp of the last report."""
        self.seqno: int = 0
        """The kernel's number of the last event, where it is known."""
        self.suspect_ns: int = 0
        """Since when the line was found at another level, with no report of it; 0 while it was not."""
        self.owed: int = 0
        """Missing edges that no delivered edge has carried yet, where not every edge is delivered."""
        self.inferred_ns: int = 0
        """When `recheck` last inferred an edge without a report; 0 once its report has come after all."""
        self.inferred: int = 0
        """How many edges it has inferred since the last report."""


class LevelTrackingStream(EdgeStream):
    """An edge stream that keeps track of its lines' levels. Its subclass reads reports, and fills `states`.

    Parameters:
        lines: by number on the chip.
        both: whether both edges are reported, so that levels alternate.
        debounced: whether only settled levels are reported.
    """

    settling_ns = 0
    """For how long a level must last before it is reported, where `read_level` does not wait for that."""

    def __init__(self, chip: GpioChip, lines: Mapping[int, LineName], *, both: bool, debounced: bool) -> None:
        self.losses: Losses = Losses()
        self.chip = chip
        self.states: dict[int, LineState] = {}
        self._numbers = {line: number for number, line in lines.items()}
        self._both = both
        self._debounced = debounced
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

    def missing_before(self, state: LineState, level: int, timestamp_ns: int) -> int | None:
        """Return how many edges must be missing before a report of the known level: 0 or 1; None: ignore the report."""
        assert level == state.level
        if state.inferred_ns and timestamp_ns <= state.inferred_ns + self.settling_ns:
            # The late report of an edge that was delivered already.
            state.inferred_ns = 0
            self.losses.reconciled -= 1
            return None
        if state.reported:
            return 1
        if self._debounced:
            return None  # a glitch at the moment of the claim: the level is the one that was read then
        return 0 if timestamp_ns <= state.read_ns else 1

    def restart(self, number: int) -> None:
        """Start tracking a line afresh: it was not watched for some time."""
        state = self.states[number]
        state.level, state.reported, state.suspect_ns, state.inferred_ns = self.read_level(number), False, 0, 0
        state.inferred = 0
        state.read_ns = self.now_ns()

    def recheck(self) -> list[Edge]:
        self.doubtful: bool = False
        if not self._both or self.waiting():
            return []
        edges = []
        for number, state in self.states.items():
            level = self.read_level(number)
            now_ns = self.now_ns()
            if level == state.level:
                state.suspect_ns = 0
            elif not state.suspect_ns:
                state.suspect_ns = now_ns
                self.doubtful = True
            elif now_ns - state.suspect_ns < self.settling_ns:
                self.doubtful = True
            else:
                state.inferred = 1 if state.last_ns > state.inferred_ns else state.inferred + 1
                state.level, state.reported, state.suspect_ns, state.inferred_ns = level, True, 0, now_ns
                state.since_ns = now_ns + self.settling_ns + 1
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
