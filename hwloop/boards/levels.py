"""What is known of watched lines: their last level, and which edges must be missing.

Under both edges levels alternate, so two equal ones in a row mean that an edge between them left no trace. And a line
that rests at another level than the last one told has changed without a word. The one fact that shaped this: a look at
a line says nothing of the reports on their way, so a look counts only if a second one, with nothing between, agrees.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from hwloop.board import Edge, EdgeStream, LineName, Losses
from hwloop.boards.chip import GpioChip
from hwloop.boards.hangup import Hangup


class LineState:
    """What a stream knows of one of its lines."""

    __slots__ = (
        "last_ns",
        "level",
        "line",
        "made_up_ns",
        "owed",
        "read_ns",
        "reported",
        "seqno",
        "since_ns",
        "suspect_ns",
    )

    def __init__(self, line: LineName, since_ns: int) -> None:
        self.line = line
        self.since_ns = since_ns
        """A time before the claim; older reports are of the line's last user."""
        self.level = 0
        """Last level reported, or before any report the one read after the claim; logical."""
        self.read_ns = 0
        """When it was read after the claim."""
        self.reported = False
        self.last_ns = 0
        """Time stamp of the last report."""
        self.seqno = 0
        """The kernel's number of the last event, where it is known."""
        self.suspect_ns = 0
        """Since when the line has been found at another level, with no report of it; 0 while it has not."""
        self.owed = 0
        """Edges found missing that no edge has told of yet, where not every edge is told."""
        self.made_up_ns = 0
        """When `recheck` last told of an edge that no report had told of; 0 once its report has come after all."""


class LevelStream(EdgeStream):
    """A stream that keeps account of its lines' levels. Its subclass reads reports, and sets up `states`.

    Parameters:
        lines: by number on the chip.
        both: whether it is told of both edges, so that levels alternate.
        debounced: whether it is told of settled levels only.
    """

    settling_ns = 0
    """For how long a level must last before it is reported, where `read_level` does not wait for that."""

    def __init__(self, chip: GpioChip, lines: Mapping[int, LineName], *, both: bool, debounced: bool) -> None:
        self.losses = Losses()
        self.chip = chip
        self.states: dict[int, LineState] = {}
        self._numbers = {line: number for number, line in lines.items()}
        self._both = both
        self._debounced = debounced
        self._hangup = Hangup(chip.node)

    @abstractmethod
    def read_level(self, number: int) -> int:
        """The logical level of a line, asked of the kernel. Raises `HardwareError`."""

    @abstractmethod
    def now_ns(self) -> int:
        """The time on the clock of the reports."""

    @abstractmethod
    def waiting(self) -> bool:
        """Whether reports wait to be read."""

    def missing_before(self, state: LineState, level: int, timestamp_ns: int) -> int | None:
        """How many edges must be missing before a report of the level that was known: 0 or 1; None if it is no news."""
        assert level == state.level
        if state.made_up_ns and timestamp_ns <= state.made_up_ns + self.settling_ns:
            # The late report of an edge that was told of already.
            state.made_up_ns = 0
            self.losses.reconciled -= 1
            return None
        if state.reported:
            return 1
        if self._debounced:
            return None  # a glitch at the moment of the claim: the level is the one that was read then
        return 0 if timestamp_ns <= state.read_ns else 1

    def restart(self, number: int) -> None:
        """Begin the account of a line anew: it was not watched for some time."""
        state = self.states[number]
        state.level, state.reported, state.suspect_ns, state.made_up_ns = self.read_level(number), False, 0, 0
        state.read_ns = self.now_ns()

    def recheck(self) -> list[Edge]:
        self.doubtful = False
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
                state.level, state.reported, state.suspect_ns, state.made_up_ns = level, True, 0, now_ns
                self.losses.reconciled += 1
                edges.append(Edge(state.line, level, now_ns, now_ns, 0))
        return edges

    def alarm_fileno(self) -> int:
        return self._hangup.fileno()

    def check(self) -> None:
        self._hangup.drain()
        self.read_level(next(iter(self.states)))

    def close(self) -> None:
        self._hangup.close()
