"""Leftovers of a test: threads, descriptors, processes, tasks and claimed lines, each with the place that made it."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

LEAVING = """
import asyncio, os, socket, subprocess, sys, threading
import pytest
from hwloop import gpio

released = threading.Event()
kept = []

@pytest.fixture(scope="module", autouse=True)
def clean_up():
    yield
    released.set()
    for each in kept:
        if isinstance(each, subprocess.Popen):
            each.kill()
            each.wait()
            each = each.stdout
        each.close() if hasattr(each, "close") else os.close(each)

async def test_task(board):
    kept_task = asyncio.create_task(asyncio.sleep(1000), name="sleeper")  # task

async def test_line(board):
    kept.append(gpio.watch(17).open())  # line

def test_thread(board):
    threading.Thread(target=released.wait, name="waiter", daemon=True).start()  # thread

def test_file(board):
    kept.append(open(__file__))  # file

def test_pipe(board):
    kept.extend(os.pipe())  # pipe

def test_socket(board):
    kept.append(socket.socket())  # socket

def test_process(board):
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE).stdin)  # process

@pytest.mark.hwloop(leftovers=False)
def test_ignored(board):
    kept.extend(os.pipe())

def test_that_fails_anyway(board):
    kept.extend(os.pipe())
    assert 0

def test_clean(board):
    thread = threading.Thread(target=int)
    thread.start()
    with open(__file__), socket.socket():
        pass
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_each_leftover_fails_its_test_and_names_the_place(suite):
    result = suite(LEAVING, "-p", "no:unraisableexception", ini="[pytest]\n")
    result.assert_outcomes(passed=9, failed=1, errors=7)
    text = str(result.stdout)
    lines = {
        match[1]: number
        for number, line in enumerate(LEAVING.strip().splitlines(), 1)
        if (match := re.search(r"# (\w+)$", line))
    }
    found = {
        "task": "task 'sleeper', created at",
        "line": "line 17, claimed by",
        "thread": "thread 'waiter', started at",
        "file": r"descriptor \d+ \(.*test_suite.py\), opened at",
        "pipe": r"descriptor \d+ \(pipe:.*\), opened at",
        "socket": r"descriptor \d+ \(socket:.*\), opened at",
        "process": r"process \d+ \(.*input\(\)\), started at",
    }
    for name, pattern in found.items():
        assert re.search(rf"\n  {pattern} .*test_suite.py:{lines[name]} in test_{name}", text), (name, text)


async def test_a_test_that_ends_everything_passes(board):
    from hwloop import gpio

    async with gpio.watch(17), gpio.output(27, initial=1):
        pass
    assert board.leftovers == []


@pytest.mark.parametrize(("end", "outcomes"), [("pytest.exit('stop')", {}), ("pytest.skip('later')", {"skipped": 1})])
def test_a_test_that_has_not_passed_reports_no_leftovers(suite, end, outcomes):
    tests = f"""
import asyncio, pytest

async def test_ended_early(board):
    task = asyncio.create_task(asyncio.sleep(10))
    {end}
"""
    result = suite(tests)
    result.assert_outcomes(**outcomes)
    assert "left behind" not in str(result.stdout) + str(result.stderr)
