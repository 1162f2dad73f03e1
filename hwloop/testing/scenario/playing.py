"""`play`: plays a scenario beside a program on a running loop, for tests."""

from __future__ import annotations

import asyncio

from firmware_sim import SimBoard
from hwloop.testing.scenario.errors import ScenarioFailure
from hwloop.testing.scenario.output import traced_output
from hwloop.testing.scenario.player import Player
from hwloop.testing.scenario.report import failure_text
from hwloop.testing.scenario.result import Result
from hwloop.testing.scenario.scenario import Scenario


async def play(board: SimBoard, scenario: Scenario) -> Result:
    """Play a scenario on a board, beside a program that runs on the same loop, and return the result.

    Raises `ScenarioFailure`, an AssertionError with a report, if an expectation is not met, and `ScenarioError` if a
    step does not fit the board.
    """
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wake() -> None:
        if not ended.done():
            ended.set_result(None)

    def on_end() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    player = Player(board, scenario, on_end=on_end)
    with traced_output(board):
        try:
            player.start()
            await ended
        finally:
            player.stop()
    if player.result.failure is not None:
        raise ScenarioFailure(failure_text(player.result, board.line_names))
    return player.result
