"""The cost of starting: a Python process that imports a loop, runs one callback on it and ends; and one loop more.

    python benchmarks/startup.py [--rounds 5]

`startup`: wall time and the greatest memory of the whole process, the interpreter's own included; medians over several
processes. `lifetime`: CPU time to make a loop, run a coroutine on it and close it, as tests do by the thousand; the
median over chunks of about 10 ms.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time

import script

from hwloop_bench.processes import FLOOR, Case, Taken, new_loop, package

PROGRAM = "import {0}; loop = {0}.new_event_loop(); loop.call_soon(loop.stop); loop.run_forever(); loop.close()"
MEMORY = "; print(open('/proc/self/status').read())"
"""rusage would not do: it counts what the process had before it became another program."""
LIFETIMES = 50
"""Loops in a chunk."""


def startup(loop: str, seconds: float) -> Taken:
    """Processes one after another; the first, which may have to compile modules, is not counted."""
    program = "pass" if loop == FLOOR else PROGRAM.format(package(loop))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    walls, sizes = [], []
    end = time.perf_counter() + seconds
    while not walls or time.perf_counter() < end:
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-c", program + MEMORY], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        walls.append(1e3 * (time.perf_counter() - start))
        sizes.append(int(re.findall(r"VmHWM:\s+(\d+) kB", process.stdout)[0]) / 1024)
    return Taken({"wall ms": statistics.median(walls[1:] or walls), "MiB": statistics.median(sizes)})


def lifetime(loop: str, seconds: float) -> Taken:
    """Loops one after another; the first chunk, which imports what a loop needs, is not counted."""

    async def main() -> None:
        pass

    took = []
    end = time.process_time() + seconds
    while len(took) < 2 or time.process_time() < end:
        began = time.process_time()
        for _ in range(LIFETIMES):
            events = new_loop(loop)
            events.run_until_complete(main())
            events.close()
        took.append((time.process_time() - began) / LIFETIMES)
    return Taken({"µs CPU each": 1e6 * statistics.median(took[1:])})


CASES = [
    Case("startup", "import, first callback, end", startup, floors=(FLOOR,), seconds=1.5),
    Case("lifetime", "making, running and closing a loop", lifetime, seconds=0.3),
]

if __name__ == "__main__":
    script.main(CASES)
