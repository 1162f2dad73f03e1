"""Reports of failed tests: waveforms, seeds, artifacts, golden files."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FAILING = """
import asyncio, station

async def test_fails(board):
    async with board.run(station.main()):
        board["door"].click()
        await asyncio.sleep(2)
        board["door"].click()
        await board.until(lambda: board["lamp"].lit and False, within=0.5)
"""

SEEDED = """
import asyncio, pytest

@pytest.mark.parametrize("name", ["a"])
async def test_order(board, name):
    order = []

    async def append(name):
        order.append(name)

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(append(name))
    assert order == ["a", "b", "c"]

def test_without_a_board():
    pass
"""


def test_a_failure_shows_the_last_second_of_the_lines(suite):
    result = suite(FAILING)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: after 0.5 s of virtual time this is still false: board?'lamp'?.lit and False",
            "*the last second on the board*",
            "time *3.0 s*3.4 s*",
            "17 door *▄▄▄*▔▔▔*",
            "27 lamp *╱▔▔▔*╲▁▁▁*",
            "*▄ low, which is on or pressed (active_low): 17 door",
        ]
    )
    assert "1.5 s" not in str(result.stdout)
    assert "HWLOOP_SEED" not in str(result.stdout)


def test_a_passing_test_and_one_without_events_show_no_waveform(suite):
    result = suite("def test_quiet(board):\n    assert not 1\n")
    assert "last second" not in str(result.stdout)


def test_each_test_with_a_board_runs_with_n_seeds_and_a_failure_shows_how_to_repeat_it(suite, monkeypatch):
    result = suite(SEEDED, "--hwloop-seeds", "6", "-v")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes["failed"] == 7
    assert outcomes["failed"] >= 3
    first = next(line for line in result.outlines if line.startswith("HWLOOP_SEED="))
    assignment, *_, node = first.split()
    assert node.strip("'") == "test_suite.py::test_order[a]"
    monkeypatch.setenv("HWLOOP_SEED", assignment.partition("=")[2])
    again = suite(SEEDED, "test_suite.py::test_order[a]")
    again.assert_outcomes(failed=1)
    assert first in again.outlines


def test_a_seed_of_the_mark_is_used_unless_the_environment_has_one(suite, monkeypatch):
    tests = """
    import os, pytest

    @pytest.mark.hwloop(seed=7)
    async def test_seed(board):
        assert board.seed == int(os.environ.get("HWLOOP_SEED", 7))
    """
    suite(tests).assert_outcomes(passed=1)
    monkeypatch.setenv("HWLOOP_SEED", "9")
    suite(tests).assert_outcomes(passed=1)


@pytest.mark.parametrize("number", ["0", "-3", "x"])
def test_the_number_of_seeds_is_one_or_more(suite, number):
    result = suite(SEEDED, "--hwloop-seeds", number)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*argument --hwloop-seeds: the number of seeds is 1 or more, not '{number}'"])


def test_artifacts_of_failed_tests_are_written_in_every_format(suite, pytester):
    passing = "async def test_passes(board):\n    board.line(4).drive(1)\n"
    suite(FAILING + passing, "--hwloop-artifacts", "out").assert_outcomes(passed=1, failed=1)
    from firmware_sim.trace.files import FORMATS

    [folder] = (pytester.path / "out").iterdir()
    assert folder.name == "test_suite.py_test_fails"
    assert {file.name for file in folder.iterdir()} == {f"trace{suffix}" for suffix in FORMATS}


def test_a_golden_file_is_compared_and_written_by_an_option(suite, pytester):
    tests = """
    import asyncio, station

    async def test_golden(board):
        async with board.run(station.main()):
            board["door"].click()
            await asyncio.sleep(1)
        board.assert_golden("golden/click.txt")
    """
    missing = suite(tests)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*there is no golden file*; write the file with pytest --hwloop-update-golden"])
    suite(tests, "--hwloop-update-golden").assert_outcomes(passed=1)
    suite(tests).assert_outcomes(passed=1)
    golden = pytester.path / "golden" / "click.txt"
    golden.write_text(golden.read_text().replace("line 27 rises", "line 27 falls", 1))
    other = suite(tests)
    other.assert_outcomes(failed=1)
    other.stdout.fnmatch_lines(["*if it is right now, write the file with pytest --hwloop-update-golden, and look at*"])
    assert "update=True" not in other.stdout.str()
