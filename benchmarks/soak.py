"""Does anything grow? Hundreds of loops opened and closed, a million callbacks of all kinds, and exceptions in between.

    python benchmarks/soak.py [--loops 500] [--callbacks 1000000] [--seed N]

Each loop gets its share of callbacks, drawn from the seed: ready, timed, from other threads, urgent, with deadlines and
tolerances, periodic, steps of tasks, descriptors and sources; some are cancelled and some raise. Every tenth loop has
a simulated board with edges, a serial port and an I2C bus on it. Half of the loops end when all is done, and nothing
may be missing then; the others are closed in the middle. After each, no descriptor and no thread may be left, and after
the first quarter the memory may grow no more. Exit status 1 if it does; then it goes on for a while under tracemalloc
and prints where. The same seed draws the same, but threads and timers still come as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import logging
import os
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import hwloop
from hwloop import Priority, gpio, i2c, serial
from hwloop import board as boards

OUTSTANDING = 64
"""Callbacks under way at a time."""
PATIENCE = 60.0
"""Seconds that a loop may take: if it takes longer, it waits for what never comes."""
RESIDENT_LIMIT = 4.0
"""MiB by which the resident memory may grow after the first quarter: allocator and kernel have their own mind."""
BLOCKS_A_LOOP = 0.5
"""Blocks of Python's memory by which each loop may grow; one thing left behind by each would be one or more."""


class Boom(Exception):
    """The exception that callbacks raise."""


class Pipe:
    """A source that is readable once; like a program's own, it is no `hwloop.sources.Source`."""

    def __init__(self, run: Callable[[], object], priority: Priority) -> None:
        self.priority = priority
        self._run = run
        self._reader, writer = os.pipe()
        os.write(writer, b"!")
        os.close(writer)

    def fileno(self) -> int:
        return self._reader

    def on_readable(self) -> None:
        asyncio.get_running_loop().unregister(self)  # type: ignore[attr-defined]
        self.close()
        self._run()

    def close(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1


class Soak:
    """One loop's share."""

    def __init__(self, seeded: random.Random, callbacks: int, to_the_end: bool) -> None:
        self.loop: Any = hwloop.new_event_loop()
        self.loop.set_exception_handler(self._note_exception)
        self.loop.set_deadline_handler(lambda loop, miss: None)
        self.random = seeded
        self.left = callbacks  # to be made
        self.to_the_end = to_the_end
        self.made = self.ran = self.cancelled = self.raised = self.reported = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.wrong: list[object] = []
        self._readers: set[int] = set()
        self._threads: list[threading.Thread] = []
        self._makers = [getattr(self, name) for name in sorted(vars(Soak)) if name.startswith("make_")]

    async def run(self) -> None:
        self._finished = self.loop.create_future()
        for _ in range(min(OUTSTANDING, self.left)):
            self._make()
        await asyncio.wait([self._finished], timeout=PATIENCE)
        for thread in self._threads:
            thread.join()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # of each gather() that is cancelled so, asyncio itself keeps a little
        for fd in list(self._readers):
            self.loop.remove_reader(fd)
            os.close(fd)
        if not self._finished.done() or (self.to_the_end and self.ran + self.cancelled != self.made):
            self.wrong.append(f"{self.made} made, but {self.ran} ran and {self.cancelled} were cancelled")
        if self.reported != self.raised:
            self.wrong.append(f"{self.raised} exceptions raised, but {self.reported} reported")

    def _make(self) -> None:
        self.left -= 1
        self.made += 1
        maker = self.random.choice(self._makers)
        self.kinds[maker.__name__.removeprefix("make_")] += 1
        handle = maker()
        if handle is not None and self.random.random() < 0.1:
            handle.cancel()
            self.cancelled += 1
            self._next()

    def _next(self) -> None:
        if self.left > 0:
            self._make()
        elif not self._finished.done() and (not self.to_the_end or self.ran + self.cancelled >= self.made):
            self._finished.set_result(None)

    def _run(self) -> None:
        """The common part of all callbacks."""
        self.ran += 1
        self._next()
        if self.random.random() < 0.02:
            self.raised += 1
            raise Boom

    def _note_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), Boom):
            self.reported += 1
        else:
            self.wrong.append(context)

    def _delay(self) -> float:
        return self.random.choice((0.0, 1e-6, 50e-6, 0.3e-3, 2e-3)) * self.random.random()

    def _priority(self) -> Priority:
        return self.random.choice(list(Priority))

    # One of each kind; what can be cancelled is returned.

    def make_soon(self) -> Any:
        return self.loop.call_soon(self._run)

    def make_later(self) -> Any:
        return self.loop.call_later(self._delay(), self._run)

    def make_at(self) -> Any:
        return self.loop.call_at(self.loop.time() + self._delay(), self._run)

    def make_threadsafe(self) -> Any:
        if self.random.random() > 0.01:
            return self.loop.call_soon_threadsafe(self._run)
        thread = threading.Thread(target=self.loop.call_soon_threadsafe, args=(self._run,))
        self._threads.append(thread)
        thread.start()
        return None

    def make_urgent(self) -> Any:
        return self.loop.call_soon_priority(self._priority(), self._run)

    def make_with_deadline(self) -> Any:
        return self.loop.call_deadline(self.loop.time() + self._delay() + 1e-6, self._run, priority=self._priority())

    def make_tolerant(self) -> Any:
        return self.loop.call_tolerant(self.loop.time() + self._delay(), self._run, tolerance=self._delay())

    def make_periodic(self) -> None:
        def tick() -> None:
            if periodic.ticks == 3:
                periodic.cancel()
                self._run()

        period = self._delay() + 10e-6
        periodic = self.loop.call_every(period, tick, tolerance=self._delay(), priority=self._priority())

    def make_task(self) -> None:
        async def work() -> None:
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(self._delay())
            self.loop.call_soon(self._run)

        hwloop.create_task(work(), priority=self._priority(), deadline=self._delay() + 1e-6)

    def make_reader(self) -> None:
        reader, writer = os.pipe()
        self._readers.add(reader)

        def readable() -> None:
            self.loop.remove_reader(reader)
            os.close(reader)
            self._readers.remove(reader)
            self._run()

        self.loop.add_reader(reader, readable)
        os.write(writer, b"!")
        os.close(writer)

    def make_source(self) -> None:
        # Its exception reaches the handler as that of a source that failed.
        self.loop.register(Pipe(self._run, self._priority()))


BOARD = {
    "device": [
        {"type": "wire", "lines": [22, 23]},
        {"type": "gps", "port": "/dev/ttyAMA0"},
        {"type": "bme280"},
    ]
}


async def use_board() -> None:
    """Edges through a wire, a sentence from the receiver, and readings of a sensor."""
    async with (
        gpio.output(22, initial=0) as out,
        gpio.watch(23) as line,
        i2c.open(1) as bus,
        serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()),
        bus.poll(lambda: bus.device(0x76).read_register(0xD0), every=0.001) as poll,
    ):
        for number in range(4):
            out.set(1 - number % 2)
            edge = await anext(line)
            assert edge.value == 1 - number % 2
            assert (await anext(poll)).value == 0x60


def one_loop(number: int, seeded: random.Random, callbacks: int) -> Soak:
    """Open a loop, use it and close it."""
    soak = Soak(seeded, callbacks, to_the_end=number % 2 == 0)
    try:
        if number % 10 == 0:
            with boards.using(BOARD):
                soak.loop.run_until_complete(use_board())
        soak.loop.run_until_complete(soak.run())
        soak.loop.run_until_complete(soak.loop.shutdown_asyncgens())
    finally:
        soak.loop.close()
    return soak


def state() -> tuple[int, int]:
    """Open descriptors and running threads."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def resident() -> float:
    """Resident memory, in MiB (proc_pid_statm(5))."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=500, help="loops to open and close, 8 or more (500)")
    parser.add_argument("--callbacks", type=int, default=1_000_000, help="callbacks on all of them together (1000000)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="what is drawn (random)")
    arguments = parser.parse_args(argv)
    if arguments.loops < 8 or arguments.callbacks < arguments.loops:
        parser.error("--loops is 8 or more, and --callbacks at least as many")
    logging.getLogger("hwloop").setLevel(logging.ERROR)
    print(f"soak: {arguments.loops} loops, {arguments.callbacks} callbacks, --seed {arguments.seed}", flush=True)
    seeded = random.Random(arguments.seed)
    share = -(-arguments.callbacks // arguments.loops)
    warm = arguments.loops // 4
    wrong: list[object] = []
    kinds: collections.Counter[str] = collections.Counter()
    ran = raised = 0
    began = time.monotonic()
    one_loop(0, seeded, OUTSTANDING)  # what is opened or loaded once for all
    before = state()
    blocks, memory = 0, 0.0
    for number in range(arguments.loops):
        soak = one_loop(number, seeded, share)
        wrong += [f"loop {number}: {what}" for what in soak.wrong]
        kinds += soak.kinds
        ran += soak.ran
        raised += soak.raised
        del soak
        if state() != before:
            wrong.append("loop {}: descriptors and threads were {} {}, are {} {}".format(number, *before, *state()))
        if wrong:
            break
        if number == warm - 1:
            gc.collect()
            blocks, memory = sys.getallocatedblocks(), resident()
    gc.collect()
    more_blocks, more_memory = sys.getallocatedblocks() - blocks, resident() - memory
    print(f"{ran} callbacks ran in {time.monotonic() - began:.1f} s, {raised} raised: {dict(sorted(kinds.items()))}")
    print("descriptors and threads {} {}, in the end {} {}".format(*before, *state()))
    if not wrong:
        print(
            f"after the first {warm} loops {memory:.1f} MiB, in the end {more_memory:+.1f} MiB, {more_blocks:+d} blocks"
        )
        if more_blocks > BLOCKS_A_LOOP * (arguments.loops - warm) + 200 or more_memory > RESIDENT_LIMIT:
            wrong.append("memory grows; by where it was allocated:")
            wrong += growth(seeded, max(arguments.loops // 10, 5), share)
    for what in wrong[:20]:
        print("WRONG", what)
    print(f"soak: {'failed' if wrong else 'nothing grew, nothing was lost'}; --seed {arguments.seed}")
    return 1 if wrong else 0


def growth(seeded: random.Random, loops: int, share: int) -> list[object]:
    """Where the memory comes from that more loops take."""
    tracemalloc.start()
    one_loop(0, seeded, share)
    gc.collect()
    before = tracemalloc.take_snapshot()
    for number in range(loops):
        one_loop(number, seeded, share)
    gc.collect()
    return list(tracemalloc.take_snapshot().compare_to(before, "lineno")[:10])


if __name__ == "__main__":
    sys.exit(main())
