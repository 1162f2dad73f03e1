"""Compare two versions of the project: the ratio of every figure, and of the instructions where valgrind is installed.

    make bench-compare OLD=v0.1.0 NEW=HEAD
    python benchmarks/compare.py v0.1.0 . --only chain timer-idle --rounds 7
    python benchmarks/compare.py benchmarks/history/0.1.0.json benchmarks/history/0.2.0.json

OLD and NEW are git revisions, "." for this checkout as it is, or JSON files that this script, `make figures` or
`make bench-record` wrote. Two versions are measured in turn: in each round every benchmark runs on both of them, on
hwloop from its sources and on asyncio, each time in a fresh process, and the order changes with every round. Figures of
a JSON file were measured at another time, perhaps on another machine: of these compare only the columns "to asyncio".

"new/old" is the median over the rounds of the ratio within a round. Below 5 % it is noise, on a busy machine below 20 %
and more; instructions are exact to about 1 %.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import core
import echo
import instructions
import scale
import startup
import table
import threads

from hwloop.cli.term import Terminal
from hwloop_bench import command, report
from hwloop_bench.processes import COMPILED

ROOT = Path(__file__).parents[1]
LOOPS = ("asyncio", "hwloop")
ROUNDS, SECONDS = 5, 0.3
NOISE = 0.05
COMMANDS: dict[str, list[str]] = {case.name: ["-m", "hwloop", "bench"] for case in command.CASES} | {
    case.name: [f"benchmarks/{module.__name__}.py"]
    for module in (core, scale, startup, threads, echo)
    for case in module.CASES
}
"""The arguments of Python that run a benchmark, in this version and in earlier ones."""
DEFAULT = [name for names in table.PARTS.values() for name in names if name in COMMANDS and name not in echo.EXCHANGES]


class Version(NamedTuple):
    """One side of the comparison."""

    name: str
    tree: Path | None
    """A checkout to be measured; None for a JSON file."""
    data: dict[str, Any]
    """Figures as in the JSON files: {"machine": …, "cases": …, "instructions": …}."""


class Wrong(Exception):
    """The call or the input is wrong; the message says how."""


@contextlib.contextmanager
def version(text: str) -> Iterator[Version]:
    """Find a version: a JSON file, this checkout, or a git revision, which is unpacked while the block runs."""
    path = Path(text)
    if path.is_file():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["cases"]
        except (ValueError, KeyError, TypeError) as error:
            raise Wrong(f"{text}: this is not a file of figures ({error!r})") from error
        yield Version(text, None, data)
        return
    if text == ".":
        yield Version("this checkout", ROOT, {"cases": {}})
        return
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", text], capture_output=True, check=False
    )
    if archive.returncode:
        reason = archive.stderr.decode(errors="replace").strip()
        raise Wrong(f"{text}: neither a file nor a git revision ({reason})")
    with tempfile.TemporaryDirectory(prefix="hwloop-") as directory:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(directory, filter="data")
        yield Version(text, Path(directory), {"cases": {}})


def measure(tree: Path, name: str, seconds: float) -> dict[str, dict[str, float]]:
    """Run one benchmark of a checkout once on each loop and return the figures by loop. Raises `Wrong`."""
    options = ["--only", name, "--rounds", "1", "--seconds", str(seconds), "--json", "-", "--loops", *LOOPS]
    done = subprocess.run(
        [sys.executable, *COMMANDS[name], *options],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "HWLOOP_PURE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Wrong((done.stderr.strip().splitlines() or ["no message"])[-1])
    return {loop: found["median"] for loop, found in json.loads(done.stdout)["cases"][name]["loops"].items()}


def take_turns(versions: Sequence[Version], names: Sequence[str], rounds: int, seconds: float) -> None:
    """Measure the versions that are checkouts, in turn. A benchmark that fails in one version is left out there."""
    running = [(each, name) for name in names for each in versions if each.tree is not None]
    for number in range(rounds):
        for name in names:
            for each in versions if number % 2 == 0 else versions[::-1]:
                if (each, name) not in running:
                    continue
                assert each.tree is not None
                try:
                    figures = measure(each.tree, name, seconds)
                except Wrong as error:
                    print(f"{name} in {each.name} left out: {error}", file=sys.stderr)
                    running.remove((each, name))
                    continue
                for loop, found in figures.items():
                    loops = each.data["cases"].setdefault(name, {"loops": {}})["loops"]
                    loops.setdefault(loop, {"rounds": []})["rounds"].append(found)
        print(f"round {number + 1} of {rounds} measured", file=sys.stderr)
    for each in versions:
        for case in each.data["cases"].values() if each.tree is not None else ():
            for found in case["loops"].values():
                names_of = dict.fromkeys(figure for figures in found["rounds"] for figure in figures)
                found["median"] = {
                    figure: statistics.median(round[figure] for round in found["rounds"] if figure in round)
                    for figure in names_of
                }


def count_instructions(versions: Sequence[Version], names: Sequence[str]) -> None:
    """Add the instructions of the versions that are checkouts."""
    counted = [name for name in instructions.NAMES if name in names]
    for each in versions if counted else ():
        if each.tree is not None:
            try:
                each.data["instructions"] = instructions.count(each.tree, counted)
            except ValueError as error:
                print(error, file=sys.stderr)


def verdict(ratio: float, more_is_better: bool) -> str:
    """Return "", or by how much the new figure is better or worse."""
    if abs(ratio - 1) <= NOISE:
        return ""
    return f"{'better' if (ratio > 1) == more_is_better else 'worse'} {abs(ratio - 1):.0%}"


def rows(old: dict[str, Any], new: dict[str, Any], interleaved: bool) -> Iterator[tuple[str, ...]]:
    """Yield the table: benchmark, figure, old, new, their ratio, both to asyncio, and a verdict."""
    to_asyncio = (f"{side} to asyncio" for side in ("old", "new"))
    yield "benchmark", "figure", "old", "new", "new/old", *to_asyncio, ""
    for name in [name for name in old["cases"] if name in new["cases"]]:
        before, after = (side["cases"][name]["loops"] for side in (old, new))
        both = [each for each in ("hwloop", COMPILED) if each in before and each in after]
        for loop, figure, value in [(each, *pair) for each in both for pair in before[each]["median"].items()]:
            if figure not in after[loop]["median"]:
                continue
            other = after[loop]["median"][figure]
            ratios = [_ratio(loops, loop, figure) for loops in (before, after)]
            ratio = other / value if value else None
            if interleaved and ratio is not None:
                pairs = zip(before[loop]["rounds"], after[loop]["rounds"], strict=False)
                ratio = statistics.median([b[figure] / a[figure] for a, b in pairs if a.get(figure)] or [ratio])
            yield (
                name if loop == "hwloop" else f"{name}, compiled",
                figure,
                report.number(value),
                report.number(other),
                "" if ratio is None else f"{ratio:.3f}",
                *("" if each is None else f"{each:.3f}" for each in ratios),
                "" if ratio is None else verdict(ratio, "/CPU s" in figure or figure.endswith("/s")),
            )


def _ratio(loops: dict[str, Any], loop: str, figure: str) -> float | None:
    """Return a figure's ratio to asyncio."""
    theirs = loops.get("asyncio", {}).get("median", {}).get(figure)
    return loops[loop]["median"][figure] / theirs if theirs else None


def instruction_rows(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the table of instructions per operation."""
    yield "instructions", "old", "new", "new/old", ""
    for key, suffix in (("instructions", ""), ("instructions compiled", ", compiled")):
        before, after = (side.get(key, {}) for side in (old, new))
        for name in [name for name in before if name in after]:
            ratio = after[name] / before[name]
            yield name + suffix, f"{before[name]:.0f}", f"{after[name]:.0f}", f"{ratio:.3f}", verdict(ratio, False)


def show(old: Version, new: Version) -> None:
    """Print both tables."""
    terminal = Terminal(sys.stdout)
    for side, each in (("old", old), ("new", new)):
        facts = each.data.get("machine") or {}
        terminal.line(f"{side}: {each.name}; " + "; ".join(f"{name} {fact}" for name, fact in facts.items()))
    if None in (old.tree, new.tree):
        terminal.line("not measured in turn: compare only the columns 'to asyncio'")
    terminal.line("")
    terminal.table(list(rows(old.data, new.data, None not in (old.tree, new.tree))), left=2)
    counted = list(instruction_rows(old.data, new.data))
    terminal.line("")
    if len(counted) > 1:
        terminal.table(counted, left=1)
    elif not instructions.available():
        terminal.line("instructions are not counted: valgrind is not installed (apt install valgrind)")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare as the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="a git revision, '.' for this checkout, or a JSON file")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=DEFAULT, metavar="NAME", help=" ".join(COMMANDS))
    parser.add_argument("--rounds", type=command.count, default=ROUNDS, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=command.duration, default=SECONDS, metavar="S", help="a measurement (%(default)s)"
    )
    parser.add_argument("--no-instructions", action="store_true", help="don't count instructions")
    parser.add_argument("--json", metavar="FILE", help="write the figures of NEW, if it was measured")
    arguments = parser.parse_args(argv)
    try:
        with version(arguments.old) as old, version(arguments.new) as new:
            facts = report.machine(LOOPS)
            for each in (old, new):
                if each.tree is not None:
                    each.data["machine"] = {name: fact for name, fact in facts.items() if name not in ("loops", "load")}
            if old.tree or new.tree:
                take_turns((old, new), arguments.only, arguments.rounds, arguments.seconds)
                if instructions.available() and not arguments.no_instructions:
                    count_instructions((old, new), arguments.only)
            show(old, new)
            if arguments.json and new.tree is not None:
                Path(arguments.json).write_text(json.dumps(new.data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except Wrong as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
