"""The edges of a line that is driven and released in turn: single-wire sensors, handshakes on an open-drain line.

The kernel reports the edges of inputs only (gpio_v2_line_config_validate() in drivers/gpio/gpiolib-cdev.c). So while an
open-drain or open-source output is watched, it is an output only while it drives; released, it is an input with edge
detection, which electrically is the same. The line stays claimed all the time, and an edge that another device makes is
reported if it comes later than the few system calls that the change takes.

Driving the line ends the reports, and with them the knowledge of its level: edges that still wait to be read are kept
here then, and level tracking starts afresh when the line is released again.
"""

from __future__ import annotations

from collections.abc import Callable

from hwloop.boards.level_tracking import LevelTrackingStream
from hwloop.lines import Edge, EdgeStream, LineName, Losses


class SwitchedEdges(EdgeStream):
    """The edges of one line, which its output switches on and off.

    Parameters:
        stream: the line's own, which does not give the line back.
        number: the line's number on its chip.
        kept: called when edges wait to be read although the descriptor need not be readable.
        closed: called when nobody watches any more.

    Attributes:
        released: whether the line is released, and watched, now.
    """

    def __init__(
        self, stream: LevelTrackingStream, number: int, kept: Callable[[], object], closed: Callable[[], object]
    ) -> None:
        self.losses: Losses = stream.losses
        self.disorder_ns: int = stream.disorder_ns
        self.released: bool = False
        self._stream = stream
        self._number = number
        self._kept = kept
        self._on_close = closed
        self._early: list[Edge] = []
        self._closed = False

    def begin(self) -> None:
        """The output has released the line, and its edges are reported."""
        self.released = True
        self._stream.restart(self._number)

    def end(self) -> None:
        """The output drives the line, and no more edges are reported."""
        self.released = False
        while edges := self._stream.read():
            self._early += edges
        if self._early:
            self._kept()

    def fileno(self) -> int:
        return self._stream.fileno()

    def read(self) -> list[Edge]:
        early, self._early = self._early, []
        return early + self._stream.read()

    def recheck(self) -> list[Edge]:
        if not self.released:
            self.doubtful: bool = False
            return []
        edges = self._stream.recheck()
        self.doubtful = self._stream.doubtful
        return edges

    def level(self, line: LineName) -> int:
        return self._stream.level(line)

    def alarm_fileno(self) -> int:
        return self._stream.alarm_fileno()

    def check(self) -> None:
        self._stream.check()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._on_close()
        finally:
            self._stream.close()
