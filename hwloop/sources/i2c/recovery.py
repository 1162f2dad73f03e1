"""Freeing an I2C bus whose data line a device holds: clock pulses until it lets go, then a stop.

A device that was interrupted while it sent a zero, by a reset of the computer or a disturbed clock, goes on sending it
for as long as no clock comes, and no transfer can begin. After at most nine clocks it has sent its byte and waits for
an acknowledgement, which nobody gives (UM10204, 3.1.16, "Bus clear"). The clocks have to come from lines that the
program can drive: those of the Pi's controllers belong to these, so docs/i2c.md shows which others can be used.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Literal

from hwloop.board import Board, LineName, OutputLine, OutputRequest, checked_call
from hwloop.core.clock import Clock
from hwloop.core.naming import error_text

logger: logging.Logger = logging.getLogger("hwloop")

CLOCKS = 9
_HALF_PERIOD = 5e-6
"""Seconds between two edges: 100 kHz, or slower, for every device."""
_STRETCH = 0.025
"""Seconds for which a device may hold the clock line (SMBus's limit)."""

Outcome = Literal["freed", "free", "held"]


class Recovery:
    """The two wires of a bus as lines that the program can drive.

    Parameters:
        board: has the lines.
        title: the bus, for messages.
        scl, sda: the lines.

    Attributes:
        succeeded: how often it has freed the bus.
    """

    def __init__(self, board: Board, title: str, scl: LineName, sda: LineName) -> None:
        self.succeeded: int = 0
        self._board = board
        self._title = title
        self._requests = [
            OutputRequest(line, consumer="hwloop I2C recovery", initial=1, drive="open-drain") for line in (scl, sda)
        ]
        self._failing = False

    def attempt(self) -> None:
        """Free the bus if a device holds its data line. Blocks for a millisecond; runs on the bus's thread.

        A failure is logged, once until the next success.
        """
        outcome: Outcome = "held"
        reason = "the data line stays low after nine clocks, or the clock line is held"
        try:
            with contextlib.ExitStack() as stack:
                scl, sda = [stack.enter_context(contextlib.closing(self._open(request))) for request in self._requests]
                outcome = _clear(scl, sda, self._board.clock)
        except BaseException as error:  # the thread must live
            reason = error_text(error)
        if outcome == "held":
            if not self._failing:
                logger.warning("%s: a device holds the bus, and clock pulses did not free it: %s", self._title, reason)
            self._failing = True
        else:
            self._failing = False
        if outcome == "freed":
            self.succeeded += 1
            logger.warning("%s: a device held the data line; clock pulses have freed the bus", self._title)

    def _open(self, request: OutputRequest) -> OutputLine:
        line: OutputLine = checked_call(self._board.open_output, request, OutputLine)
        return line


def _clear(scl: OutputLine, sda: OutputLine, clock: Clock) -> Outcome:
    if sda.get() and scl.get():
        return "free"
    for _ in range(CLOCKS):
        if sda.get():
            break
        scl.set(0)
        clock.sleep(_HALF_PERIOD)
        scl.set(1)
        clock.sleep(_HALF_PERIOD)
        if not _rises(scl, clock):
            return "held"
    if not sda.get():
        return "held"
    # A stop: the data line rises while the clock line is high.
    for line, level in ((scl, 0), (sda, 0), (scl, 1), (sda, 1)):
        line.set(level)
        clock.sleep(_HALF_PERIOD)
    return "freed" if _rises(scl, clock) and sda.get() else "held"


def _rises(scl: OutputLine, clock: Clock) -> bool:
    """Wait while a device holds the clock line. Return whether it has let go."""
    waited = 0.0
    while not scl.get():
        if waited > _STRETCH:
            return False
        clock.sleep(0.001)
        waited += 0.001
    return True
