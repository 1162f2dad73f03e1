"""A program whose trace must be the same each time in virtual time: run by test_same_trace.py in processes of its own.

It does all that asyncio leaves to the order of a set, and prints what happened when. NOISE in the environment fills the
memory between its objects and moves the garbage collector; SEED is the seed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from typing import Any

import hwloop

noise = random.Random(os.environ["NOISE"])
kept: list[Any] = []
trace: list[tuple[Any, ...]] = []


class Filling:
    """Something between two objects of the program."""


def stir() -> None:
    kept.append([Filling() for _ in range(noise.randrange(1, 100))][:: noise.randrange(1, 3)])


def note(*what: Any) -> None:
    trace.append((round(asyncio.get_running_loop().time(), 6), *what))


async def rest(name: str, number: int) -> None:
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        note(name, "cancelled", number)
        raise


async def group(name: str) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(12):
                stir()
                tasks.create_task(rest(name, number))
            await asyncio.sleep(1)
            raise LookupError
    except* LookupError:
        note(name, "ended")


async def groups() -> None:
    for priority in hwloop.Priority:
        await hwloop.create_task(group(priority.name), priority=priority)
    await hwloop.create_task(group("deadline"), deadline=0.01)


async def result(number: int) -> int:
    note("started", number)
    await asyncio.sleep(1 + number % 3)
    return number


async def sets() -> None:
    done, pending = await asyncio.wait({asyncio.ensure_future(result(number)) for number in range(20)}, timeout=2.5)
    note([task.result() for task in done], [task.get_name() for task in pending])
    for task in pending:
        task.cancel()
    futures = set()
    for number in range(20):
        stir()
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, future.set_result, number)
        futures.add(future)
    done, _ = await asyncio.wait(futures)
    note([future.result() for future in done])
    coroutines = []
    for number in range(15):
        stir()
        coroutines.append(result(number))
    for first in asyncio.as_completed(coroutines):
        note("completed", await first)
    await asyncio.gather(*{asyncio.ensure_future(result(number)) for number in range(10)})


async def generators() -> None:
    """Left to the garbage collector in cycles, or to the end of the loop."""

    async def numbers(name: str, number: int) -> Any:
        try:
            while True:
                yield number
        finally:
            note(name, number)

    for number in range(30):
        stir()
        left: Any = Filling()
        left.numbers, left.itself = numbers("collected", number), left
        await anext(left.numbers)
        del left
        await asyncio.sleep(0.1)
    for _ in range(2000):
        await asyncio.sleep(0.001)
    for number in range(10):
        stir()
        kept.append(numbers("at the end", number))
        await anext(kept[-1])


async def locks() -> None:
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue(3)
    lock, condition = hwloop.Lock(), asyncio.Condition()

    async def produce(number: int) -> None:
        for turn in range(3):
            async with lock:
                await queue.put((number, turn))
            note("put", number, turn)

    async def consume(number: int) -> None:
        while True:
            note("got", number, await queue.get())
            await asyncio.sleep(0.001)

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            note("notified", number)

    async def time_out(number: int) -> None:
        try:
            async with asyncio.timeout(0.5 + number % 2 / 10):
                await asyncio.Event().wait()
        except TimeoutError:
            note("timeout", number)

    consumers = [asyncio.create_task(consume(number)) for number in range(3)]
    waiters = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.gather(
        *(
            hwloop.create_task(produce(number), priority=hwloop.Priority(1 + number % 3), deadline=0.1)
            for number in range(6)
        )
    )
    await asyncio.gather(
        *(hwloop.create_task(time_out(number), priority=hwloop.Priority(number % 5)) for number in range(15))
    )
    async with condition:
        condition.notify_all()
    await asyncio.gather(*waiters)
    for consumer in consumers:
        consumer.cancel()


async def main() -> None:
    for part in (groups, sets, generators, locks):
        await part()
    for number in range(12):
        stir()
        kept.append(asyncio.create_task(rest("left", number)))
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    gc.set_threshold(noise.randrange(1, 2000), noise.randrange(1, 20), 10)
    seed = os.environ.get("SEED")
    hwloop.run(main(), clock="virtual", seed=int(seed) if seed else None)
    print("\n".join(map(repr, trace)))
