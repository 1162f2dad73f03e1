"""The cost of starting: a Python process that imports a loop, runs one callback on it and ends.

    python benchmarks/startup.py [--rounds 5]

Wall time and the greatest memory of the whole process, the interpreter's own included; medians over several processes.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time

import script

from hwloop_bench.processes import FLOOR, Case, Taken

PROGRAM = "import {0}; loop = {0}.new_event_loop(); loop.call_soon(loop.stop); loop.run_forever(); loop.close()"
MEMORY = "; print(open('/proc/self/status').read())"
"""rusage would not do: it counts what the process had before it became another program."""


def startup(loop: str, seconds: float) -> Taken:
    """Processes one after another; the first, which may have to compile modules, is not counted."""
    program = "pass" if loop == FLOOR else PROGRAM.format(loop)
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


CASES = [Case("startup", "import, first callback, end", startup, floors=(FLOOR,), seconds=1.5)]

if __name__ == "__main__":
    script.main(CASES)
