"""Run each test many times in one process, and show what is left behind each time: run.py starts this.

    python repeated.py [--rounds 20] TEST ...

A TEST is a file or folder for pytest, or a module of CPython's own asyncio tests (`test.test_asyncio.test_futures`),
which run on hwloop's loop. After some rounds that may fill caches, everything is counted between two rounds: references
where this is a debug build of Python, blocks of memory, objects that the garbage collector knows, descriptors and
threads. Growth in each round is a leak. Status 1 if there is one, or if a test fails.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "conformance")]

WARM = 4
"""Rounds before the first that counts."""
PACKAGE = "test.test_asyncio."


def counts() -> dict[str, int]:
    """Count what a test may leave behind."""
    for _ in range(3):
        gc.collect()
    found = {
        "references": references(),
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }
    found["objects"] = len(gc.get_objects())
    return found


def references() -> int:
    """Return the number of all references in a debug build of Python, and 0 in others."""
    if not hasattr(sys, "gettotalrefcount"):
        return 0
    # Each function and generator that Cython (3.3.1) makes leaves a reference to its type behind.
    types = [each for each in object.__subclasses__() if each.__module__.startswith("_cython_")]
    return sys.gettotalrefcount() - sum(map(sys.getrefcount, types))  # type: ignore[no-any-return]


class Repeater:
    """Runs tests again and again.

    Attributes:
        ran: how many tests there were.
        wrong: what was left behind, or failed.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.ran = 0
        self.wrong: list[str] = []

    def repeat(self, name: str, run: Callable[[], bool]) -> None:
        """Run a test, which returns whether it has passed."""
        self.ran += 1
        gc.collect()
        gc.freeze()  # what there is by now need not be looked through each time
        leaks: dict[str, int] = {}
        # Growth is measured again, for longer: some caches take their time to fill.
        for rounds in (self._rounds, 4 * self._rounds):
            try:
                leaks = self._measure(run, rounds)
            except AssertionError:
                self.wrong.append(f"{name} fails when it is repeated")
                return
            if not leaks:
                return
        shown = ", ".join(f"{more} {what}" for what, more in leaks.items())
        self.wrong.append(f"{name} leaves behind in each round at least {shown}")

    def _measure(self, run: Callable[[], bool], rounds: int) -> dict[str, int]:
        """Return what has grown in each round, by how much at least. Raises AssertionError if the test fails."""
        before: dict[str, int] = {}
        least: dict[str, int] = {}
        for number in range(WARM + rounds):
            if not run():
                raise AssertionError
            after = counts()
            if number >= WARM:
                least = {what: min(least.get(what, sys.maxsize), after[what] - before[what]) for what in after}
                if not any(more > 0 for more in least.values()):
                    break  # something that grows in each round would have grown in all so far
            before = after
        return {what: more for what, more in least.items() if more > 0}

    # As a plugin of pytest.

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from _pytest.runner import runtestprotocol

        for item in session.items:
            again: Any = item  # its private method is what pytest's own extensions call to run it again

            def run(again: Any = again) -> bool:
                again._report_sections.clear()
                again._initrequest()
                # Nothing is logged: pytest would keep it.
                return all(not report.failed for report in runtestprotocol(again, log=False, nextitem=None))

            if hasattr(again, "_initrequest"):
                self.repeat(item.nodeid, run)
        return True


def repeat_cpythons(repeater: Repeater, module: str) -> None:
    """Repeat CPython's own tests of a module, on hwloop's loop, where they pass there the first time."""
    child = importlib.import_module("child")
    if module not in sys.modules:
        child.replace_loop("hwloop:EventLoop")
        child.support().use_resources = ["cpu"]
    for case in child.tests_of(unittest.defaultTestLoader.loadTestsFromName(module)):

        def run(case: unittest.TestCase = case) -> bool:
            result = unittest.TestResult()
            unittest.TestSuite([type(case)(case._testMethodName)]).run(result)
            return result.wasSuccessful()

        if run():  # others are `make conformance`'s
            repeater.repeat(case.id(), run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds that count (%(default)s)")
    parser.add_argument("tests", nargs="+", metavar="TEST")
    given = parser.parse_args()
    repeater = Repeater(given.rounds)
    files = [test for test in given.tests if not test.startswith(PACKAGE)]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    if files and pytest.main([*options, *files], plugins=[repeater]) not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        repeater.wrong.append("pytest has failed")
    for module in (test for test in given.tests if test.startswith(PACKAGE)):
        repeat_cpythons(repeater, module)
    from hwloop.core.bases import CORE  # this checkout's; not before pytest, which rewrites the plugin's package

    print(*repeater.wrong, sep="\n")
    print(f"{'failed' if repeater.wrong else 'passed'}: {repeater.ran} tests on the {CORE} core, {given.rounds} rounds")
    return bool(repeater.wrong) or not repeater.ran


if __name__ == "__main__":
    sys.exit(main())
