"""Faults during which no program gets a turn to read its line requests: the events wait in the kernel's buffers.

A buffer is read by the program itself, so a full one is the program's lateness. The kernel keeps the newest events and
goes on numbering: the gap in `line_seqno` is the only sign (linereq_put_event() in gpiolib-cdev.c).
"""

from __future__ import annotations

from collections.abc import Callable


class ReaderRest:
    """The faults that keep the readers of a chip's line requests from reading. The timeline's lock is held.

    Attributes:
        at_end: callables for the moment when the last of them ends.
    """

    def __init__(self) -> None:
        self.at_end: list[Callable[[], object]] = []
        self._keep: dict[object, int] = {}

    @property
    def keep(self) -> int | None:
        """The number of events of a line that are kept; None while programs read."""
        return min(self._keep.values(), default=None)

    def begin(self, by: object, keep: int) -> None:
        """Let no program read until `end(by)`, while `keep` events of each line are kept."""
        self._keep[by] = keep

    def end(self, by: object) -> None:
        """Let programs read again, once no other fault keeps them from it."""
        del self._keep[by]
        if not self._keep:
            for callback in tuple(self.at_end):
                callback()
