"""The dispatch function for virtual time runs everything in the order of the one that it stands for.

Programs made at random do what a loop is asked to do: callbacks, urgent ones, timers of every kind, tasks, descriptors,
cancellations, `stop()`, sleeps on the clock. Each runs with both functions, with a seed and without one.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

import hwloop
from hwloop.core.dispatch import Dispatcher
from hwloop.virtual.dispatch import VirtualDispatcher
from hwloop.virtual.loop import VirtualParts


class PlainDispatcher(VirtualDispatcher):
    """The virtual dispatcher's poll, with the dispatch function of real time."""

    run = Dispatcher.run


class PlainParts(VirtualParts):
    dispatcher_class = PlainDispatcher


class PlainLoop(hwloop.SimLoop):
    parts_class = PlainParts


class Program:
    """A program made by `dice`, which notes what runs, and when."""

    def __init__(self, loop: Any, dice: random.Random) -> None:
        self.loop = loop
        self.dice = dice
        self.trace: list[str] = []
        self.left = 150
        self.made = 0
        self.pipes = [os.pipe() for _ in range(3)]
        for number, (reader, _) in enumerate(self.pipes):
            if number:
                loop.add_reader(reader, self.readable, number)
            else:
                loop.register(Watched(reader, self))
        self.handles: list[Any] = []

    def readable(self, number: int) -> None:
        if self.dice.random() < 0.8:
            os.read(self.pipes[number][0], 1)
        self.ran(f"pipe {number}")

    def ran(self, what: str) -> None:
        self.trace.append(f"{self.loop.time():.6f} {what}")
        for _ in range(self.dice.choice((0, 0, 1, 1, 1, 2, 3))):
            if self.left:
                self.left -= 1
                self.act()

    async def task(self, name: str) -> None:
        self.ran(f"{name} begins")
        await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.01)))
        self.ran(f"{name} ends")

    def act(self) -> None:
        loop, dice = self.loop, self.dice
        self.made += 1
        name = f"{self.made}"
        priority = dice.choice(list(hwloop.Priority))
        match dice.randrange(13):
            case 0 | 1:
                self.handles.append(loop.call_soon(self.ran, f"soon {name}"))
            case 2:
                self.handles.append(
                    loop.call_later(dice.choice((0, 1e-5, 0.001, 0.001, 0.01)), self.ran, f"later {name}")
                )
            case 3:
                loop.call_soon_priority(priority, self.ran, f"{priority.name} {name}")
            case 4:
                loop.call_deadline(loop.time() + dice.choice((0.001, 0.01)), self.ran, f"deadline {name}")
            case 5:
                with hwloop.scheduled(priority=priority, deadline=dice.choice((None, 0.001))):
                    self.handles.append(loop.call_later(dice.choice((0.001, 0.002)), self.ran, f"urgent later {name}"))
            case 6 | 7:
                hwloop.create_task(self.task(f"task {name}"), priority=priority)
            case 8:
                loop.create_task(self.task(f"plain task {name}"))
            case 9 | 10:
                os.write(dice.choice(self.pipes)[1], b"x")
            case 11:
                if self.handles:
                    self.handles.pop(dice.randrange(len(self.handles))).cancel()
                else:
                    loop.call_tolerant(loop.time() + 0.001, self.ran, f"tolerant {name}", tolerance=0.005)
            case _:
                dice.choice((loop.stop, lambda: loop.clock.sleep(0.15)))()


class Watched:
    """A source of priority HIGH on a pipe."""

    priority = hwloop.Priority.HIGH

    def __init__(self, fd: int, program: Program) -> None:
        self.fd = fd
        self.program = program

    def fileno(self) -> int:
        return self.fd

    def on_readable(self) -> None:
        os.read(self.fd, 1)
        self.program.ran("source")


def trace_of(make: Callable[..., Any], number: int, seed: int | None) -> list[str]:
    """Return what program `number` does on a loop, over several runs of it."""
    loop = make(seed=seed)
    program = Program(loop, random.Random(number))
    try:
        for run in range(6):
            program.trace.append(f"run {run}")
            loop.call_soon(program.ran, f"start {run}")
            loop.call_later(0.05, loop.stop)
            loop.run_forever()
        statistics = loop.statistics()
        program.trace.append(f"{statistics.lateness.count} {statistics.latency.count} {statistics.deadline_misses}")
        return program.trace
    finally:
        program.left = 0
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.call_later(0.1, loop.stop)
            loop.run_forever()
        loop.close()
        for pipe in program.pipes:
            for fd in pipe:
                os.close(fd)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_both_functions_run_a_program_in_the_same_order(first: int) -> None:
    for number in range(first, first + 10):
        seed = None if number % 2 else number
        virtual, plain = (trace_of(make, number, seed) for make in (hwloop.SimLoop, PlainLoop))
        assert virtual == plain, f"program {number}"
