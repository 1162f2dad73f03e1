"""The lines that were left to a guardian: drive first, hold, and report afterwards.

Each line is tried whatever becomes of the others; one that is in use is tried again for a while, because a child of the
dead process may have it for a moment. What is printed waits until the lines are safe, and printing neither blocks nor
fails: nobody may be there to read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Sequence

from hwloop import board as boards
from hwloop.board import Board, OutputLine, OutputRequest
from hwloop.errors import HardwareError
from hwloop.service.guard_records import Charge

PATIENCE = 5.0
"""Seconds for which a line that is still in use is tried again."""
AGAIN = 0.05
"""Seconds between two tries."""


class Lines:
    """The lines that were left to the guardian: those to be driven, and those that it holds.

    Attributes:
        failed: how many could not be driven.
        done: the places of those that were driven.
    """

    def __init__(self) -> None:
        self.failed: int = 0
        self.done: set[tuple[str, str | None, int | str]] = set()
        self._waiting: dict[tuple[str, str | None, int | str], tuple[Charge, float]] = {}  # with when to give up
        self._held: dict[tuple[str, str | None, int | str], OutputLine] = {}
        self._boards: dict[str, Board] = {}
        self._said: list[str] = []

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def held(self) -> bool:
        return bool(self._held)

    def take(self, charges: Sequence[Charge]) -> None:
        """These are to be driven."""
        for charge in charges:
            self._waiting[charge.place] = (charge, time.monotonic() + PATIENCE)

    def let_go(self, charges: Sequence[Charge]) -> None:
        """A process is about to open these, or has them."""
        for charge in charges:
            self._waiting.pop(charge.place, None)
            if (line := self._held.pop(charge.place, None)) is not None:
                line.close()

    def drive(self) -> None:
        """Drive what is waiting, each line whatever becomes of the others."""
        for place, (charge, give_up) in list(self._waiting.items()):
            try:
                self._held[place] = self._opened(charge)
            except Exception as error:
                if getattr(error, "errno", None) == errno.EBUSY and time.monotonic() < give_up:
                    continue
                self.failed += 1
                self._said.append(f"line {charge.line} could NOT be driven to its safe level {charge.safe}: {error}")
            else:
                where = " (simulated)" if self._boards[charge.board].simulated else ""
                self._said.append(f"line {charge.line} is at its safe level {charge.safe}{where}")
                self.done.add(place)
            del self._waiting[place]

    def report(self) -> None:
        """Say what has been done since."""
        said, self._said = self._said, []
        for text in said:
            say(text)

    def close(self) -> None:
        """Let go of all lines. What has not been said is said."""
        for line in self._held.values():
            with contextlib.suppress(HardwareError, OSError):
                line.close()
        self._held.clear()
        self.report()
        for address, board in self._boards.items():
            if address:
                board.close()

    def _opened(self, charge: Charge) -> OutputLine:
        if charge.board not in self._boards:
            self._boards[charge.board] = boards.reached(charge.board)
        request = OutputRequest(
            charge.line,
            consumer="hwloop guard",
            chip=charge.chip,
            initial=charge.safe,
            drive=charge.drive,
            active_low=charge.active_low,
        )
        return self._boards[charge.board].open_output(request)


def say(text: str) -> None:
    """Write a line to standard error, if there is somebody to take it: nothing waits or fails for that."""
    message = f"hwloop guard: {text}\n".encode(errors="backslashreplace")
    try:
        if select.select([], [2], [], 0.2)[1]:
            os.write(2, message[: select.PIPE_BUF])  # so much a pipe takes at once, if it takes anything
    except (OSError, ValueError):
        pass
