"""The process that instructions.py runs under valgrind: performs each operation a few times, and many times.

    valgrind --tool=callgrind python benchmarks/counted.py TREE FEW MANY NAME ...

It imports everything once and forks for each run, and prints "PID NAME NUMBER" for each. A start is counted before
anything but asyncio is imported: once without it, once with it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import struct
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

START = "startup"


def descriptor(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Events of a descriptor that is always readable, among ten that never are."""
    left = number

    def on_readable() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    for _ in range(10):
        loop.add_reader(os.eventfd(0), os.abort)
    loop.add_reader(os.eventfd(1), on_readable)
    loop.call_later(3600, os.abort)
    loop.run_forever()


def edge(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Reports of 16 bytes, as lgpio makes of edges, each written when the last one has been read."""
    reader, writer = os.pipe()
    left = number

    def on_readable() -> None:
        nonlocal left
        os.read(reader, 65536)
        left -= 1
        if left:
            os.write(writer, bytes(16))
        else:
            loop.stop()

    os.write(writer, bytes(16))
    loop.add_reader(reader, on_readable)
    loop.run_forever()


def watched(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Edges of a watched line to a callback, each reported when the last one has been delivered."""
    edges = importlib.import_module("hwloop.boards.gpiod.edges")
    reader, writer = os.pipe()
    event = struct.Struct("=QIIII24x")
    left = number

    def report() -> None:
        os.write(writer, event.pack(time.monotonic_ns(), 2 - left % 2, 17, 0, number - left + 1))

    def on_edge(edge: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            report()
        else:
            loop.stop()

    class Wired(importlib.import_module("hwloop.board").Board):  # type: ignore[misc]
        label = "a pipe"

        def open_edges(self, request: Any) -> Any:
            removal = SimpleNamespace(fileno=lambda: -1, close=lambda: None)
            chip = SimpleNamespace(
                time_ns=time.monotonic_ns,
                watch_removal=lambda: removal,
                check_process=lambda name: None,
                release=lambda granted, lines: None,
            )
            granted = SimpleNamespace(fd=reader, get_value=lambda number: left % 2)
            return edges.GpiodEdges(chip, granted, {17: 17}, both=True, debounced=False)

    async def watch() -> Any:
        with importlib.import_module("hwloop.board").using(Wired()):
            opened = importlib.import_module("hwloop.sources.gpio").watch(17).open()
        opened.on_edge(on_edge)
        report()
        return opened

    opened = loop.run_until_complete(watch())
    loop.run_forever()
    opened.close()


def timer(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Timers of a millisecond, each set when the last one has fired."""
    left = number

    def fire() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_later(0.001, fire)
        else:
            loop.stop()

    loop.call_later(0.001, fire)
    loop.run_forever()


PATHS: dict[str, Callable[[asyncio.AbstractEventLoop, int], None]] = {
    "fds-10": descriptor,
    "edge-idle": edge,
    "edge-watch": watched,
    "one-shot-0.3": timer,
}
"""By the name of the benchmark whose path it is; "edge-watch" is `gpio.watch`, which no other benchmark has."""


def start() -> None:
    """Import hwloop and run a first callback."""
    hwloop = importlib.import_module("hwloop")
    loop = hwloop.new_event_loop()
    loop.call_soon(loop.stop)
    loop.run_forever()


def operate(name: str, number: int) -> None:
    """Perform an operation on a new loop that polls only between two batches.

    Under valgrind every callback overruns its slice, and the loop would poll after each one.
    """
    work = PATHS[name] if name in PATHS else importlib.import_module("core").CHUNKS[name][1]
    loop: Any = importlib.import_module("hwloop").new_event_loop()
    for part in (loop, getattr(loop, "dispatcher", None)):  # not vars(loop): that would slow the loop's attributes down
        for name_of_slice in ("slice", "_slice"):  # the latter in earlier versions
            if isinstance(getattr(part, name_of_slice, None), float):
                setattr(part, name_of_slice, 1e3)
    work(loop, number)


def in_child(work: Callable[[], None], label: str = "") -> None:
    """Run `work` in a forked child, which prints the label with its PID, and wait for its end. Exits if it failed."""
    if os.fork():
        _, status = os.wait()
        if status:
            sys.exit(f"{label or 'start'}: the process failed with status {os.waitstatus_to_exitcode(status)}")
        return
    if label:
        print(os.getpid(), label, flush=True)
    work()
    os._exit(0)


def main(tree: str, few: int, many: int, names: list[str]) -> None:
    """Run all operations in a checkout."""
    sys.path[:0] = [tree, f"{tree}/benchmarks"]
    if START in names:
        in_child(start)  # writes the compiled modules
        in_child(lambda: None, f"{START} {few}")
        in_child(start, f"{START} {many}")
    for module in ("hwloop", "core"):
        importlib.import_module(module)
    for name in names:
        for number in (few, many) if name != START else ():
            in_child(lambda name=name, number=number: operate(name, number), f"{name} {number}")  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
