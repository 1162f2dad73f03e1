"""`suite(tests)`: runs tests with the plugin, beside a program and its board file."""

from __future__ import annotations

import pytest

# pytester forgets the modules that its runs import first, and a second copy of them would know no board.
import firmware_sim.trace
import hwloop.testing.fixture
import hwloop.testing.report
import hwloop.testing.scenario
from hwloop import gpio, i2c, pins, serial

__all__ = ["firmware_sim", "gpio", "hwloop", "i2c", "pins", "serial"]

STATION = """
from hwloop import gpio

async def main():
    async with (
        gpio.watch(17, pull="up", active_low=True, debounce=0.005) as door,
        gpio.output(27, initial=0, safe=0) as lamp,
    ):
        async for edge in door:
            lamp.set(edge.value)
"""

BOARD = """
[[device]]
type = "button"
name = "door"
line = 17
bounce = 0.004

[[device]]
type = "led"
name = "lamp"
line = 27
"""

EXAMPLE = """
import station

async def test_the_lamp_follows_the_door(board):
    async with board.run(station.main()):
        board["door"].press()
        await board.until(lambda: board["lamp"].lit, within=0.1)
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """`suite(tests, ...)` runs tests beside the station and its board; the result of pytest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def suite(tests=EXAMPLE, *options, board=BOARD, ini="[pytest]\nfilterwarnings = error\n"):
        pytester.makepyfile(station=STATION, test_suite=tests)
        if board is not None:
            (pytester.path / "board.toml").write_text(board)
        (pytester.path / "pytest.ini").write_text(ini)
        monkeypatch.syspath_prepend(pytester.path)
        return pytester.runpytest("-p", "hwloop.testing.plugin", "-p", "no:cacheprovider", *options)

    return suite


@pytest.fixture
def script(board, tmp_path):
    """`script(text)` runs a script on the board."""

    def script(text):
        (tmp_path / "script.py").write_text(text)
        return board.script(tmp_path / "script.py")

    return script
