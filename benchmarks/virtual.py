"""How much faster than real time is virtual time? The weather station's parts, one by one and together.

    python benchmarks/virtual.py [SECONDS]

Each row: what runs, events told in so many virtual seconds (default 600), virtual seconds for each second of CPU time
and of real time, and the greatest memory the process has had so far.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent)]

import weather_station as station  # noqa: E402

import hwloop  # noqa: E402


async def nothing(report: Callable[[str, object], None]) -> None:
    """The board alone: its button bounces and its receiver talks to nobody."""
    await asyncio.get_running_loop().create_future()


def play(parts: list[Any], seconds: float) -> int:
    events = 0

    def report(part: str, event: object) -> None:
        nonlocal events
        events += 1

    async def main() -> None:
        tasks = [asyncio.create_task(part(report)) for part in parts]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    hwloop.run(main(), clock="virtual", board=str(EXAMPLES / "weather_station.toml"))
    return events


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    play([nothing], 1)
    quiet = [station.door, station.climate, station.position]
    for parts in ([nothing], *([part] for part in quiet), quiet, [*quiet, station.control]):
        cpu, real = time.process_time(), time.perf_counter()
        events = play(parts, seconds)
        cpu, real = time.process_time() - cpu, time.perf_counter() - real
        names = ", ".join(part.__name__ for part in parts)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{names:36} {events:9} events  {seconds / cpu:6.0f} x CPU {seconds / real:6.0f} x real {memory:6.1f} MiB"
        )


if __name__ == "__main__":
    main()
