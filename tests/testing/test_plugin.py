"""The pytest plugin: the fixture `board`, its settings, and async tests in virtual time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

PARTS = {
    "device": [
        {"type": "button", "name": "door", "line": 17, "bounce": 0.004},
        {"type": "led", "name": "lamp", "line": 27},
    ]
}


def test_the_example_of_the_documentation_passes_without_another_plugin(suite):
    suite().assert_outcomes(passed=1)


async def lamp_follows_door():
    async with (
        gpio.watch(17, pull="up", active_low=True, debounce=0.005) as door,
        gpio.output(27, initial=0, safe=0) as lamp,
    ):
        async for edge in door:
            lamp.set(edge.value)


def test_without_settings_the_board_has_bare_pins(board):
    assert isinstance(board, SimBoard)
    assert board.devices == []
    assert board.line(17).level == 0
    assert list(board.trace) == []
    assert board.outputs == {}
    assert hwloop.board.current() is board


@pytest.mark.hwloop(board=PARTS)
async def test_the_parts_of_a_board_have_names_and_all_that_happens_is_in_the_trace(board):
    async with board.run(lamp_follows_door()):
        board["door"].press()
        await board.until(lambda: board["lamp"].lit, within=0.1)
        assert board.outputs == {27: 1}
    assert board.outputs == {27: 0}
    assert {change.line for change in board.trace} == {17, 27}


async def test_an_hour_takes_no_time(board):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(3000)
    assert loop.time() == began + 3000


@pytest.mark.hwloop(board=PARTS)
async def test_a_failure_of_the_program_ends_the_test_at_once(board):
    async def main():
        await asyncio.sleep(1)
        raise ValueError("no such sensor")

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ValueError, match="no such sensor"):
        async with board.run(main()):
            await board.until(lambda: board["lamp"].lit, within=100)
    assert loop.time() == began + 1


async def test_a_program_is_cancelled_and_awaited_with_the_tasks_that_it_has_started(board):
    ended = []

    async def child():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("child")

    async def main():
        main.task = asyncio.create_task(child())
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("main")

    async with board.run(main()):
        await asyncio.sleep(5)
    assert ended == ["main", "child"]


@pytest.mark.hwloop(board=PARTS)
async def test_a_condition_that_stays_false_shows_its_text_its_values_and_where_the_tasks_wait(board):
    lamp, wanted = board["lamp"], 3
    with pytest.raises(AssertionError) as raised:
        async with board.run(lamp_follows_door()):
            await board.until(lambda: lamp.lit and wanted > len(board.devices), within=0.5)
    assert str(raised.value).splitlines()[:5] == [
        "after 0.5 s of virtual time this is still false: lamp.lit and wanted > len(board.devices)",
        "  lamp.lit = False",
        "  wanted = 3",
        "  len(board.devices) = 2",
        "  board.devices = " + repr(board.devices),
    ]
    assert f"{__file__}:" in str(raised.value).splitlines()[-1]


async def test_an_exception_of_a_condition_is_raised_in_the_test(board):
    with pytest.raises(ZeroDivisionError):
        await board.until(lambda: 1 / 0)


async def test_a_condition_returns_its_value_and_is_checked_after_each_step(board):
    states = []

    async def flash():
        await asyncio.sleep(1)
        states.append("on")
        await asyncio.sleep(0)  # no time passes
        states.clear()
        await asyncio.sleep(10)

    async with board.run(flash()):
        assert await board.until(lambda: list(states)) == ["on"]


def test_a_wait_that_nothing_can_end_fails_with_the_place_in_the_test_and_in_the_program(suite):
    result = suite(
        """
        import asyncio, station

        async def test_nobody_sets_it(board):
            async with board.run(station.main()):
                await asyncio.Event().wait()
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*await asyncio.Event().wait()",
            "E*DeadlockError: nothing can ever wake this program*",
            "*main waits at *station.py:8 in main",
        ]
    )


def test_unknown_and_invalid_arguments_of_the_mark_are_errors(suite):
    result = suite(
        """
        import pytest

        @pytest.mark.hwloop(bord="x")
        def test_unknown(board):
            pass

        @pytest.mark.hwloop(seed="7")
        def test_seed(board):
            pass

        @pytest.mark.hwloop(board="nowhere.toml")
        def test_file(board):
            pass
        """
    )
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "*has no argument bord=; there are: backend=, board=, *explore=, faults=, *seed=*",
            "*seed is a whole number or 'random', not '7'*",
            "*no board file *nowhere.toml*",
        ]
    )


def test_the_ini_file_names_a_board_for_all_tests(suite, pytester):
    (pytester.path / "boards").mkdir()
    (pytester.path / "boards" / "lab.toml").write_text('label = "lab"')
    result = suite(
        """
        import pytest

        def test_of_the_ini(board):
            assert board.label == "lab"

        @pytest.mark.hwloop(board={"label": "mine"})
        def test_of_the_mark(board):
            assert board.label == "mine"
        """,
        board=None,
        ini="[pytest]\nhwloop_board = boards/lab.toml\n",
    )
    result.assert_outcomes(passed=2)


def test_a_program_that_is_made_and_not_run_fails_the_test(suite):
    result = suite("""
        import station

        def test_plain(board):
            board.run(station.main())
    """)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*board.run(main()) has run nothing: write 'async with board.run(...):' in an async test"]
    )


def test_another_fixture_named_board_is_left_alone(suite):
    result = suite(
        """
        import pytest

        @pytest.fixture
        def board():
            return "chess"

        def test_chess(board):
            assert board == "chess"
        """
    )
    result.assert_outcomes(passed=1)


def test_the_plugin_imports_neither_the_loop_nor_the_simulated_board():
    code = (
        "import hwloop.testing.plugin, sys; print(*(name for name in sys.modules if name.startswith(('hwl', 'firm'))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(found.stdout.split()) == {
        *("hwloop", "hwloop.core", "hwloop.core.lazy", "hwloop.testing", "hwloop.testing.plugin"),
    }
