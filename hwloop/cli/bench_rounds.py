"""What every benchmark here has in common: fresh processes in turn, and medians over the rounds.

A shared machine drifts, and a process keeps what it was started with: addresses, a full or empty cache, a core. So
every figure comes from a process of its own, the loops take turns within a round, and what is told is the median over
the rounds and its ratio to asyncio in the same run. Ratios hold from machine to machine; absolute figures do not.

A benchmark is a function `f(loop, seconds, ...)` in an importable module. It gets the name of a loop, measures for
about so many seconds and returns what it has `Taken`. Its process ends right after it, whatever is still ready.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import hwloop

FLOOR = "floor"
"""In place of a loop's name: the same work in bare Python, without a loop."""
CYCLICTEST = "cyclictest"
"""In place of a loop's name: the C program of rt-tests, where it is installed."""
SPIN = "hwloop+spin"
"""hwloop's loop that looks again and again for the last 0.1 ms before a timer (`EventLoop.set_spin`)."""
PATIENCE = 60.0
"""Seconds that a benchmark may take beyond those it was asked to measure for."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hwloop.cli import bench_rounds; bench_rounds.child()"
)


class Taken(NamedTuple):
    """What one process has measured."""

    figures: dict[str, float]
    """By name; the name ends in the unit ("p50 µs")."""
    late_us: Sequence[float] = ()
    """Single latencies in microseconds, for a histogram."""


class Answer(NamedTuple):
    """What a process has told of what it has measured."""

    figures: dict[str, float]
    histogram: Mapping[int, int]
    """Its latencies: how many by `bucket`."""
    realtime: Sequence[str] = ()
    """What was granted and refused, where real time was asked for."""


class Case(NamedTuple):
    """One benchmark as it can be chosen."""

    name: str
    title: str
    function: Callable[..., Taken]
    options: Mapping[str, object] = {}
    """Keyword arguments of the function besides `seconds`; what JSON can hold."""
    floors: tuple[str, ...] = ()
    """What there is to compare with besides loops: FLOOR, CYCLICTEST."""
    seconds: float = 1.0
    """How long it takes when a benchmark is to take one second."""


class Died(Exception):
    """A benchmark's process ended without figures; the message says how, and what it left on stderr."""


def installed_loops() -> list[str]:
    """The event loops that can be compared here."""
    return ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else []), "hwloop"]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A fresh loop by its name; not set as current."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    if name == SPIN:
        spinning = hwloop.new_event_loop()
        spinning.set_spin(100e-6)
        return spinning
    loop: asyncio.AbstractEventLoop = importlib.import_module(name).new_event_loop()
    return loop


def quantiles(late_us: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99; nothing if there are no values."""
    ordered = sorted(late_us)
    if not ordered:
        return {}
    return {f"p{q} µs": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (50, 90, 99)}


def measure(case: Case, loop: str, seconds: float, realtime: bool = False) -> Answer:
    """Run a case on a loop in a process of its own, in real time as far as that is granted. Raises `Died`."""
    module = case.function.__module__
    if module == "__main__":
        module = Path(str(sys.modules["__main__"].__file__)).stem
    call = {
        "module": module,
        "function": case.function.__name__,
        "loop": loop,
        "realtime": realtime,
        "options": {"seconds": seconds * case.seconds, **case.options},
    }
    command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), json.dumps(call)]
    patience = seconds * case.seconds + PATIENCE
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # In a process group of its own, for it has children too: Ctrl-C reaches us alone, and we end them all. Files,
        # for a pipe would be open for as long as the last of them.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0)
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Died(f"gave no figures within {patience:g} seconds") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        said = err.read().decode(errors="replace").strip()
        if status:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise Died(f"{how}: {said or 'it said nothing'}")
        answer = json.load(out)
    histogram = {int(low): count for low, count in answer["histogram"].items()}
    return Answer(answer["figures"], histogram, answer["realtime"])


def child() -> None:
    """What a benchmark's process does: call the function, print what it returns, end at once."""
    call = json.loads(sys.argv[2])
    function = getattr(importlib.import_module(call["module"]), call["function"])
    granted = hwloop.RealTime().apply().granted if call["realtime"] else None
    taken: Taken = function(call["loop"], **call["options"])
    histogram = collections.Counter(map(bucket, taken.late_us))
    grants = [str(grant) for grant in (granted.scheduling, granted.memory)] if granted else []
    print(json.dumps({"figures": taken.figures, "histogram": histogram, "realtime": grants}), flush=True)
    os._exit(0)  # busy callbacks never end, so there is nothing to close in order


def bucket(late_us: float) -> int:
    """The power of two of microseconds below or at a latency; 0 for what is less than one, negative for early."""
    if late_us < 0:
        return -1
    return 1 << int(late_us).bit_length() - 1 if late_us >= 1 else 0


class Results:
    """What was measured so far.

    Attributes:
        cases: those with figures, in order.
        failures: what went wrong, in words.
        realtime: what was granted and refused, where real time was asked for.
    """

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.failures: list[str] = []
        self.realtime: list[str] = []
        self._runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        self._histograms: dict[tuple[str, str], collections.Counter[int]] = {}

    def add(self, case: Case, loop: str, answer: Answer) -> None:
        self.cases[case.name] = case
        self._runs.setdefault((case.name, loop), []).append(answer.figures)
        self._histograms.setdefault((case.name, loop), collections.Counter()).update(answer.histogram)
        self.realtime += [grant for grant in answer.realtime if grant not in self.realtime]

    def loops(self, case: str) -> list[str]:
        """The loops that have figures in a case."""
        return [loop for name, loop in self._runs if name == case]

    def medians(self, case: str, loop: str) -> dict[str, float]:
        """Each figure's median over the rounds; empty if there is none."""
        runs = self._runs.get((case, loop), [])
        names = dict.fromkeys(name for run in runs for name in run)
        return {name: statistics.median(run[name] for run in runs if name in run) for name in names}

    def ratio(self, case: str, figure: str, loop: str = "hwloop", to: str = "asyncio") -> float | None:
        """A figure's median on one loop divided by that on another; None if either is missing or the latter is 0."""
        ours, theirs = self.medians(case, loop).get(figure), self.medians(case, to).get(figure)
        return None if ours is None or not theirs else ours / theirs

    def histogram(self, case: str, loop: str) -> Mapping[int, int]:
        """All latencies of all rounds: how many by `bucket`."""
        return self._histograms.get((case, loop), {})

    def as_json(self) -> dict[str, object]:
        """Plain data: single rounds, medians, ratios to asyncio and histograms of every case and loop."""
        return {
            "cases": {
                name: {
                    "title": case.title,
                    "loops": {
                        loop: {
                            "rounds": self._runs[name, loop],
                            "median": self.medians(name, loop),
                            "ratio": {
                                figure: ratio
                                for figure in self.medians(name, loop)
                                if (ratio := self.ratio(name, figure, loop)) is not None
                            },
                            "histogram_us": {
                                str(low): count for low, count in sorted(self.histogram(name, loop).items())
                            },
                        }
                        for loop in self.loops(name)
                    },
                }
                for name, case in self.cases.items()
            },
            "failures": self.failures,
            "realtime": self.realtime,
        }


def take_turns(
    cases: Sequence[Case], loops: Sequence[str], rounds: int, seconds: float, results: Results, realtime: bool = False
) -> Iterator[Case]:
    """Measure each case in so many rounds, in which the loops take turns. Yields a case when it has been measured.

    What was measured is in `results` at once, and so is what died. A loop that died in a case is left out of its other
    rounds.
    """
    for case in cases:
        running = [loop for loop in loops if loop not in (FLOOR, CYCLICTEST) or loop in case.floors]
        for _ in range(rounds):
            for loop in tuple(running):
                try:
                    results.add(case, loop, measure(case, loop, seconds, realtime))
                except Died as error:
                    results.failures.append(f"{case.name} on {loop} {error}")
                    running.remove(loop)
        yield case
