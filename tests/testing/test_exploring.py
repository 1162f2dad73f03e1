"""Tests that run under schedules of faults: `@pytest.mark.hwloop(explore=N)`."""

from __future__ import annotations

import re
import shlex

import pytest

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

COUNTS_BOUNCES = """
import asyncio
import pytest
from hwloop import gpio

async def count(presses):
    async with gpio.watch(17, pull="up", active_low=True, debounce={debounce}) as door:
        async for edge in door:
            presses += [edge] * edge.value

@pytest.fixture
def presses():
    return []

@pytest.mark.hwloop(explore=60, faults={faults})
async def test_a_click_is_one_press(board, presses):
    assert presses == []
    async with board.run(count(presses)):
        await asyncio.sleep(1)
        board["door"].click()
        await asyncio.sleep(1)
    assert len(presses) <= 1
"""
BOARD = '[[device]]\ntype = "button"\nname = "door"\nline = 17\nhold = 0.5\n'


def with_bounces(debounce, faults=("contact-bounce", "lost-wake-up")):
    return COUNTS_BOUNCES.format(debounce=debounce, faults=list(faults))


def test_a_failure_shows_the_smallest_schedule_and_the_line_that_repeats_it(suite):
    result = suite(with_bounces(0), board=BOARD)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert text.count("contact-bounce after=") == 2  # one fault: in the list, and in the command
    command = re.search(r"python -m pytest (.*--hwloop-schedule.*)", text)
    assert command
    node, option, schedule = shlex.split(command[1])
    assert node == "test_suite.py::test_a_click_is_one_press"
    again = suite(with_bounces(0), option, schedule, board=BOARD)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert * <= 1*", f"*{schedule}*"])


def test_the_report_says_how_to_explore_the_other_faults(suite):
    def explored(faults):
        result = suite(with_bounces(0.2, faults).replace("faults=[]", "").replace("explore=60", "explore=40"))
        return result.stdout.str()

    text = explored(())
    assert "  chip-vanishes after=0.0 " in text
    assert 'to explore the other faults: faults=["-chip-vanishes"] in the mark' in text
    assert "to explore the other faults" not in explored(["chip-vanishes"])


def test_only_the_run_that_is_reported_shows_what_it_has_logged(suite):
    tests = """
import logging
import pytest

@pytest.mark.hwloop(explore=10)
async def test_it(board):
    logging.getLogger().warning("so it was")
    assert not list(board.faults)
"""
    result = suite(tests, "-p", "logging", board=BOARD)
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("so it was") == 2  # the line of the test, and the record


def test_a_program_that_endures_its_faults_passes_once(suite):
    suite(with_bounces(0.2), board=BOARD).assert_outcomes(passed=1)


def test_each_run_has_fresh_fixtures_and_those_of_the_module_stay(suite):
    tests = """
import pytest
made = []

@pytest.fixture(scope="module")
def once():
    made.append("module")
    yield
    made.append("end")

@pytest.fixture
def each():
    made.append("function")

@pytest.mark.hwloop(explore=5)
async def test_explored(board, once, each):
    pass

def test_afterwards():
    assert made.count("module") == 1
    assert made.count("function") > 2
    assert "end" not in made
"""
    suite(tests, board=BOARD).assert_outcomes(passed=2)


def test_a_test_that_fails_without_faults_is_reported_as_it_is(suite):
    tests = "import pytest\n@pytest.mark.hwloop(explore=5)\nasync def test_it(board):\n    assert board is None\n"
    result = suite(tests, board=BOARD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no faults*"])


def test_only_the_smallest_failure_stops_in_the_debugger(suite, monkeypatch):
    stopped = []
    monkeypatch.setattr("_pytest.debugging._enter_pdb", lambda node, excinfo, report: stopped.append(node.name))
    result = suite(with_bounces(0).replace("explore=60", "explore=8"), "--pdb", board=BOARD)
    result.assert_outcomes(failed=1)
    assert stopped == ["test_a_click_is_one_press"]


@pytest.mark.parametrize("strict", [False, True])
def test_a_test_that_is_expected_to_fail_explores_until_it_does(suite, strict):
    def outcome(debounce):
        mark = f"@pytest.mark.xfail(strict={strict})\n@pytest.mark.hwloop("
        tests = with_bounces(debounce).replace("@pytest.mark.hwloop(explore=60", f"{mark}explore=8")
        return suite(tests, "-rx", "--xfail-tb", board=BOARD)

    failed = outcome(0)
    failed.assert_outcomes(xfailed=1)
    failed.stdout.fnmatch_lines(["*the smallest schedule that fails*", "*--hwloop-schedule 'seed=0; contact-bounce *"])
    outcome(0.2).assert_outcomes(**{"failed" if strict else "xpassed": 1})


def test_a_failure_that_does_not_happen_again_is_reported_all_the_same(suite):
    tests = """
import pytest
runs = []

@pytest.mark.hwloop(explore=5)
async def test_third_run_fails(board):
    runs.append(1)
    assert len(runs) != 3
"""
    result = suite(tests, board=BOARD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*failed under this schedule, and passed when it ran again: seed=*"])


@pytest.mark.parametrize(("end", "outcomes"), [("pytest.exit('stop')", {}), ("pytest.skip('later')", {"skipped": 1})])
def test_the_test_may_end_the_session_or_skip_itself(suite, end, outcomes):
    tests = f"""
import pytest
runs = []

@pytest.mark.hwloop(explore=5)
async def test_it(board):
    runs.append(1)
    print("run", len(runs), "of the test")
    if len(runs) > 1:
        {end}
"""
    result = suite(tests, "-s", board=BOARD)
    result.assert_outcomes(**outcomes)
    if not outcomes:
        assert "run 2 of the test" in result.stdout.str()
        assert "run 3 of the test" not in result.stdout.str()


def test_the_closest_mark_counts_and_seeds_are_those_of_the_schedules(suite):
    tests = """
import pytest
pytestmark = pytest.mark.hwloop(explore=5)
runs = []

@pytest.mark.hwloop(explore=0)
async def test_once(board):
    runs.append(1)

async def test_explored(board):
    pass

def test_afterwards():
    assert len(runs) == 1
"""
    suite(tests, board=BOARD).assert_outcomes(passed=3)
    suite(tests.replace("0)", "4)"), "--hwloop-seeds", "3", "-k", "explored or once", board=BOARD).assert_outcomes(
        passed=2
    )


def test_wrong_arguments_are_errors_that_say_what_to_write(suite):
    def said(mark, *options):
        tests = f"import pytest\n@pytest.mark.hwloop({mark})\nasync def test_it(board):\n    pass\n"
        result = suite(tests, *options, board=BOARD)
        return result.stdout.str() + result.stderr.str()

    assert "explore is a number of schedules, not 'many'" in said("explore='many'")
    assert "faults is a list of names of faults, not 'i2c-nack'" in said("explore=2, faults='i2c-nack'")
    assert "unknown fault 'i2c-nak'" in said("explore=2, faults=['i2c-nak']")
    assert "explore needs virtual time" in said("explore=2, clock='real'")
    assert "a schedule begins with its seed" in said("explore=2", "--hwloop-schedule", "stuck")
