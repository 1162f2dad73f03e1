"""The outputs that dead processes left to a guardian: drive them first, hold them, and report afterwards.

A line that fails does not keep the others from being driven. A line that is in use is tried again for a while: a child
of the dead process may still have it. Messages wait until the lines are safe, and printing neither blocks nor
fails: there may be no reader.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable, Sequence

from hwloop import board as boards
from hwloop.board import Board, OutputLine, OutputRequest
from hwloop.errors import HardwareError
from hwloop.service.guard_records import GuardedOutput

PATIENCE = 5.0
"""Seconds for which to retry a line that is in use."""
AGAIN = 0.05
"""Seconds between two attempts."""


class AbandonedOutputs:
    """Outputs that were left to the guardian: those that it must drive, and those that it holds.

    Attributes:
        failed: the number of outputs that could not be driven.
        done: the places of those that were driven.
    """

    def __init__(self) -> None:
        self.failed: int = 0
        self.done: set[tuple[str, str | None, int | str]] = set()
        self._waiting: dict[
            tuple[str, str | None, int | str], tuple[GuardedOutput, float]
        ] = {}  # and the time to give up
        self._held: dict[tuple[str, str | None, int | str], OutputLine] = {}
        self._boards: dict[str, Board] = {}
        self._prepared: set[str] = set()
        self._said: list[str] = []

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def held(self) -> bool:
        return bool(self._held)

    def take(self, outputs: Sequence[GuardedOutput]) -> None:
        """Add outputs to drive."""
        for output in outputs:
            self._waiting[output.place] = (output, time.monotonic() + PATIENCE)

    def let_go(self, outputs: Sequence[GuardedOutput]) -> None:
        """Release outputs that a process has, or is about to open."""
        for output in outputs:
            self._waiting.pop(output.place, None)
            if (line := self._held.pop(output.place, None)) is not None:
                line.close()

    def prepare(self, addresses: Iterable[str]) -> None:
        """Load what lines on the boards with these addresses need, once, so that driving them need not wait for it."""
        for address in set(addresses) - self._prepared:
            self._prepared.add(address)
            with contextlib.suppress(Exception):  # `drive` reports it; a board may be anybody's
                self._board(address).load()

    def resolved(self, output: GuardedOutput) -> GuardedOutput:
        """Return an output with the names of chip and line that a kept one has; as it is if there is no such line."""
        try:
            request = self._board(output.board).resolved(_request(output))
        except (HardwareError, ValueError):
            return output
        return output._replace(line=request.line, chip=request.chip)

    def drive(self) -> None:
        """Drive the waiting outputs, each whether or not others fail."""
        for place, (output, give_up) in list(self._waiting.items()):
            try:
                self._held[place] = self._opened(output)
            except Exception as error:
                if getattr(error, "errno", None) == errno.EBUSY and time.monotonic() < give_up:
                    continue
                self.failed += 1
                self._said.append(f"line {output.line} could NOT be driven to its safe level {output.safe}: {error}")
            else:
                where = " (simulated)" if self._boards[output.board].simulated else ""
                self._said.append(f"line {output.line} is at its safe level {output.safe}{where}")
                self.done.add(place)
            del self._waiting[place]

    def report(self) -> None:
        """Print the messages since the last report."""
        said, self._said = self._said, []
        for text in said:
            say(text)

    def close(self) -> None:
        """Release all lines, and print the remaining messages."""
        for line in self._held.values():
            with contextlib.suppress(HardwareError, OSError):
                line.close()
        self._held.clear()
        self.report()
        for address, board in self._boards.items():
            if address:
                board.close()

    def _opened(self, output: GuardedOutput) -> OutputLine:
        return self._board(output.board).open_output(_request(output))

    def _board(self, address: str) -> Board:
        if address not in self._boards:
            self._boards[address] = boards.reached(address)
        return self._boards[address]


def _request(output: GuardedOutput) -> OutputRequest:
    return OutputRequest(
        output.line,
        consumer="hwloop guard",
        chip=output.chip,
        initial=output.safe,
        drive=output.drive,
        active_low=output.active_low,
    )


def say(text: str) -> None:
    """Write a line to standard error, if there is a reader. Neither blocks nor fails."""
    message = f"hwloop guard: {text}\n".encode(errors="backslashreplace")
    try:
        if select.select([], [2], [], 0.2)[1]:
            os.write(2, message[: select.PIPE_BUF])  # a pipe takes this much at once, or nothing
    except (OSError, ValueError):
        pass
