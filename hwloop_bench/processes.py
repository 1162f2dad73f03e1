"""One benchmark in one process: fresh for each measurement, and ended right after it.

A shared machine drifts, and a process keeps the state with which it started: addresses, a full or empty cache, a core.
So every figure comes from a new process, the loops take turns within a round (`results.take_turns`), and the result is
the median over the rounds and its ratio to asyncio in the same run. Ratios hold from machine to machine; absolute
figures do not.

A benchmark is a function `f(loop, seconds, ...)` in an importable module. It receives the name of a loop, measures for
about that many seconds and returns its figures as `Taken`.
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
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import hwloop
from hwloop import core
from hwloop.compiled_core import not_compiled
from hwloop.core.bases import CORE

COMPILED = "hwloop+compiled"
"""hwloop's loop on the compiled core. "hwloop" runs on the core that HWLOOP_PURE selects."""
LOOPS = ("asyncio", "uvloop", "rloop", "hwloop", COMPILED)
"""The loops that can be measured, if `missing` does not object."""
FLOOR = "floor"
"""Instead of a loop's name: the same work in plain Python, without a loop."""
CYCLICTEST = "cyclictest"
"""Instead of a loop's name: the C program of rt-tests, where it is installed."""
SPIN = "hwloop+spin"
"""hwloop's loop that busy-polls for the last 0.1 ms before a timer (`EventLoop.set_spin`)."""
PATIENCE = 60.0
"""Seconds that a benchmark may take in addition to its measuring time."""

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hwloop_bench import processes; processes.child()"


class Taken(NamedTuple):
    """The measurements of one process."""

    figures: dict[str, float]
    """By name; the name ends in the unit ("p50 µs")."""
    late_us: Sequence[float] = ()
    """Single latencies in microseconds, for a histogram."""


class Answer(NamedTuple):
    """The measurements of one process, as its parent receives them."""

    figures: dict[str, float]
    histogram: Mapping[int, int]
    """The number of latencies by `bucket`."""
    realtime: Sequence[str] = ()
    """The real-time settings that were granted and refused, if requested."""


class Case(NamedTuple):
    """One benchmark that can be chosen."""

    name: str
    title: str
    function: Callable[..., Taken]
    options: Mapping[str, object] = {}
    """Keyword arguments of the function besides `seconds`, of types that JSON has."""
    floors: tuple[str, ...] = ()
    """Ways other than loops to compare with: FLOOR, CYCLICTEST."""
    seconds: float = 1.0
    """Its measuring time when the measuring time is set to one second."""
    together: bool = False
    """Whether the loops run at the same time, because they are compared in the same minute."""


class Died(Exception):
    """A benchmark's process ended without figures; the message says how, with its output on stderr."""


def missing(loop: str) -> str:
    """Return why a loop can't be measured here and what to do about it; "" if it can."""
    if loop == COMPILED:
        return "" if Path(core.__path__[0], core.LIBRARY).exists() else not_compiled()
    if loop in LOOPS and not importlib.util.find_spec(loop):
        return f"{loop} is not installed; install it with: pip install 'hwloop[bench]'"
    return ""


def installed_loops() -> list[str]:
    """Return the names of the event loops that are compared unless others are chosen."""
    return [loop for loop in ("asyncio", "uvloop", "hwloop") if not missing(loop)]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make a loop by its name, without setting it as current."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    if name == SPIN:
        spinning = hwloop.new_event_loop()
        spinning.set_spin(100e-6)
        return spinning
    loop: asyncio.AbstractEventLoop = importlib.import_module(package(name)).new_event_loop()
    return loop


def package(loop: str) -> str:
    """Return the name of the package in which a loop is found."""
    return loop.partition("+")[0]


def quantiles(late_us: Sequence[float]) -> dict[str, float]:
    """Return p50, p90 and p99, or nothing without values."""
    ordered = sorted(late_us)
    if not ordered:
        return {}
    return {f"p{q} µs": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (50, 90, 99)}


def measure(case: Case, loop: str, seconds: float, realtime: bool = False) -> Answer:
    """Run a case on a loop in a new process, with `realtime` in real time as far as granted. Raises `Died`."""
    with started(case, loop, seconds, realtime) as answer:
        return answer()


@contextlib.contextmanager
def started(case: Case, loop: str, seconds: float, realtime: bool = False) -> Iterator[Callable[[], Answer]]:
    """Start such a process for the time of the block, which receives the function that waits for its answer."""
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
    environment = {**os.environ, "HWLOOP_PURE": ""} if loop == COMPILED else None
    patience = seconds * case.seconds + PATIENCE
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # A process group, because the process has children too: Ctrl-C reaches only us, and we end them all. Files,
        # because a pipe would stay open as long as the last of them.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0, env=environment
        )

        def answer() -> Answer:
            try:
                status = process.wait(patience)
            except subprocess.TimeoutExpired:
                raise Died(f"gave no figures within {patience:g} seconds") from None
            out.seek(0)
            err.seek(0)
            said = err.read().decode(errors="replace").strip()
            if status:
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                raise Died(f"{how}: {said or 'without output'}")
            given = json.load(out)
            histogram = {int(low): count for low, count in given["histogram"].items()}
            return Answer(given["figures"], histogram, given["realtime"])

        try:
            yield answer
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def child() -> None:
    """Run in the benchmark's process: call the function, print its figures, exit."""
    call = json.loads(sys.argv[2])
    if call["loop"] == COMPILED and CORE != "compiled":
        sys.exit(not_compiled())
    function = getattr(importlib.import_module(call["module"]), call["function"])
    granted = hwloop.RealTime().apply().granted if call["realtime"] else None
    taken: Taken = function(call["loop"], **call["options"])
    histogram = collections.Counter(map(bucket, taken.late_us))
    grants = [str(grant) for grant in (granted.scheduling, granted.memory)] if granted else []
    print(json.dumps({"figures": taken.figures, "histogram": histogram, "realtime": grants}), flush=True)
    os._exit(0)  # busy callbacks never end, so the loop can't be closed in order


def bucket(late_us: float) -> int:
    """Return the power of two of microseconds at or below a latency; 0 for less than one, negative for early."""
    if late_us < 0:
        return -1
    return 1 << int(late_us).bit_length() - 1 if late_us >= 1 else 0
