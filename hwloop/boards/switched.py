"""The edges of a line that we drive and let go of in turn: single-wire sensors, handshakes on an open-drain line.

The kernel reports the edges of inputs only (gpio_v2_line_config_validate() in drivers/gpio/gpiolib-cdev.c). So while an
open-drain or open-source output is watched, it is an output only while it drives; let go, it is an input with edge
detection, which electrically is the same. The line stays ours all the time, and an edge that another device makes is
reported if it comes later than the few system calls that this takes.

Driving the line ends the reports, and with them what is known of its level: so edges that wait to be read then are kept
here, and the account begins anew when the line is let go of again.
"""

from __future__ import annotations

from collections.abc import Callable

from hwloop.board import Edge, EdgeStream, LineName
from hwloop.boards.levels import LevelStream


class SwitchedEdges(EdgeStream):
    """The edges of one line, which its output switches on and off.

    Parameters:
        stream: the line's own, which does not give the line back.
        number: the line on its chip.
        kept: called when edges are to be read though the descriptor need not be readable.
        closed: called when nobody watches any more.

    Attributes:
        let_go: whether the line is let go of, and watched, now.
    """

    def __init__(
        self, stream: LevelStream, number: int, kept: Callable[[], object], closed: Callable[[], object]
    ) -> None:
        self.losses = stream.losses
        self.disorder_ns = stream.disorder_ns
        self.let_go = False
        self._stream = stream
        self._number = number
        self._kept = kept
        self._on_close = closed
        self._early: list[Edge] = []
        self._closed = False

    def begin(self) -> None:
        """The line has been let go of, and its edges are reported."""
        self.let_go = True
        self._stream.restart(self._number)

    def end(self) -> None:
        """The line is driven, and no more edges are reported."""
        self.let_go = False
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
        if not self.let_go:
            self.doubtful = False
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
