"""How late timers and edges are, on asyncio's loop, on uvloop where it is installed, and on ours.

    make bench                                          (or: python benchmarks/latency.py [--rounds 5] [--json])

Every figure comes from a fresh process, and the loops take turns within a round, so that the drift of a shared machine
falls on all alike. The table gives medians over the rounds, and their ratio to asyncio in the same run. An edge is
one 16-byte report with its CLOCK_MONOTONIC stamp, written into a pipe by another process, as lgpio does.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import os
import platform
import random
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable

REPORT = struct.Struct("QBBBBI")
LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else []), "hwloop"]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    loop: asyncio.AbstractEventLoop = importlib.import_module(name).new_event_loop()
    return loop


def burn(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def keep_busy(loop: asyncio.AbstractEventLoop, callbacks: int, seconds: float) -> list[int]:
    """So many callbacks, always ready, each computing for so long. Returns the count of those run, in a list."""
    done = [0]

    def work() -> None:
        burn(seconds)
        done[0] += 1
        loop.call_soon(work)

    for _ in range(callbacks):
        loop.call_soon(work)
    return done


def write_edges(fd: int, pause: float, count: int) -> None:
    """The other process: edges at irregular intervals, `pause` seconds apart on average."""
    rng = random.Random(0)
    time.sleep(0.1)
    for number in range(count):
        time.sleep(pause * rng.uniform(0.5, 1.5))
        os.write(fd, REPORT.pack(time.monotonic_ns(), 0, 17, number & 1, 0, 0))


def edges(loop: asyncio.AbstractEventLoop, callbacks: int, seconds: float, count: int) -> dict[str, float]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    late: list[float] = []

    def on_readable() -> None:
        now = time.monotonic_ns()
        late.extend((now - report[0]) / 1e3 for report in REPORT.iter_unpack(os.read(reader, 65536)))
        if len(late) == count:
            loop.stop()

    child = multiprocessing.get_context("fork").Process(target=write_edges, args=(writer, 0.005, count))
    child.start()
    loop.add_reader(reader, on_readable)
    keep_busy(loop, callbacks, seconds)
    loop.run_forever()
    child.join()
    return quantiles(late)


def timer(loop: asyncio.AbstractEventLoop, callbacks: int, seconds: float, count: int) -> dict[str, float]:
    """A 1 kHz timer that keeps to its grid and skips the slots that are gone."""
    period, late = 0.001, []
    start = when = loop.time() + 0.01
    slot = 0

    def tick() -> None:
        nonlocal slot, when
        now = time.monotonic()  # uvloop's own time stands still within a turn
        late.append((now - when) * 1e6)
        slot = max(slot + 1, int((now - start) / period) + 1)
        if slot >= count:
            loop.stop()
        when = start + slot * period
        loop.call_at(when, tick)

    loop.call_at(when, tick)
    done = keep_busy(loop, callbacks, seconds)
    loop.run_forever()
    return quantiles(late) | {"missed %": 100 * (1 - len(late) / count), "work/s": done[0] / (loop.time() - start)}


def one_shot(loop: asyncio.AbstractEventLoop, delay: float, count: int) -> dict[str, float]:
    late: list[float] = []

    def fire(when: float) -> None:
        late.append((time.monotonic() - when) * 1e6)
        if len(late) == count:
            loop.stop()
        else:
            again()

    def again() -> None:
        when = loop.time() + delay
        loop.call_at(when, fire, when)

    again()
    loop.run_forever()
    return quantiles(late) | {"early %": 100 * sum(value < 0 for value in late) / count}


def quantiles(values: list[float]) -> dict[str, float]:
    values.sort()
    return {f"p{q} µs": values[min(len(values) - 1, len(values) * q // 100)] for q in (50, 90, 99)}


SCENARIOS: dict[str, Callable[[asyncio.AbstractEventLoop], dict[str, float]]] = {
    "1 kHz timer, idle": lambda loop: timer(loop, 0, 0, 1500),
    "1 kHz timer, 200 busy callbacks of 0.05 ms": lambda loop: timer(loop, 200, 50e-6, 1500),
    "one-shot timer of 0.3 ms": lambda loop: one_shot(loop, 0.0003, 1000),
    "edge, idle": lambda loop: edges(loop, 0, 0, 200),
    "edge, 500 busy callbacks of 0.1 ms": lambda loop: edges(loop, 500, 100e-6, 200),
}


def measure(scenario: str, name: str) -> dict[str, float]:
    """One scenario on one loop in a process of its own."""
    out = subprocess.run(
        [sys.executable, __file__, "--one", scenario, name], check=True, stdout=subprocess.PIPE, timeout=300
    ).stdout
    figures: dict[str, float] = json.loads(out)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take the medians of (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", nargs=2, metavar=("SCENARIO", "LOOP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        scenario, name = arguments.one
        print(json.dumps(SCENARIOS[scenario](new_loop(name))), flush=True)
        os._exit(0)  # the busy callbacks never end, so there is nothing to close in order
    report: dict[str, dict[str, dict[str, float]]] = {}
    for scenario in SCENARIOS:
        rounds = [{name: measure(scenario, name) for name in LOOPS} for _ in range(arguments.rounds)]
        report[scenario] = {
            name: {figure: statistics.median(one[name][figure] for one in rounds) for figure in rounds[0][name]}
            for name in LOOPS
        }
        if not arguments.json:
            show(scenario, report[scenario])
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), "kernel": platform.release(), "figures": report}))


def show(scenario: str, figures: dict[str, dict[str, float]]) -> None:
    print(f"\n{scenario}\n{'':12}" + "".join(f"{name:>12}" for name in LOOPS) + f"{'hwloop/asyncio':>18}")
    for figure, stock in figures["asyncio"].items():
        row = "".join(f"{figures[name][figure]:12.1f}" for name in LOOPS)
        ratio = f"{figures['hwloop'][figure] / stock:18.3f}" if stock else ""
        print(f"{figure:12}{row}{ratio}", flush=True)


if __name__ == "__main__":
    main()
