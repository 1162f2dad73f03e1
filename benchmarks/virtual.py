"""The speed of virtual time compared with real time: the weather station's parts, one by one and together.

    python benchmarks/virtual.py [--seconds 600]
    python benchmarks/virtual.py --hours 24 [--parts nothing door,climate,position]

Each row: the parts, their events, virtual seconds for each second of CPU time and of real
time, and the resident memory after a tenth of them, half, and all. With `--hours` the rows are the board alone and the
three parts that are quiet (all but the 1 kHz control loop). `nothing` is the board alone: its button bounces and its
receiver talks to nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent)]

import weather_station as station  # noqa: E402

import hwloop  # noqa: E402

QUIET = "door,climate,position"
ROWS = ("nothing", "door", "climate", "position", QUIET, f"{QUIET},control")


def resident() -> float:
    """This process's resident memory now, in MiB (proc_pid_statm(5))."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def play(names: str, seconds: float) -> tuple[int, list[float]]:
    """Run parts of the station; the number of events, and the memory on the way."""
    parts: list[Callable[..., object]] = [getattr(station, name) for name in names.split(",") if name != "nothing"]
    events = 0
    memory = []

    def report(part: str, event: object) -> None:
        nonlocal events
        events += 1

    async def main() -> None:
        tasks = [asyncio.ensure_future(part(report)) for part in parts]  # type: ignore[arg-type]
        for share in (0.1, 0.4, 0.5):
            await asyncio.sleep(share * seconds)
            memory.append(resident())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    hwloop.run(main(), clock="virtual", board=str(EXAMPLES / "weather_station.toml"))
    return events, memory


def main() -> None:
    parser = argparse.ArgumentParser(description="How much faster than real time is virtual time?")
    parser.add_argument("--seconds", type=float, default=600.0, help="virtual seconds of each row (600)")
    parser.add_argument("--hours", type=float, help="virtual hours of each row, for the rows that a long run is about")
    parser.add_argument("--parts", nargs="+", metavar="PART[,PART]", help=f"the rows: of {', '.join(ROWS)}")
    arguments = parser.parse_args()
    seconds = arguments.seconds if arguments.hours is None else arguments.hours * 3600
    play("nothing", 1)
    for names in arguments.parts or (ROWS if arguments.hours is None else ("nothing", QUIET)):
        cpu, real = time.process_time(), time.perf_counter()
        events, memory = play(names, seconds)
        cpu, real = time.process_time() - cpu, time.perf_counter() - real
        print(
            f"{names:31} {events:8} events {seconds / cpu:6.0f} x CPU {seconds / real:6.0f} x real  "
            + " ".join(f"{size:5.1f}" for size in memory)
            + " MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
