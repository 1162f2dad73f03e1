"""The line of an output beyond the end of its program: taken over from the last program, and left to the next one.

A guardian (docs/guard.md) holds the line's descriptor while no program does. Without one, an output with `keep=True` is
an ordinary output, and the log says so: the program must run where nobody keeps its lines, too.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import time

from hwloop import board as boards
from hwloop.board import Board, OutputLine, OutputRequest
from hwloop.errors import HardwareError
from hwloop.lines import Level
from hwloop.output_reports import OutputReport

logger: logging.Logger = logging.getLogger("hwloop")

_GUARDIAN_RELEASES, _PAUSE = 1.0, 0.001
"""Seconds for which a line that is in use is tried again under a guardian, which may have to release it; and between
two attempts."""


class Keeping:
    """The keeping of the line of one output, and its report to a guardian.

    Parameters:
        name: the output's.
        request: the output's, which says whether its line is to be kept.
        safe: the safe level of the output; None if it has none.
        within: seconds within which another program must take over the line.

    Attributes:
        report: reports the output.
        adopted: whether the line was taken over from an earlier program, at its level.
    """

    def __init__(self, name: str, request: OutputRequest, safe: Level | None, within: float) -> None:
        self.report: OutputReport = OutputReport()
        self.adopted: bool = False
        self._name = name
        self._request = request
        self._safe = safe
        self._within = within

    def open(self, board: Board) -> OutputLine:
        """Report the output, and take over its line if a guardian has kept it, or else claim it.

        Raises `HardwareError`.
        """
        if board.shared:
            self._report_opening(board)
        give_up = time.monotonic() + (_GUARDIAN_RELEASES if self.report.guarded else 0)
        while True:
            try:
                return self._taken_over(board) or boards.checked_call(board.open_output, self._request, OutputLine)
            except BaseException as error:
                # The guardian may hold the line at its safe level, and releases it when it has the report.
                busy = isinstance(error, HardwareError) and error.errno == errno.EBUSY
                if not busy or time.monotonic() >= give_up:
                    self._fail()
                    raise
            time.sleep(_PAUSE)

    def begin(self, board: Board, line: OutputLine) -> None:
        """Let the guardian hold the open line too."""
        if not self._request.keep:
            return
        if line.fileno() < 0 and not board.simulated:
            reason = f"{board.label} has no lines that outlive their program"
        elif self.report.hand_over(line.fileno()):
            return
        else:
            reason = "no guardian listens; run it under 'hwloop guard', or as a service with a guardian"
        end = "released as it is" if self._safe is None else f"driven to {self._safe}"
        level = logging.INFO if board.simulated else logging.WARNING
        logger.log(level, "%s is not kept: %s. It is %s when the program ends", self._name, reason, end)

    def claim_at(self, board: Board, level: Level) -> OutputLine | None:
        """Claim the line at this level; return None if that is impossible."""
        request = dataclasses.replace(self._request, initial=level)
        try:
            return boards.checked_call(board.open_output, request, OutputLine)
        except HardwareError:
            return None

    def leave(self) -> bool:
        """Leave the line to the guardian, as it is. Return whether that holds it."""
        return self._request.keep and self.report.left()

    @property
    def kept(self) -> bool:
        """Whether a guardian holds the line, so that it outlives the program."""
        return self.report.held

    def _report_opening(self, board: Board) -> None:
        if self._request.keep:
            self.report.opening(board.resolved(self._request), self._safe, board.address, self._within)
        elif self._safe is not None:
            self.report.opening(self._request, self._safe, board.address)

    def _fail(self) -> None:
        """Report that the output could not be opened. A kept line stays with the guardian, for the next attempt."""
        if self._request.keep:
            self.report.left()
        else:
            self.report.closed()

    def _taken_over(self, board: Board) -> OutputLine | None:
        found = self.report.take() if self._request.keep else None
        if found is None:
            return None
        if found.descriptor < 0:  # a simulated line, which goes on by itself
            request = dataclasses.replace(self._request, initial=None)
            line = boards.checked_call(board.open_output, request, OutputLine)
        else:
            try:
                line = board.adopt_output(self._request, found.descriptor)
            except HardwareError as error:
                if error.errno != errno.ENODEV:
                    raise
                logger.warning("%s can't be taken over, and is claimed anew: %s", self._name, error)
                return None
        self.adopted = found.kept
        if not found.kept and self._request.initial is not None:
            line.set(self._request.initial)
        return line
