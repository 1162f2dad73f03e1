"""The lateness of a 1 kHz tick beside an I2C bus that hangs for a second at random, and beside one that does not.

    python benchmarks/bus_hangs.py [--seconds 20] [--rounds 5] [--seed 1]

A sensor is read every 10 ms on the simulated board, in real time. In the runs that hang, something holds the bus for a
second, then it is free for up to a second. Both kinds of runs are made in turn; the medians of their quantiles and the
ratio of the 99th percentile are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import hwloop
from firmware_sim import SimBoard
from hwloop import i2c
from hwloop_bench import command


def lateness(seconds: float, chance: random.Random | None) -> tuple[list[float], int]:
    """Return the sorted lateness of each tick, in microseconds, and how many readings the bus made.

    With `chance` the bus hangs.
    """
    board = SimBoard({"device": [{"type": "bme280"}]})
    late: list[float] = []

    async def main() -> int:
        loop, bus = asyncio.get_running_loop(), board.bus(1)
        loop.set_exception_handler(lambda loop, context: None)  # of the readings that time out

        def hang() -> None:
            assert chance is not None
            bus.hang()
            loop.call_later(1.0, bus.release)
            loop.call_later(1.0 + chance.random(), hang)

        async with i2c.open(1, timeout=0.5) as opened:
            chip = opened.device(0x76)
            if chance is not None:
                loop.call_later(chance.random(), hang)
            async with opened.poll(lambda: chip.read_block(0xF7, 8), every=0.01) as readings:
                readings.add_callback(lambda reading: None)
                end = loop.time() + seconds
                async for tick in hwloop.every(0.001):
                    late.append(tick.lateness * 1e6)
                    if loop.time() > end:
                        break
                bus.release()
                return readings.statistics().received

    with board:
        made = hwloop.run(main(), board=board)
    return sorted(late[100:]), made


def quantiles(late: list[float]) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the maximum."""
    return late[len(late) // 2], late[len(late) * 99 // 100], late[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a bus that hangs make a tick late?")
    parser.add_argument("--seconds", type=command.duration, default=20.0, help="of each run (20)")
    parser.add_argument("--rounds", type=command.count, default=5, help="runs of each kind (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which the bus hangs (1)")
    arguments = parser.parse_args()
    if arguments.seconds < 1:
        parser.error(f"--seconds must be 1 or more, not {arguments.seconds:g}: the first 100 ticks do not count")
    chance = random.Random(arguments.seed)
    found: dict[str, list[tuple[float, float, float]]] = {"free": [], "hanging": []}
    readings = dict.fromkeys(found, 0)
    for _ in range(arguments.rounds):
        for kind, results in found.items():
            late, made = lateness(arguments.seconds, chance if kind == "hanging" else None)
            results.append(quantiles(late))
            readings[kind] += made
    print(f"{'lateness of a 1 kHz tick':26}{'p50':>9}{'p99':>9}{'worst':>9}{'readings':>10}")
    for kind, results in found.items():
        middle = [statistics.median(column) for column in zip(*results, strict=True)]
        print(f"  {kind:24}" + "".join(f"{value:6.0f} us" for value in middle) + f"{readings[kind]:10}")
    ratios = [hung[1] / free[1] for free, hung in zip(found["free"], found["hanging"], strict=True)]
    print(f"p99 with a hanging bus: {statistics.median(ratios):.2f} times that with a free one (median of the rounds)")


if __name__ == "__main__":
    main()
