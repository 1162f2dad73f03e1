"""Instructions per operation on the core's paths, and for a start, counted by valgrind.

Times depend on what else the machine does; the number of instructions does not. So this is the figure to compare on a
busy machine. It is counted for the benchmarks of core.py whose work is all on one thread, for a descriptor event, an
edge and a timer, and for a start: everything from an imported asyncio to the end of the first callback. The sources
are counted, also in a compiled checkout, or with `--compiled` the compiled core.

    python benchmarks/instructions.py [TREE] [--only chain ...] [--compiled]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import core
import counted

FEW, MANY = 2000, 12000
"""Operations in two runs whose difference counts: starting Python costs the same in both."""

NAMES = [*(name for name in core.CHUNKS if name != "threads"), *counted.PATHS, counted.START]
"""The benchmarks that can be counted: a second thread would run at another speed under valgrind."""


def available() -> bool:
    """Return whether valgrind is installed."""
    return shutil.which("valgrind") is not None


def count(tree: Path, names: Sequence[str] = NAMES, compiled: bool = False) -> dict[str, float]:
    """Return the instructions for one operation or one start, by the name of the benchmark, in a checkout.

    `compiled` counts its compiled core instead of its sources. Raises `ValueError` if the checkout can't be counted.
    """
    if not (tree / "hwloop" / "__init__.py").is_file():
        raise ValueError(f"{tree} is not a checkout of hwloop: it has no hwloop/__init__.py")
    if compiled and not (tree / "hwloop" / "core" / f"_compiled{EXTENSION_SUFFIXES[0]}").exists():
        raise ValueError(f"{tree}: the core is not compiled; compile it with: make compiled")
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, counted.__file__]
    done = subprocess.run(
        [*command, str(tree), str(FEW), str(MANY), *names],
        env={**os.environ, "PYTHONHASHSEED": "0", "HWLOOP_PURE": "" if compiled else "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    collected = dict(re.findall(r"==(\d+)== Collected : (\d+)", done.stderr))
    runs = {}
    for line in done.stdout.splitlines():
        pid, name, number = line.split()
        runs[name, int(number)] = int(collected.get(pid, 0))
    counts = {
        name: (runs.get((name, MANY), 0) - runs.get((name, FEW), 0)) / (1 if name == counted.START else MANY - FEW)
        for name in names
    }
    if done.returncode or any(each <= 0 for each in counts.values()):
        raise ValueError(f"the instructions of {tree} could not be counted: {done.stderr.strip()[-500:]}")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parents[1], help="a checkout (this one)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=" ".join(NAMES))
    parser.add_argument("--compiled", action="store_true", help="count the compiled core, not the sources")
    arguments = parser.parse_args()
    if not available():
        sys.exit("valgrind is not installed; install it with: apt install valgrind")
    try:
        counts = count(arguments.tree.resolve(), arguments.only, arguments.compiled)
    except ValueError as error:
        sys.exit(str(error))
    for name, instructions in counts.items():
        print(f"{name:12} {instructions:8.0f}")


if __name__ == "__main__":
    main()
