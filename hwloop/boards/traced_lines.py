"""Lines of a real board with a tracer: they record the edges that they report and the levels that they are driven to.

A board without a tracer makes none of these, so an edge costs nothing more there. They record the events that the
program gets and causes: a trace of a real board lacks the edges that the kernel lost, and the pulses of PWM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hwloop.board_interface import Board
from hwloop.lines import Edge, EdgeStream, LineName, Losses, OutputLine
from hwloop.requests import OutputRequest
from hwloop.trace_events import LineChange


class TracedEdges(EdgeStream):
    """Edges of lines, recorded as they are read.

    Parameters:
        board: has the tracer. Nothing is recorded while it has none.
        stream: the edges.
        numbers: the numbers of the lines by the names that the stream gives them.
        active_low: whether the stream's levels are inverted.
    """

    def __init__(self, board: Board, stream: EdgeStream, numbers: Mapping[LineName, int], *, active_low: bool) -> None:
        self.losses: Losses = stream.losses
        self.disorder_ns: int = stream.disorder_ns
        self.doubtful: bool = stream.doubtful
        self._board = board
        self._stream = stream
        self._numbers = numbers
        self._active_low = active_low

    def fileno(self) -> int:
        return self._stream.fileno()

    def read(self) -> list[Edge]:
        return self._recorded(self._stream.read())

    def recheck(self) -> list[Edge]:
        edges = self._stream.recheck()
        self.doubtful = self._stream.doubtful
        return self._recorded(edges)

    def level(self, line: LineName) -> int:
        return self._stream.level(line)

    def alarm_fileno(self) -> int:
        return self._stream.alarm_fileno()

    def check(self) -> None:
        self._stream.check()

    def close(self) -> None:
        self._stream.close()

    def _recorded(self, edges: list[Edge]) -> list[Edge]:
        tracer = self._board.tracer
        if tracer is not None:
            for edge in edges:
                level = edge.value ^ self._active_low
                tracer.record(LineChange(edge.timestamp_ns, self._numbers[edge.line], level, "outside"))
        return edges


class TracedOutput(OutputLine):
    """A line that is driven, with its changes recorded.

    Parameters:
        board: has the tracer. Nothing is recorded while it has none.
        line: the line.
        number: its number.
        request: the request by which it was opened.
        before: its electrical level before; None if that is unknown.
    """

    def __init__(self, board: Board, line: OutputLine, number: int, request: OutputRequest, before: int | None) -> None:
        self._board = board
        self._line = line
        self._number = number
        self._request = request
        self._level = before
        if request.initial is not None:
            self._record(request.initial)

    @property
    def forked(self) -> bool:
        return self._line.forked

    def fileno(self) -> int:
        return self._line.fileno()

    def set(self, value: int) -> None:
        self._line.set(value)
        self._record(value)

    def get(self) -> int:
        return self._line.get()

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        numbers = {self._request.line: self._number}
        return TracedEdges(self._board, self._line.watch(kept), numbers, active_low=self._request.active_low)

    def pwm(self, frequency: float, duty: float) -> None:
        self._line.pwm(frequency, duty)
        self._level = None

    def close(self) -> None:
        self._line.close()

    def _record(self, value: int) -> None:
        level = value ^ self._request.active_low
        if level != self._level:
            self._level = level
            if self._board.tracer is not None:
                self._board.tracer.record(LineChange(time.monotonic_ns(), self._number, level, "program"))
