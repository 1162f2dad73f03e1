"""The text that a program prints, as events of its board's trace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Literal, TextIO

from firmware_sim import SimBoard
from hwloop.trace_events import Printed

LONGEST = 100_000
"""Characters of a line that has no end, before it is recorded as one."""


@contextlib.contextmanager
def traced_output(board: SimBoard) -> Iterator[None]:
    """Record the lines that are printed in this block; they are printed all the same.

    This covers whatever writes to `sys.stdout` and `sys.stderr`, but no other process, and no library that writes to
    the descriptors themselves.
    """
    out, err = _TracedStream(board, sys.stdout, "stdout"), _TracedStream(board, sys.stderr, "stderr")
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        if sys.stdout is out:
            sys.stdout = before[0]
        if sys.stderr is err:
            sys.stderr = before[1]
        out.end_line()
        err.end_line()


class _TracedStream:
    """A text stream that passes everything on to another one, and records the lines."""

    def __init__(self, board: SimBoard, stream: TextIO, name: Literal["stdout", "stderr"]) -> None:
        self._board = board
        self._stream = stream
        self._name = name
        self._line = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        count = self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._record(line)
        if len(self._line) > LONGEST:
            self.end_line()
        return count

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def end_line(self) -> None:
        """Record a line that has no end yet."""
        if self._line:
            self._record(self._line)
            self._line = ""

    def _record(self, line: str) -> None:
        timeline = self._board.timeline
        with timeline.lock:
            if timeline.tracer is not None:
                timeline.tracer.record(Printed(timeline.now_ns(), self._name, line.removesuffix("\r")))
