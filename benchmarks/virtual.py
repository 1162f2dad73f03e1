"""The speed of virtual time compared with real time: the weather station's parts, one by one and together.

    python benchmarks/virtual.py [--seconds 600]
    python benchmarks/virtual.py --hours 24 [--trace] [--parts nothing door,climate,position]
    python benchmarks/virtual.py --instructions
    python benchmarks/virtual.py --traces 200 [--seconds 5]

Each row: the parts, their events, virtual seconds for each second of CPU time and of real time, and the resident memory
in MiB: after a tenth of them, half, and all, or with `--hours` after each hour. With `--hours` the rows are the board
alone and the three parts that are quiet (all but the 1 kHz control loop). `nothing` is the board alone: its button
bounces and its receiver talks to nobody. `--trace` records the board as the pytest fixture does.

With `--instructions` each row has the parts and the thousands of instructions for each virtual second, counted by
valgrind, which do not depend on the machine's other work. With `--traces` each row is a seed and the digest of its
trace, everything that happens on the board and everything that the three quiet parts report: the same seed has the same
row in every process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent)]

import weather_station as station  # noqa: E402

import hwloop  # noqa: E402
from firmware_sim import SimBoard  # noqa: E402
from firmware_sim.trace import Trace  # noqa: E402
from hwloop_bench import command  # noqa: E402
from hwloop_bench.processes import Case, Taken  # noqa: E402

QUIET = "door,climate,position"
SHORT = 3
"""Steps of a run that shows nothing before its end."""
FEW, MANY = 10, 40
"""Virtual seconds of the two runs whose difference is counted."""
ROWS = ("nothing", "door", "climate", "position", QUIET, f"{QUIET},control")


def resident() -> float:
    """This process's resident memory now, in MiB (proc_pid_statm(5))."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def parts_of(names: str) -> list[Callable[..., object]]:
    return [getattr(station, name) for name in names.split(",") if name != "nothing"]


def play(names: str, steps: Sequence[float], *, traced: bool = False) -> tuple[int, list[float]]:
    """Run parts of the station for some steps of seconds; the number of events, and the memory after each step."""
    parts = parts_of(names)
    events = 0
    memory = []

    def report(part: str, event: object) -> None:
        nonlocal events
        events += 1

    async def main() -> None:
        tasks = [asyncio.ensure_future(part(report)) for part in parts]  # type: ignore[arg-type]
        for step in steps:
            await asyncio.sleep(step)
            memory.append(resident())
            if len(steps) > SHORT:
                print(f"  {clock.time() / 3600:5.1f} h {memory[-1]:6.1f} MiB", file=sys.stderr, flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    clock = hwloop.VirtualClock()
    tracer = None
    if traced:
        from hwloop.testing.fixture import KEPT_EVENTS  # it needs pytest, which `make figures` does not install

        tracer = Trace(KEPT_EVENTS)
    with SimBoard(EXAMPLES / "weather_station.toml", clock=clock, tracer=tracer) as board:
        hwloop.run(main(), board=board, clock=clock)
    return events, memory


def rate(loop: str, seconds: float, parts: str) -> Taken:
    """Measure virtual seconds for each second of CPU time. No other loop has virtual time."""
    cpu, virtual = 0.0, 10.0
    while cpu < seconds / 2:  # one long run, because each begins with making a board
        virtual *= 2
        start = time.process_time()
        play(parts, [virtual])
        cpu = time.process_time() - start
    return Taken({"virtual s/CPU s": virtual / cpu})


CASES = [
    Case("virtual-board", "virtual time: the board alone", rate, {"parts": "nothing"}),
    Case("virtual-station", "virtual time: door, climate and position", rate, {"parts": QUIET}),
]
"""For table.py."""


def count_instructions(rows: Sequence[str]) -> None:
    """Print the thousands of instructions for a virtual second of each row: the difference of two runs."""
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed; install it with: apt install valgrind")
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    done = subprocess.run(
        [*command, "--in-children", "--parts", *rows],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    counted = dict(re.findall(r"==(\d+)== Collected : (\d+)", done.stderr))
    few, many = ([int(counted[line.split()[0]]) for line in done.stdout.splitlines()[first::2]] for first in (0, 1))
    for row, less, more in zip(rows, few, many, strict=True):
        print(f"{row:31} {(more - less) / (MANY - FEW) / 1000:8.0f} k instructions")


def run_in_children(rows: Sequence[str]) -> None:
    """Run each row for a few virtual seconds and for many, each in a forked child, and print their PIDs."""
    play(QUIET, [2])
    for row in rows:
        for seconds in (FEW, MANY):
            if not (pid := os.fork()):
                play(row, [seconds])
                os._exit(0)
            os.waitpid(pid, 0)
            print(pid, flush=True)


def digest(seed: int, seconds: float) -> str:
    """The digest of a run with a seed: what the quiet parts report, and the trace of the board.

    Three tasks that tick together give the seed something to decide.
    """
    trace, clock = Trace(), hwloop.VirtualClock()
    reports: list[str] = []

    def report(part: str, event: object) -> None:
        reports.append(f"{clock.now_ns()} {part} {event!r}")

    async def tie(name: str) -> None:
        async for tick in hwloop.every(0.1):
            report(name, tick)

    async def main() -> None:
        tasks = [asyncio.ensure_future(part(report)) for part in parts_of(QUIET)]  # type: ignore[arg-type]
        tasks += [asyncio.ensure_future(tie(name)) for name in ("one", "two", "three")]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with SimBoard(EXAMPLES / "weather_station.toml", clock=clock, tracer=trace) as board:
        hwloop.run(main(), board=board, clock=clock, seed=seed)
    return hashlib.sha256("\n".join([*reports, *map(repr, trace)]).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="How much faster than real time is virtual time?")
    parser.add_argument("--seconds", type=command.duration, default=600.0, help="virtual seconds of each row (600)")
    parser.add_argument("--hours", type=command.duration, help="virtual hours of each row, where a long run matters")
    parser.add_argument("--parts", nargs="+", metavar="PART[,PART]", help=f"the rows: of {', '.join(ROWS)}")
    parser.add_argument(
        "--traces", type=command.count, metavar="SEEDS", help="print the digest of the trace of each of SEEDS seeds"
    )
    parser.add_argument("--trace", action="store_true", help="record the board as the pytest fixture does")
    parser.add_argument("--instructions", action="store_true", help="count instructions with valgrind")
    parser.add_argument("--in-children", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = {"nothing"} | {name for row in ROWS for name in row.split(",")}
    for names in arguments.parts or ():
        if unknown := sorted(set(names.split(",")) - known):
            parser.error(f"--parts {names}: there is no part {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for seed in range(arguments.traces or 0):
        print(f"seed {seed:4} {digest(seed, arguments.seconds)}", flush=True)
    if arguments.traces is not None:
        return
    rows = arguments.parts or (ROWS if arguments.hours is None else ("nothing", QUIET))
    if arguments.in_children or arguments.instructions:
        (run_in_children if arguments.in_children else count_instructions)(rows)
        return
    if arguments.hours is None:
        steps = [share * arguments.seconds for share in (0.1, 0.4, 0.5)]
    else:
        steps = [3600.0] * int(arguments.hours) + [arguments.hours % 1 * 3600]
    play("nothing", [1])
    for names in rows:
        cpu, real = time.process_time(), time.perf_counter()
        events, memory = play(names, steps, traced=arguments.trace)
        cpu, real = time.process_time() - cpu, time.perf_counter() - real
        print(
            f"{names:31} {events:8} events {sum(steps) / cpu:6.0f} x CPU {sum(steps) / real:6.0f} x real  "
            + " ".join(f"{size:5.1f}" for size in memory)
            + " MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
