"""Tests that run under schedules of faults: `@pytest.mark.hwloop(explore=N)`."""

from __future__ import annotations

import re
import shlex

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
