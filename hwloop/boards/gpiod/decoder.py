"""Decoding the kernel's events of 48 bytes: levels, kernel timestamps, and the edges known to be lost."""

from __future__ import annotations

import operator
import struct

from hwloop.boards.levels import LevelTracker
from hwloop.lines import Edge, new_edge

EVENT = struct.Struct("=QIIII24x")
"""struct gpio_v2_line_event of <linux/gpio.h>: timestamp ns, id (1 rising, 2 falling), line, seqno, line's seqno."""
_SEQNO = 0xFFFFFFFF
_BY_TIME = operator.attrgetter("timestamp_ns")  # each line's interrupt thread queues its own events, in any order


class EventDecoder(LevelTracker):
    """The decoder of one line request's events."""

    __slots__ = ()

    def decode(self, data: bytes, received_ns: int) -> list[Edge]:
        """Return the edges of whole events, which were read at `received_ns`."""
        both, losses, states = self.both, self.losses, self.states
        edges = []
        for timestamp_ns, kind, number, _, seqno in EVENT.iter_unpack(data):
            state = states[number]
            level = 2 - kind
            lost = gap = (seqno - state.seqno - 1) & _SEQNO
            state.seqno = seqno
            if gap:
                losses.kernel += gap
            # An even number of missing edges leaves the level where it was, so this one must be the other.
            if both and not (level ^ state.level ^ gap) & 1:
                # (Before the first report, it may have come between the claim and the reading of the line; but one
                # merged in the rush that made the gap is far likelier.)
                missing = 1 if gap else self.missing_before(state, level, timestamp_ns)
                if missing is None:
                    continue
                losses.merged += missing
                lost += missing
            state.level, state.reported, state.suspect_ns = level, True, 0
            edges.append(new_edge((state.line, level, timestamp_ns, received_ns, lost)))
        if len(states) > 1:
            edges.sort(key=_BY_TIME)
        return edges
