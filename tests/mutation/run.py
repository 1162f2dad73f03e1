#!/usr/bin/env python3
"""Mutation tests of the code that must be right: dispatch loop, run queue, timer queue and loss accounting.

    make mutation

mutmut changes one operator, constant or call at a time and runs the tests that execute it. A change that no test
notices survives: either a test is missing, or the change makes no difference. survivors.toml lists those that make
none, each with the reason. The run fails for a survivor that is not listed, and for a listed change that no longer
survives. [tool.mutmut] in pyproject.toml names the modules and tests. Everything happens in a copy of the project,
build/mutation, which also keeps the results: a second run repeats what depends on changed functions, and the survivors
without a reason. `make clean` has it begin anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "mutation"
SURVIVORS = ROOT / "tests" / "mutation" / "survivors.toml"
COPIED = (
    "hwloop",
    "firmware_sim",
    "hwloop_bench",
    "tests",
    "examples",
    "docs",
    "README.md",
    "Makefile",
    "pyproject.toml",
)


class Change(NamedTuple):
    """A change that mutmut makes, by its lines, so that changes elsewhere in the file do not matter."""

    function: str
    before: str
    after: str


def copy_project() -> None:
    """Bring the copy up to date. mutmut's own folder in it, with the results of earlier runs, stays."""
    COPY.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.rmtree(COPY / name, ignore_errors=True)
            shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, COPY / name)


def mutmut(*arguments: str, capture: bool = False) -> str:
    """Run mutmut in the copy, and return what it printed, if captured."""
    command = [str(Path(sys.executable).parent / "mutmut"), *arguments]
    # mutmut runs pytest several times in one process, and later runs would be blamed for what an earlier one leaves.
    environment = os.environ | {"PYTEST_ADDOPTS": "-p no:unraisableexception"}
    done = subprocess.run(
        command, cwd=COPY, env=environment, stdout=subprocess.PIPE if capture else None, text=True, check=True
    )
    return done.stdout or ""


def unnoticed() -> list[str]:
    """Return mutmut's names of the changes that no test has noticed so far."""
    rows = (line.strip().rpartition(": ") for line in mutmut("results", capture=True).splitlines())
    return [name for name, _, status in rows if status in ("survived", "no tests")]


def survivors() -> dict[Change, str]:
    """Return the changes that no test has noticed, with mutmut's names."""
    return {change(name, mutmut("show", name, capture=True)): name for name in unnoticed()}


def change(name: str, diff: str) -> Change:
    """Return the change of a mutant: its function, and the lines that its diff removes and adds."""
    function = re.sub(r"__mutmut_\d+$", "", name).replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")
    lines = {sign: re.findall(rf"^\{sign}(?!\{sign})\s*(.*)$", diff, re.MULTILINE) for sign in "-+"}
    return Change(function, " ".join(lines["-"]), " ".join(lines["+"]))


def explained() -> set[Change]:
    """Return the changes that survivors.toml lists. Raises ValueError for one without a reason."""
    listed = set()
    for each in tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivor", []):
        if not each.get("reason"):
            raise ValueError(f"{SURVIVORS}: {each['function']} has no reason")
        listed |= {Change(each["function"], each["from"], to) for to in each["to"]}
    return listed


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the mutation tests.")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default 2)")
    parser.add_argument("mutants", nargs="*", help="names of mutants, with * (default: all)")
    options = parser.parse_args()
    listed = explained()
    before = unnoticed() if (COPY / "mutants").exists() else []
    copy_project()
    mutmut("run", "--max-children", str(options.jobs), *options.mutants)
    survived = survivors()
    # mutmut keeps the results of an earlier run, but a test may have been written since.
    old = [name for each, name in survived.items() if name in before and each not in listed]
    if old and not options.mutants:
        mutmut("run", "--max-children", str(options.jobs), *old)
        survived = survivors()
    missed = survived.keys() - listed
    for each in sorted(missed):
        print(f"\nsurvived: {survived[each]}\n  {each.function}\n  - {each.before}\n  + {each.after}")
    gone = set() if options.mutants else listed - survived.keys()
    for each in sorted(gone):
        print(
            f"\nno longer survives; take it off survivors.toml:\n  {each.function}\n  - {each.before}\n  + {each.after}"
        )
    print(f"\n{len(survived)} mutants survived, {len(missed)} of them unexplained")
    return bool(missed or gone)


if __name__ == "__main__":
    sys.exit(main())
