"""The cost of a start, by what is loaded: on a small board each module takes milliseconds.

A count does not depend on what else the machine does. Whoever makes one of these sets larger has seen what it costs
(`benchmarks/instructions.py --only startup`), and what it is for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
import __future__, asyncio, json, sys, typing
stages, known = [], set(sys.modules)

def loaded():
    global known
    stages.append(sorted(set(sys.modules) - known))
    known = set(sys.modules)

import hwloop
loaded()
loop = hwloop.new_event_loop()
loaded()
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
loaded()
print(json.dumps(stages))
"""

LOOP = {
    "hwloop.core": 29,
    "hwloop.errors": 1,
    "hwloop.output_reports": 1,
    "hwloop.runner": 1,
    "hwloop.scheduling": 3,
}
"""The number of modules that the first loop loads, by package, without these."""

PURE_ONLY = {"hwloop.core.gil_poll", "hwloop.core.native"}
"""Modules that a compiled core does not load."""

STANDARD = {
    "_ctypes",  # for the alarm before Python 3.13, and for a poll beside threads
    "ctypes",
    "ctypes._endian",
    "concurrent.futures.thread",  # which asyncio would import at the first to_thread()
    "_queue",
    "queue",
    "gc",
    *({"array", "sysconfig"} if sys.version_info >= (3, 14) else ()),
}
"""Modules of the standard library that asyncio does not load."""


@pytest.fixture(scope="module")
def stages() -> list[list[str]]:
    """The modules that are loaded by `import hwloop`, by the first loop, and by its first run and its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_importing_hwloop_loads_nothing_but_the_table_of_its_names(stages: list[list[str]]) -> None:
    assert stages[0] == ["hwloop", "hwloop.core", "hwloop.core.lazy"]


def test_the_first_loop_loads_the_core_and_few_other_modules(stages: list[list[str]]) -> None:
    loaded = [name for name in stages[1] if name not in PURE_ONLY]
    ours = [name for name in loaded if name.startswith("hwloop")]
    packages = [".".join(name.split(".")[:2]) for name in ours]
    assert {package: packages.count(package) for package in packages} == LOOP, ours
    made_by_compiled_modules = {name for name in stages[1] if "cython" in name}  # namespaces; Cython is not imported
    assert set(loaded) - set(ours) - made_by_compiled_modules <= STANDARD


def test_a_compiled_core_needs_no_ctypes(stages: list[list[str]]) -> None:
    """It takes longer to import than ten modules of the loop."""
    if "hwloop.core.native" in stages[1]:
        pytest.skip("the core is not compiled here: make compiled")
    assert "ctypes" not in stages[1]


def test_a_run_loads_nothing(stages: list[list[str]]) -> None:
    """It would delay the first timers, which may have been set before."""
    assert stages[2] == []


def test_a_program_can_run_a_loop_at_its_very_end() -> None:
    """The module for jobs in threads can't be loaded then."""
    program = """
import asyncio, atexit, hwloop
async def farewell():
    await asyncio.sleep(0)
    print("goodbye")
run = hwloop.run
atexit.register(lambda: run(farewell()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("goodbye\n", "")
