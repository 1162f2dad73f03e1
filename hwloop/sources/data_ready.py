"""A data-ready line as a poll sees it: whether the device has data, with or without an edge.

A device holds its interrupt line active until it has been read. If an input changes during the read, or the read
fails, the line just stays active: no edge follows any more, and a program that waits for edges waits for ever. So an
edge is a hint to look soon, and the level decides.

With edges="rising" or "falling" the active level is known. With both it follows from `active_low` or the pull, or it
is learned: a reading that succeeds lets go of the line, so a line that no reading moves is idle. (It may also have
become active again in the middle of the reading; so one more reading, a little later, has to agree.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwloop.board import LineName
from hwloop.core.naming import short_name
from hwloop.sources.containment import EXITS, logger

SETTLED = 0.05
"""Seconds after which a line that was left idle is looked at once more."""

AT_MOST_SUCCESS = 0.1
"""Seconds between two readings of a line that stays active although the readings succeed."""

AT_MOST_FAILURE = 1.0
"""Seconds between two attempts while the readings fail."""

_FIRST_PAUSE = 0.001
_STUCK = 20  # readings that succeed and leave the line active, with no edge between them


class DataReady:
    """The level of a trigger, and how soon to read again while it is active.

    Parameters:
        trigger: a source of edges. With `values`, as a `Watch` has it, its level is looked at; else it is not known.
    """

    def __init__(self, trigger: Any) -> None:
        self._trigger = trigger
        self._active: int | None = getattr(trigger, "active_level", None)
        self._learning = self._active is None
        self._confirming = False
        self._before: Mapping[LineName, int] = {}
        self._edges = 0
        self._again = 0

    def edge(self) -> None:
        """An edge has come: what it announces is read without a pause."""
        self._edges += 1
        self._again = 0

    def begin(self) -> None:
        """A reading begins."""
        self._before = self._levels()
        self._edges = 0

    def next_look(self, failed: bool) -> float | None:
        """Return the seconds until the line should be looked at: a reading has ended, and has `failed` or not.

        None if there is nothing to look at.
        """
        levels = self._levels()
        if not levels:
            return None
        if self._learning and not failed and len(levels) == 1:
            self._learn(levels)
        if not self._wants(levels, failed):
            return SETTLED
        again, self._again = self._again, self._again + 1
        if again == _STUCK and not failed:
            logger.warning(
                "%s stays active however often it is read; is the device stuck, or is edges= or pull= wrong?",
                short_name(self._trigger),
            )
        if not again and not failed:
            return 0.0
        return min(_FIRST_PAUSE * 2.0 ** min(again, 32), AT_MOST_FAILURE if failed else AT_MOST_SUCCESS)

    def wants(self, failed: bool) -> bool:
        """Return whether to read now, at a look: the line is active, or its polarity has yet to be confirmed."""
        levels = self._levels()
        if levels and self._wants(levels, failed):
            return True
        self._again = 0
        self._confirming = self._learning and self._active is not None and bool(levels)
        return self._confirming

    def _wants(self, levels: Mapping[LineName, int], failed: bool) -> bool:
        # A line of unknown polarity has to be read once at least.
        return failed if self._active is None else self._active in levels.values()

    def _learn(self, after: Mapping[LineName, int]) -> None:
        moved = self._before != after or self._edges > 0
        (level,) = after.values()
        if self._active is None:
            self._active = None if moved else 1 - level
        elif self._confirming:
            if moved:
                self._active = None
            else:
                self._learning = False
        self._confirming = False

    def _levels(self) -> Mapping[LineName, int]:
        """The levels of the trigger's lines; empty where they can't be known."""
        try:
            return dict(self._trigger.values)
        except EXITS:
            raise
        except BaseException:  # closed, away, or not a watch
            return {}
