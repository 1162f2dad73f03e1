"""Decoding lgpio's reports of 16 bytes: levels, kernel timestamps, and the edges known to be lost."""

from __future__ import annotations

import struct

from hwloop.boards.levels import LevelTracker, LineState
from hwloop.lines import Edge, new_edge

REPORT = struct.Struct("QBBBBI")
"""Timestamp ns (CLOCK_MONOTONIC), chip number, line, level, flags, padding."""
HELD_BACK_NS = 2_000_000
"""For how long lgpio may keep a report before it writes it."""
_TIMEOUT_LEVEL = 2


class ReportDecoder(LevelTracker):
    """The decoder of one FIFO's reports.

    Parameters:
        chip: the number of the chip; reports of others are ignored.
        both, debounced, settling_ns: as for every `LevelTracker`.
        only: the level to which the delivered edges lead; None for both.

    Attributes:
        full_from_ns, full_to_ns: between which times the FIFO may last have been full; 0 if it never was.
    """

    __slots__ = ("chip", "full_from_ns", "full_to_ns", "only", "rest")

    def __init__(self, chip: int, *, both: bool, debounced: bool, settling_ns: int, only: int | None) -> None:
        super().__init__(both=both, debounced=debounced, settling_ns=settling_ns)
        self.chip: int = chip
        self.only: int | None = only
        self.full_from_ns: int = 0
        self.full_to_ns: int = 0
        self.rest: bytes = b""

    def decode(self, data: bytes, received_ns: int) -> list[Edge]:
        """Return the edges of the reports that a read at `received_ns` has completed."""
        if self.rest:
            data = self.rest + data
        whole = len(data) - len(data) % REPORT.size
        self.rest = data[whole:]
        both, only, states = self.both, self.only, self.states
        edges = []
        for timestamp_ns, chip, number, level, _, _ in REPORT.iter_unpack(data[:whole]):
            state = states.get(number)
            if state is None or level == _TIMEOUT_LEVEL or chip != self.chip:
                continue
            if timestamp_ns < state.since_ns and self._is_settled(state, timestamp_ns):
                continue
            lost = 0
            if both and level == state.level:
                missing = self.missing_before(state, level, timestamp_ns)
                if missing is None:
                    continue
                lost = missing
                if self._was_full(state.last_ns, timestamp_ns):
                    self.losses.fifo += lost
                else:
                    self.losses.merged += lost
            state.level, state.reported, state.suspect_ns, state.last_ns = level, True, 0, timestamp_ns
            if only is not None:
                state.owed += lost
                if level != only:
                    continue
                lost, state.owed = state.owed, 0
            edges.append(new_edge((state.line, level, timestamp_ns, received_ns, lost)))
        return edges

    def _is_settled(self, state: LineState, timestamp_ns: int) -> bool:
        """Return whether an old report says nothing new: somebody else's, or that of an edge which was inferred."""
        # lgpio may still hold reports of a line's last user, and hand them to a new FIFO of the same number.
        if timestamp_ns < state.claimed_ns:
            return True
        # Its thread was late. One report for each inferred edge is ignored; the others are of edges between them.
        if not state.inferred:
            return False
        state.inferred -= 1
        self.losses.reconciled -= 1
        if not state.inferred:
            state.since_ns, state.inferred_ns = state.claimed_ns, 0
        return True

    def _was_full(self, from_ns: int, to_ns: int) -> bool:
        """Return whether the FIFO may have been full at a time between two reports."""
        return 0 < self.full_to_ns >= from_ns and to_ns + HELD_BACK_NS >= self.full_from_ns
