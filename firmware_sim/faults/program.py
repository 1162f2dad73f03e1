"""Faults of the program itself: a callback that blocks its loop, a signal that ends it."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from firmware_sim.errors import FaultError
from firmware_sim.faults.fault import Chance, Fault, FaultyBoard
from hwloop.core.clock import Clock


@dataclass
class BlockedLoop(Fault):
    """A callback that blocks each event loop that uses the board: a slow library, a computation, a full disk.

    The board goes on meanwhile, so that its reports and bytes pile up. A program without a loop is not affected.

    Parameters:
        seconds: for how long, by the board's clock.
    """

    name = "blocked-loop"
    momentary = True
    seconds: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 1000:
            raise ValueError(f"seconds must be more than 0 and at most 1000, not {self.seconds!r}")

    def target(self, board: FaultyBoard) -> str:
        return "program"

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        for loop in board.loops():
            try:
                loop.call_soon_threadsafe(functools.partial(_block, board.timeline.clock, self.seconds))
            except RuntimeError:
                pass  # it is closed


def _block(clock: Clock, seconds: float) -> None:
    clock.sleep(seconds)


@dataclass
class ProgramSignal(Fault):
    """A signal for the program: SIGTERM from the service manager, SIGKILL from the kernel that is out of memory.

    `hwloop run` and `hwloop sim` send it to their own process, which is the program's. In another process, such as a
    test runner, it is sent if the program handles it, and is an error otherwise, unless `board.signal_program` is set.

    Parameters:
        signal: which one.
    """

    name = "program-signal"
    momentary = True
    signal: Literal["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"] = "SIGTERM"

    def target(self, board: FaultyBoard) -> str:
        if self.signal == "SIGKILL":
            self._find_sender(board)
        return "program"

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        self._find_sender(board)(signal.Signals[self.signal])

    def _find_sender(self, board: FaultyBoard) -> Callable[[int], object]:
        """Return the function that sends the signal. Raises `FaultError` if it would end what is not the program's."""
        if board.signal_program is not None:
            return board.signal_program
        if self.signal == "SIGKILL" or signal.getsignal(signal.Signals[self.signal]) == signal.SIG_DFL:
            raise FaultError(
                f"fault {self.name}: {self.signal} would end this process, which is not the program's own; use "
                "'hwloop sim' or 'hwloop run', or set board.signal_program to a function that sends it"
            )
        return functools.partial(os.kill, os.getpid())
