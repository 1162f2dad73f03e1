"""The cost of the loop itself: callbacks, timers, tasks and futures that do nothing.

    python benchmarks/core.py [--only chain ...] [--quick]

Each figure is the number per second of CPU time, the median over chunks of about 10 ms.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable

import script

from hwloop_bench.processes import Case, Taken, new_loop

Chunk = Callable[[asyncio.AbstractEventLoop, int], None]
"""Performs an operation `number` times."""


def nothing() -> None:
    pass


def chain(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Callbacks that each schedule the next one."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def batch(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """A callback that schedules a hundred others, itself last."""
    left = number // 100

    def step() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()
            return
        for _ in range(99):
            loop.call_soon(nothing)
        loop.call_soon(step)

    loop.call_soon(step)
    loop.run_forever()


def cancel(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Timers that are cancelled in the turn that set them, like a timeout that was not needed."""
    left = number // 100

    def step() -> None:
        nonlocal left
        for _ in range(100):
            loop.call_later(10, nothing).cancel()
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def switch(loop: asyncio.AbstractEventLoop, number: int, tasks: int) -> None:
    """Steps of `tasks` tasks that take turns."""

    async def run() -> None:
        for _ in range(number // tasks):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*[run() for _ in range(tasks)])

    loop.run_until_complete(main())


def switch_1(loop: asyncio.AbstractEventLoop, number: int) -> None:
    switch(loop, number, 1)


def switch_100(loop: asyncio.AbstractEventLoop, number: int) -> None:
    switch(loop, number, 100)


def create_task(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Tasks that end at once, created and awaited by fifties."""

    async def run() -> None:
        pass

    async def main() -> None:
        for _ in range(number // 50):
            await asyncio.gather(*[loop.create_task(run()) for _ in range(50)])

    loop.run_until_complete(main())


def future_wake(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """A task that waits for a future which a callback resolves."""

    async def main() -> None:
        for _ in range(number):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    loop.run_until_complete(main())


def threadsafe(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Callbacks sent by call_soon_threadsafe, a hundred at a time, from the loop's own thread."""
    left = number // 100

    def step() -> None:
        nonlocal left
        for _ in range(100):
            loop.call_soon_threadsafe(nothing)
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def threads(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Callbacks sent by another thread as fast as it can, until all have run."""
    left = number

    def arrived() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def send() -> None:
        for _ in range(number):
            loop.call_soon_threadsafe(arrived)

    thread = threading.Thread(target=send)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


CHUNKS: dict[str, tuple[str, Chunk, int]] = {
    "chain": ("call_soon chain", chain, 3000),
    "batch": ("call_soon, batches of 100", batch, 8000),
    "cancel": ("call_later and cancel", cancel, 3000),
    "switch-1": ("task switch, 1 task", switch_1, 3000),
    "switch-100": ("task switch, 100 tasks", switch_100, 6000),
    "create-task": ("create_task", create_task, 1000),
    "future-wake": ("future that wakes a task", future_wake, 1500),
    "threadsafe": ("call_soon_threadsafe flood", threadsafe, 3000),
    "threads": ("call_soon_threadsafe flood from another thread", threads, 3000),
}
"""By name: the title, the function, and the operations in a chunk."""


def rate(loop: str, seconds: float, name: str) -> Taken:
    """Measure operations per second of CPU time, on one loop for all chunks."""
    _, chunk, number = CHUNKS[name]
    events = new_loop(loop)
    chunk(events, number)
    end = time.process_time() + seconds
    took = []
    while (began := time.process_time()) < end:
        chunk(events, number)
        took.append(time.process_time() - began)
    return Taken({"each/CPU s": number / statistics.median(took)})


CASES = [Case(name, title, rate, {"name": name}, seconds=0.3) for name, (title, _, _) in CHUNKS.items()]

if __name__ == "__main__":
    script.main(CASES)
