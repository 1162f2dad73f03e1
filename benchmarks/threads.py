"""The latency of work that other threads do for a loop, or ask of it.

    python benchmarks/threads.py [--only executor ping-pong] [--quick]

`executor`: a function that does nothing, through `run_in_executor`, from the call to the task that awaited it.
`ping-pong`: a thread that calls `call_soon_threadsafe` and waits until the callback answers. One at a time, so the loop
sleeps before each.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import script

from hwloop_bench.processes import Case, Taken, new_loop, quantiles

WARM_UP = 50
"""Round trips that are not counted: the executor starts a thread, and the interpreter adapts."""


def nothing() -> None:
    pass


def executor(loop: str, seconds: float) -> Taken:
    late: list[float] = []

    async def main() -> None:
        events = asyncio.get_running_loop()
        for _ in range(WARM_UP):
            await events.run_in_executor(None, nothing)
        end = time.perf_counter() + seconds
        while not late or time.perf_counter() < end:
            began = time.perf_counter()
            await events.run_in_executor(None, nothing)
            late.append((time.perf_counter() - began) * 1e6)

    new_loop(loop).run_until_complete(main())
    return Taken(quantiles(late), late)


def ping_pong(loop: str, seconds: float) -> Taken:
    events = new_loop(loop)
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()
    late: list[float] = []

    def ask() -> None:
        for _ in range(WARM_UP):
            events.call_soon_threadsafe(answers.put, None)
            answers.get()
        end = time.perf_counter() + seconds
        while not late or time.perf_counter() < end:
            began = time.perf_counter()
            events.call_soon_threadsafe(answers.put, None)
            answers.get()
            late.append((time.perf_counter() - began) * 1e6)
        events.call_soon_threadsafe(events.stop)

    thread = threading.Thread(target=ask)
    events.call_soon(thread.start)
    events.run_forever()
    thread.join()
    return Taken(quantiles(late), late)


CASES = [
    Case("executor", "run_in_executor, round trip", executor, seconds=0.5),
    Case("ping-pong", "call_soon_threadsafe from a thread, and back", ping_pong, seconds=0.5),
]

if __name__ == "__main__":
    script.main(CASES)
