"""Tests of programs on a simulated board: the pytest plugin and its fixture `board`.

    async def test_the_lamp_follows_the_door(board):
        async with board.run(station.main()):
            board["door"].press()
            await board.until(lambda: board["lamp"].lit, within=0.1)

pytest loads `hwloop.testing.plugin` by its entry point in every run, so importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwloop.core.lazy import lazy_names

_PUBLIC = {
    "hwloop.testing.fixture": ("BoardFixture",),
    "hwloop.testing.program": ("ProgramRun",),
}

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture as BoardFixture
    from hwloop.testing.program import ProgramRun as ProgramRun

__all__ = sorted(name for names in _PUBLIC.values() for name in names)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, __all__, _PUBLIC)
