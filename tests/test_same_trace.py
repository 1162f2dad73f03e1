"""The same program and seed give the same trace, byte for byte, whatever the process, its memory and its load."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop

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
def test_the_trace_is_the_same_in_each_process(seed: str) -> None:
    first, *others = traces(seed)
    for what in ("collected", "at the end", "left"):
        assert f"'{what}'" in first
    for other in others:
        assert other.splitlines() == first.splitlines()


def test_another_seed_gives_another_trace() -> None:
    ((one,), (other,)) = traces("1", 1), traces("2", 1)
    assert one != other
    assert sorted(one.count(word) for word in ("cancelled", "put", "got")) == sorted(
        other.count(word) for word in ("cancelled", "put", "got")
    )


def test_a_group_cancels_its_tasks_in_the_order_of_their_age() -> None:
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
