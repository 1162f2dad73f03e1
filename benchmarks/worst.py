"""The worst tick of a 1 kHz timer on a loop that has nothing else to do.

    python benchmarks/worst.py [--rounds 5] [--seconds 2.5]

The worst tick is the machine's as much as the loop's, and the next minute has another one. So all loops run at the same
time, and a bare timerfd beside them: what delays one of them, delays the others too. A round takes 24 s with
`--seconds 1`, a minute with `--seconds 2.5`.
"""

from __future__ import annotations

import script

from hwloop_bench import timers
from hwloop_bench.processes import FLOOR, Case, Taken


def worst(loop: str, seconds: float) -> Taken:
    taken = timers.periodic(loop, seconds)
    return taken._replace(figures={"max µs": max(taken.late_us), **taken.figures})


CASES = [
    Case("timer-worst", "1 kHz timer, idle, all at the same time", worst, floors=(FLOOR,), seconds=24, together=True)
]

if __name__ == "__main__":
    script.main(CASES)
