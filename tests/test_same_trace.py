"""The same program and seed give the same trace, byte for byte, whatever the process, its memory and its load."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import hwloop
from hwloop.core.gc_schedule import CountedGcSchedule

PROGRAM = Path(__file__).with_name("traced_program.py")


def traces(seed: str, count: int = 3) -> list[str]:
    """The traces of the program in processes that run side by side and have little in common."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env={**os.environ, "SEED": seed, "NOISE": str(number), "PYTHONHASHSEED": str(number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return outputs


@pytest.mark.parametrize("seed", ["", "7"])
def test_every_process_produces_the_same_trace(seed: str) -> None:
    first, *others = traces(seed)
    for what in ("collected", "at the end", "left"):
        assert f"'{what}'" in first
    for other in others:
        assert other.splitlines() == first.splitlines()


def test_different_seeds_produce_different_traces() -> None:
    ((one,), (other,)) = traces("1", 1), traces("2", 1)
    assert one != other
    assert sorted(one.count(word) for word in ("cancelled", "put", "got")) == sorted(
        other.count(word) for word in ("cancelled", "put", "got")
    )


def test_a_task_group_cancels_its_tasks_in_order_of_creation() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await hwloop.Event().wait()
        finally:
            ended.append(number)

    async def main() -> None:
        for _ in range(5):  # numbers that wrap around in a set
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(7)))
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(9):
                        group.create_task(wait(number))
                    await asyncio.sleep(1)
                    raise LookupError
            except* LookupError:
                pass

    hwloop.run(main(), clock="virtual")
    assert ended == 5 * list(range(9))


@pytest.mark.parametrize(("enabled", "collected"), [(True, True), (False, False)])
def test_garbage_is_collected_unless_the_program_has_disabled_collection(enabled: bool, collected: bool) -> None:
    class Cycle:
        pass

    async def main() -> bool:
        cycle: Any = Cycle()
        cycle.itself = cycle
        left = weakref.ref(cycle)
        del cycle
        for _ in range(2 * CountedGcSchedule.YOUNG_EVERY):
            await asyncio.sleep(0.001)
        assert gc.isenabled() is enabled
        return left() is None

    thresholds = gc.get_threshold()
    gc.collect()
    if not enabled:
        gc.disable()
    try:
        assert hwloop.run(main(), clock="virtual") is collected
    finally:
        gc.enable()
    assert gc.get_threshold() == thresholds


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
def test_eager_tasks_are_cancelled_in_order_of_creation() -> None:
    async def rest(number: int) -> int:
        await asyncio.sleep(1)
        return number

    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        done, _ = await asyncio.wait([asyncio.create_task(rest(number)) for number in range(9)])
        return [task.result() for task in done]

    assert hwloop.run(main(), clock="virtual") == hwloop.run(main(), clock="virtual")


@pytest.mark.slow
def test_the_weather_station_has_the_same_trace_beside_busy_processes() -> None:
    """Its digests: benchmarks/virtual.py. The same seed is the same everywhere, and another seed is another trace."""
    script = Path(__file__).parents[1] / "benchmarks" / "virtual.py"

    def start(hash_seed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), "--traces", "12", "--seconds", "1"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )

    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        runs = [start("1"), start("2")]
        outputs = [process.communicate(timeout=300)[0].splitlines() for process in runs]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert outputs[0] == outputs[1]
    assert len({line.split()[-1] for line in outputs[0]}) == 12
