"""The last known level of each watched line, and the missing edges that can be inferred from it.

Under both edges levels alternate, so two equal reports in a row mean that an edge between them was lost. The decoders
of reports are trackers of levels; the compiled core makes both extension types.
"""

from __future__ import annotations

from hwloop.lines import LineName, Losses


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


class LevelTracker:
    """The levels of a stream's lines, as its reports have them.

    Parameters:
        both: whether both edges are reported, so that levels alternate.
        debounced: whether only settled levels are reported.
        settling_ns: for how long a level must last before it is reported, where reading the line does not wait for
            that.

    Attributes:
        losses: the edges missing so far.
        states: the state of each line, by its number on the chip.
    """

    __slots__ = ("both", "debounced", "losses", "settling_ns", "states")

    def __init__(self, *, both: bool, debounced: bool, settling_ns: int = 0) -> None:
        self.both: bool = both
        self.debounced: bool = debounced
        self.settling_ns: int = settling_ns
        self.losses: Losses = Losses()
        self.states: dict[int, LineState] = {}

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
        if self.debounced:
            return None  # a glitch at the moment of the claim: the level is the one that was read then
        return 0 if timestamp_ns <= state.read_ns else 1
