"""Faults of the program itself: a callback that blocks its loop, a signal that ends it."""

from __future__ import annotations

import functools
import os
import signal
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

    The signal goes to the process of the board, and so ends that process, unless the program handles it. In a process
    that is not the program's own, such as a test runner, a signal without a handler is an error. `hwloop run` and
    `hwloop sim` are the program's own; elsewhere set `board.in_own_process = True`.

    Parameters:
        signal: which one.
    """

    name = "program-signal"
    momentary = True
    signal: Literal["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"] = "SIGTERM"

    def target(self, board: FaultyBoard) -> str:
        if self.signal == "SIGKILL":
            self._check(board)
        return "program"

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        self._check(board)
        os.kill(os.getpid(), signal.Signals[self.signal])

    def _check(self, board: FaultyBoard) -> None:
        if board.in_own_process:
            return
        if self.signal == "SIGKILL" or signal.getsignal(signal.Signals[self.signal]) == signal.SIG_DFL:
            raise FaultError(
                f"fault {self.name}: {self.signal} would end this process, which is not the program's own; use "
                "'hwloop sim' or 'hwloop run', or set board.in_own_process = True"
            )
