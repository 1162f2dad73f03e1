"""The trace of a program's run, for `hwloop run --trace`: recorded in memory, and written when the process ends."""

from __future__ import annotations

import os
import sys

from firmware_sim import SimBoard
from firmware_sim.trace import Trace, write
from firmware_sim.trace.files import writer_for
from hwloop.board_interface import Board
from hwloop.cli import UsageError
from hwloop.cli.output_file import check_output
from hwloop.trace_events import BothTracers

KEPT = 500_000
"""Events that are kept, the last ones: about 100 MB."""


class TraceFile:
    """The trace of the first board that a program uses.

    Parameters:
        path: the file; its suffix is the format.

    Raises `UsageError` for a suffix without a format, or one that needs a package that is not installed, and what
    `check_output` raises.
    """

    def __init__(self, path: str) -> None:
        try:
            writer_for(path)
        except ValueError as error:
            raise UsageError(f"--trace: {error}") from error
        except ImportError as error:
            raise UsageError(f"--trace {path}: {error}") from error
        check_output("--trace", path, replaced=True)
        self._path = os.path.abspath(path)  # the program may change its directory
        self._shown = path
        self._trace = Trace(KEPT)
        self._board: Board | None = None
        self._process = os.getpid()

    def attach(self, board: Board) -> None:
        """Record the events of a board from now on, beside a tracer that it may have already."""
        if self._board is board:
            return
        if self._board is not None:
            self._say(f"it has the events of {self._board.label}, and not those of {board.label}")
            return
        self._board = board
        board.tracer = self._trace if board.tracer is None else BothTracers(board.tracer, self._trace)

    def write(self) -> None:
        """Write the file. A failure is reported, and changes nothing about the program's exit status."""
        if os.getpid() != self._process:  # a child that the program has forked ends
            return
        names = self._board.line_names if isinstance(self._board, SimBoard) else {}
        try:
            write(self._trace, self._path, names=names)
        except OSError as error:
            self._say(f"the trace could not be written: {error.strerror}")
            return
        if self._board is None:
            self._say("empty, because the program has not used a board")
        elif not self._trace:
            self._say("empty, because nothing has happened on the lines, ports and buses of the board")
        elif len(self._trace) == KEPT:
            self._say(f"has the last {KEPT} events; earlier ones were left out")

    def _say(self, message: str) -> None:
        print(f"hwloop run: {self._shown}: {message}", file=sys.stderr)
