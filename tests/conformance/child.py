"""One module of CPython's own asyncio tests, run in this process, with one loop in place of the selector loop.

`run.py` starts it, under the interpreter whose tests are run: `child.py RESULTS MODULE`. The loop is put in place
before anything of the test package is imported, since its classes take `asyncio.SelectorEventLoop` where they are
defined. Two counts prove that the replacement holds: loops made of the class under test, and stock selector loops made
in spite of it, which must be none.

Each test leaves two JSON lines in RESULTS, when it starts and when it ends. A test that takes longer than its time is
ended with the whole process, by faulthandler, which prints where every thread stood; `run.py` goes on after it.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.unix_events
import contextlib
import faulthandler
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
STOCK = asyncio.SelectorEventLoop
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class LoopCount:
    """How many loops of each kind were made in this process."""

    def __init__(self) -> None:
        self.ours = 0
        self.stock = 0

    def install(self, loop_class: type[asyncio.AbstractEventLoop]) -> None:
        """Count from now on, where every asyncio loop passes: in BaseEventLoop's constructor."""
        init: Callable[[Any], None] = asyncio.BaseEventLoop.__init__

        def counting_init(loop: asyncio.BaseEventLoop) -> None:
            if isinstance(loop, loop_class):
                self.ours += 1
            elif isinstance(loop, STOCK):
                self.stock += 1
            init(loop)

        asyncio.BaseEventLoop.__init__ = counting_init  # type: ignore[assignment,method-assign]


class Recorder(unittest.TestResult):
    """Writes what each test comes to, as it happens."""

    def __init__(self, results: TextIO, loops: LoopCount, seconds: float) -> None:
        super().__init__()
        self._results = results
        self._loops = loops
        self._seconds = seconds
        self._outcome = ""
        self._detail = ""
        self._began = 0.0
        self._loops_before = (0, 0)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._detail = "pass", ""
        self._loops_before = (self._loops.ours, self._loops.stock)
        self._write(id=test.id())
        support().environment_altered = False
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        self._began = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:
        seconds = time.monotonic() - self._began
        faulthandler.cancel_dump_traceback_later()
        if self._outcome == "pass" and support().environment_altered:
            # regrtest calls this "ENV CHANGED": threads or children left running.
            self._outcome, self._detail = "left something behind", "a thread or a child process outlived the test"
        self._write(
            id=test.id(),
            outcome=self._outcome,
            detail=self._detail,
            seconds=round(seconds, 3),
            ours=self._loops.ours - self._loops_before[0],
            stock=self._loops.stock - self._loops_before[1],
        )
        super().stopTest(test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "error", err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "fail", err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "fail", err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._outcome, self._detail = "skip", reason

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._outcome = "expected failure"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._outcome = "unexpected success"

    def _note(self, test: unittest.TestCase, outcome: str, err: ExcInfo) -> None:
        detail = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        if not isinstance(test, unittest.TestCase):
            # setUpModule or setUpClass failed: no test was started, and none of the group will be.
            self._write(id=test.id(), outcome=outcome, detail=detail, seconds=0, ours=0, stock=0)
            return
        self._outcome = outcome
        self._detail += detail

    def _write(self, **record: object) -> None:
        self._results.write(json.dumps(record) + "\n")
        self._results.flush()


def support() -> Any:
    """`test.support`, which must not be imported before the loop is in place."""
    return importlib.import_module("test.support")


def replace_loop(spec: str) -> type[asyncio.AbstractEventLoop]:
    """Put the class `spec` ("module:Class") wherever asyncio and its tests take the selector loop from."""
    module, _, name = spec.partition(":")
    loop_class: type[asyncio.AbstractEventLoop] = getattr(importlib.import_module(module), name)
    unix_events: Any = asyncio.unix_events
    for namespace in (asyncio, unix_events):
        for alias in ("SelectorEventLoop", "EventLoop"):
            if hasattr(namespace, alias):
                setattr(namespace, alias, loop_class)
    unix_events._UnixSelectorEventLoop = loop_class
    unix_events._UnixDefaultEventLoopPolicy._loop_factory = loop_class
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        if type(loop) is not loop_class:
            raise SystemExit(f"asyncio.new_event_loop() made a {type(loop)}, not a {spec}")
    return loop_class


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def main() -> None:
    parser = argparse.ArgumentParser(description="One module of test.test_asyncio; run.py is what to call.")
    parser.add_argument("results", type=Path, nargs="?", help="file to append JSON lines to")
    parser.add_argument("module", nargs="?", help="test.test_asyncio.test_…")
    parser.add_argument("--loop", default="", help="module:Class in place of the selector loop; the stock one if empty")
    parser.add_argument("--only", default="", help="the id of a test, or a part of the ids of several")
    parser.add_argument("--without", type=Path, help="file with the ids not to run")
    parser.add_argument("--seconds", type=float, default=60, help="time for one test")
    parser.add_argument("--list", action="store_true", help="print the names of the modules, where the loop works")
    args = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    loop_class = replace_loop(args.loop) if args.loop else STOCK
    if args.list:
        package = importlib.import_module("test.test_asyncio")
        print("\n".join(info.name for info in pkgutil.iter_modules(package.__path__) if info.name.startswith("test_")))
        return

    loops = LoopCount()
    loops.install(loop_class)
    # As regrtest without -u: nothing that needs the internet.
    support().use_resources = ["cpu", "subprocess", "walltime"]

    without = set(args.without.read_text().split()) if args.without else set()
    try:
        loaded = list(tests_of(unittest.defaultTestLoader.loadTestsFromName(args.module)))
    except unittest.SkipTest:
        return  # a module for another system
    wanted = [test for test in loaded if test.id() == args.only] or [test for test in loaded if args.only in test.id()]
    wanted = [test for test in wanted if test.id() not in without]
    with args.results.open("a") as results, tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        unittest.TestSuite(wanted).run(Recorder(results, loops, args.seconds))
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
