"""The fixture `board` beside other pytest plugins: its tests run in virtual time, and all others as they did."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOGETHER = ("pytest_asyncio", "anyio", "pytest_mock", "xdist", "pytest_randomly", "looptime")
OFF = {"pytest_asyncio": "asyncio", "looptime": "looptime_plugin", "pytest_randomly": "randomly"}

TESTS = """
import asyncio
import time

import hwloop
import pytest

@pytest.fixture
async def waited(board):
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(100)
    yield began
    await asyncio.sleep(100)

async def test_virtual_time(board, waited):
    loop = asyncio.get_running_loop()
    assert isinstance(loop, hwloop.SimLoop)
    assert loop.time() == waited + 100
    board.line(4).drive(1)
    await board.until(lambda: board.line(4).level, within=0)

def test_without_a_loop(board):
    began = board.clock.now_ns()
    board.advance(3000)
    assert board.clock.now_ns() == began + 3_000_000_000_000

def test_without_a_board():
    assert not hasattr(asyncio.get_event_loop_policy(), "board")

class TestMethods:
    async def test_method(self, board):
        await asyncio.sleep(3000)
"""


def run(directory: Path, tests: str, *options: str, ini: str = "", needs: tuple[str, ...]) -> str:
    """Run tests in a process of their own, with these plugins and no other async ones; the last line of pytest."""
    for module in needs:
        if find_spec(module) is None:
            pytest.skip(f"pip install {module.replace('_', '-')}")
    (directory / "test_suite.py").write_text(tests)
    # From Python 3.12 on, looptime's plugin asks the policy for a loop where a test has none, which is deprecated.
    warnings = "error\n    ignore:There is no current event loop:DeprecationWarning"
    (directory / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = {warnings}\n{ini}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "HWLOOP_SEED"):
        environment.pop(name, None)
    blocked = [part for module, name in OFF.items() if module not in needs for part in ("-p", f"no:{name}")]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *blocked, *options, str(directory)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=directory,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip().splitlines()[-1]


ASYNCIO_INI = "asyncio_default_fixture_loop_scope = function\nasyncio_mode = "


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio_keeps_its_own_tests_and_leaves_those_with_a_board(tmp_path: Path, mode: str) -> None:
    own = """
import pytest_asyncio

@pytest_asyncio.fixture
async def loop():
    return asyncio.get_running_loop()

async def test_fixture_of_pytest_asyncio(board, loop):
    assert loop is asyncio.get_running_loop()

@pytest.mark.asyncio
async def test_of_pytest_asyncio(loop):
    assert loop is asyncio.get_running_loop()
    assert type(loop) is hwloop.EventLoop

@pytest.mark.asyncio
async def test_marked_and_with_a_board(board):
    await asyncio.sleep(3000)
    assert isinstance(asyncio.get_running_loop(), hwloop.SimLoop)
"""
    (tmp_path / "conftest.py").write_text(
        "import hwloop\n\ndef pytest_asyncio_loop_factories(config, item):\n    return {'hwloop': hwloop.EventLoop}\n"
    )
    assert run(tmp_path, TESTS + own, ini=ASYNCIO_INI + mode, needs=("pytest_asyncio",)).startswith("7 passed")


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_anyio_keeps_its_own_tests_and_leaves_those_with_a_board(tmp_path: Path, mode: str) -> None:
    own = """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_of_anyio():
    assert not isinstance(asyncio.get_running_loop(), hwloop.SimLoop)

@pytest.mark.anyio
async def test_marked_and_with_a_board(board):
    import anyio

    with anyio.move_on_after(3000) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert isinstance(asyncio.get_running_loop(), hwloop.SimLoop)
"""
    assert run(tmp_path, TESTS + own, ini=f"anyio_mode = {mode}", needs=("anyio",)).startswith("6 passed")


def test_pytest_mock_xdist_randomly_and_looptime_work_together_with_it(tmp_path: Path) -> None:
    own = """
async def test_mock(board, mocker):
    read = mocker.patch("os.getloadavg", return_value=(7, 7, 7))

    async def main():
        import os
        await asyncio.sleep(10)
        main.load = os.getloadavg()

    async with board.run(main()) as program:
        await board.until(lambda: program.done)
    assert main.load == (7, 7, 7)
    read.assert_called_once()

@pytest.mark.looptime(start=100)
async def test_of_looptime():
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == 3700
"""
    options = ("-n", "2", "--hwloop-seeds", "3")
    # With a board: 4 tests with 3 seeds each.
    assert run(tmp_path, TESTS + own, *options, ini=ASYNCIO_INI + "auto", needs=TOGETHER).startswith("14 passed")
