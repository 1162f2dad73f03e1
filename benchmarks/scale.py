"""The cost of many timers and many descriptors: CPU time for each timer and each event.

python benchmarks/scale.py [--only fds-10 fds-1000] [--quick]
"""

from __future__ import annotations

import os
import random
import time

import script

from hwloop_bench.processes import Case, Taken, new_loop

MANY = 1000
"""Timers that are set together."""


def spread(loop: str, seconds: float, tolerance: float, over: float) -> Taken:
    """A thousand timers at random times, again and again; on hwloop with a tolerance (seconds), as asyncio's clock has.

    asyncio rounds waits up to a millisecond, so timers close to each other share a wakeup whether they may or not.
    """
    events = new_loop(loop)
    rng = random.Random(0)
    left = repeats = max(1, round(seconds / over))
    waiting = 0

    def again() -> None:
        nonlocal left, waiting
        if not left:
            events.stop()
            return
        left -= 1
        waiting = MANY
        now = events.time()
        for when in [now + over * rng.random() for _ in range(MANY)]:
            if tolerance and loop.startswith("hwloop"):
                events.call_tolerant(when, fire, tolerance=tolerance)  # type: ignore[attr-defined]
            else:
                events.call_at(when, fire)

    def fire() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            again()

    again()
    start = time.process_time()
    events.run_forever()
    return Taken({"µs CPU each": 1e6 * (time.process_time() - start) / (repeats * MANY)})


def outstanding(loop: str, seconds: float, timers: int, over: float) -> Taken:
    """A thousand timers within `over` seconds again and again, while so many long ones wait."""
    events = new_loop(loop)
    for number in range(timers):
        events.call_later(1000 + number / timers, os.abort)
    events.call_soon(events.stop)
    events.run_forever()  # all are in the heap now
    rng = random.Random(0)
    delays = [over * rng.random() for _ in range(MANY)]
    done = waiting = 0

    def again() -> None:
        nonlocal waiting
        waiting = MANY
        for delay in delays:
            events.call_later(delay, fire)

    def fire() -> None:
        nonlocal waiting, done
        waiting -= 1
        done += 1
        if waiting:
            return
        if time.perf_counter() < end:
            again()
        else:
            events.stop()

    start = time.perf_counter()
    end = start + seconds
    again()
    events.run_forever()
    return Taken({"µs each": 1e6 * (time.perf_counter() - start) / done})


def descriptors(loop: str, seconds: float, idle: int) -> Taken:
    """A descriptor that is always readable, among so many that never are."""
    events = new_loop(loop)
    done = 0

    def on_readable() -> None:
        nonlocal done
        done += 1

    for _ in range(idle):
        events.add_reader(os.eventfd(0), os.abort)
    events.add_reader(os.eventfd(1), on_readable)
    events.call_later(seconds, events.stop)
    start = time.process_time()
    events.run_forever()
    return Taken({"µs CPU each": 1e6 * (time.process_time() - start) / done})


CASES = [
    Case("timers-spread", "a thousand timers spread over 0.25 s", spread, {"tolerance": 0.0, "over": 0.25}),
    Case("timers-tolerant", "… with a tolerance of 1 ms", spread, {"tolerance": 0.001, "over": 0.25}),
    Case("timers-outstanding", "short timers under 100,000 others", outstanding, {"timers": 100_000, "over": 0.001}),
    Case("fds-10", "descriptor event with 10 idle descriptors", descriptors, {"idle": 10}, seconds=0.5),
    Case("fds-1000", "descriptor event with 1000 idle descriptors", descriptors, {"idle": 1000}, seconds=0.5),
]

if __name__ == "__main__":
    script.main(CASES)
