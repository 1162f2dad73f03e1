#!/usr/bin/env python3
"""Mutation tests of the code that must be right: dispatch loop, run queue, timer queue and loss accounting.

    make mutation

mutmut changes one operator, constant or call at a time and runs the tests that execute it. A change that no test
notices survives: either a test is missing, or the change makes no difference. survivors.toml lists those that make
none, each with the reason. The run fails for a survivor that is not listed, and for a listed change that no longer
survives. [tool.mutmut] in pyproject.toml names the modules and tests. Everything happens in a copy of the project,
build/mutation, which also keeps the results: a second run only repeats what depends on changed functions.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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
    done = subprocess.run(command, cwd=COPY, stdout=subprocess.PIPE if capture else None, text=True, check=True)
    return done.stdout or ""


def change(diff: str) -> tuple[str, str, str]:
    """Return the file of a mutant's diff, and the lines that it removes and adds, each on one line."""
    file = re.search(r"^--- (\S+)", diff, re.MULTILINE)
    lines = {sign: re.findall(rf"^\{sign}(?!\{sign})\s*(.*)$", diff, re.MULTILINE) for sign in "-+"}
    return (file[1] if file else "", " ".join(lines["-"]), " ".join(lines["+"]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the mutation tests.")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default 2)")
    parser.add_argument("mutants", nargs="*", help="names of mutants, with * (default: all)")
    options = parser.parse_args()
    copy_project()
    mutmut("run", "--max-children", str(options.jobs), *options.mutants)
    survived = {}
    for line in mutmut("results", capture=True).splitlines():
        name, _, status = line.strip().rpartition(": ")
        if status in ("survived", "no tests"):
            survived[change(mutmut("show", name, capture=True))] = name
    document = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))
    listed = {(each["file"], each["from"], each["to"]) for each in document.get("survivor", [])}
    missed = survived.keys() - listed
    for file, before, after in sorted(missed):
        print(f"\nsurvived: {survived[file, before, after]}\n  {file}\n  - {before}\n  + {after}")
    gone = set() if options.mutants else listed - survived.keys()
    for file, before, after in sorted(gone):
        print(f"\nno longer survives; take it off survivors.toml:\n  {file}\n  - {before}\n  + {after}")
    print(f"\n{len(survived)} mutants survived, {len(missed)} of them unexplained")
    return bool(missed or gone)


if __name__ == "__main__":
    sys.exit(main())
