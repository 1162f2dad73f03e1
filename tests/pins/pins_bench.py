"""The bench for tests of pins: a simulated board with a pin factory on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

import gpiozero

import hwloop
from firmware_sim import SimBoard
from hwloop.pins import LoopFactory


class Bench:
    """A simulated board, a factory on it, and buttons (lines pulled up) to be pressed."""

    def __init__(self, board: SimBoard, factory: LoopFactory) -> None:
        self.board = board
        self.factory = factory
        self.clock: Any = board.clock
        self.reports: list[dict[str, Any]] = []

    def press(self, line: int = 17) -> None:
        self.board.chip.line(line).drive(0)

    def release(self, line: int = 17) -> None:
        self.board.chip.line(line).drive(None)

    def busy(self, seconds: float) -> None:
        """Let virtual time pass in a callback: what happens meanwhile on the board is read later."""
        timeline = self.board.timeline
        end_ns = timeline.now_ns() + round(seconds * 1e9)
        while (next_ns := timeline.next_ns()) is not None and next_ns <= end_ns:
            self.clock.jump(max(next_ns, timeline.now_ns()))
            timeline.run_due()
        self.clock.jump(end_ns)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on a loop of hwloop's, and keep what is reported to its exception handler."""
        virtual = isinstance(self.clock, hwloop.VirtualClock)

        async def reporting() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.reports.append(context))
            return await main

        return hwloop.run(reporting(), board=self.board, clock=self.clock if virtual else "real")


@contextlib.contextmanager
def bench_on(board: SimBoard) -> Iterator[Bench]:
    """Yield a bench on a board that is closed afterwards, with its factory as gpiozero's own."""
    before = gpiozero.Device.pin_factory
    with board, LoopFactory(board) as factory:
        gpiozero.Device.pin_factory = factory
        try:
            yield Bench(board, factory)
        finally:
            gpiozero.Device.pin_factory = before
