"""The walks of an edge, a timer, an I2C reading and a byte: docs/architecture.md against a trace of the calls."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c, serial

PACKAGE = Path(hwloop.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
PORT = "/dev/ttyAMA0"
Step = tuple[str, str]


def walk(title: str) -> list[Step]:
    """The steps of a table: file and function."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    section, _, _ = rest.partition("\n## ")
    return re.findall(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", section, re.MULTILINE)


class Trace:
    """The calls into hwloop of all threads, in order; a coroutine that is resumed is called again."""

    def __init__(self) -> None:
        self.calls: list[Step] = []

    def __enter__(self) -> Trace:
        threading.setprofile(self.note)
        sys.setprofile(self.note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            self.calls.append((str(Path(code.co_filename).relative_to(PACKAGE)), code.co_qualname))

    def follows(self, steps: list[Step]) -> str:
        """Return the first step that was not taken in order; empty if all were."""
        calls = iter(self.calls)
        for step in steps:
            if step not in calls:  # it advances to where it is found
                return " ".join(step)
        return ""


def is_compiled(step: Step) -> bool:
    """Return whether a step is taken in a compiled module, whose functions have no frames to be noted."""
    module = "hwloop." + step[0].removesuffix(".py").replace("/", ".")
    return not str(importlib.import_module(module).__file__).endswith(".py")


async def an_edge(board: SimBoard, trace: Trace) -> None:
    async with gpio.watch(17) as watch:
        with trace:
            board.chip.line(17).drive(1)
            assert (await anext(watch)).value == 1


async def a_timer(board: SimBoard, trace: Trace) -> None:
    for delay in (0.005, 0.05, 0.5, 5.0):  # on a busy machine the time may come before the loop waits for it
        called = asyncio.Event()
        trace.calls.clear()
        with trace:
            asyncio.get_running_loop().call_later(delay, called.set)
            await called.wait()
        if not trace.follows(walk("A timer")):
            break


async def a_reading(board: SimBoard, trace: Trace) -> None:
    with trace:  # before the bus's thread begins
        async with i2c.open(1) as bus:
            chip = bus.device(0x76)
            async with bus.poll(lambda: chip.read_block(0xD0, 1), every=1.0) as readings:
                assert (await anext(readings)).value == b"\x60"


async def a_byte(board: SimBoard, trace: Trace) -> None:
    port = board.add_port(PORT)
    async with serial.open(PORT, framing=serial.Lines()) as lines:
        with trace:
            port.send(b"hello\n")
            assert (await anext(lines)).data == b"hello"


@pytest.mark.parametrize(
    ("title", "program"),
    [("An edge", an_edge), ("A timer", a_timer), ("An I2C reading", a_reading), ("A byte", a_byte)],
)
def test_each_step_of_a_walk_is_taken_in_the_order_of_its_table(
    title: str, program: Callable[[SimBoard, Trace], Coroutine[Any, Any, None]]
) -> None:
    steps = walk(title)
    assert len(steps) >= 6
    steps = [step for step in steps if not is_compiled(step)]
    trace = Trace()
    with SimBoard({"device": [{"type": "bme280"}]}) as board:
        hwloop.run(program(board, trace), board=board)
    assert not trace.follows(steps)


def test_a_walk_that_is_not_taken_is_noticed() -> None:
    trace = Trace()
    trace.calls = [("a.py", "one"), ("b.py", "two"), ("a.py", "three")]
    assert not trace.follows([("a.py", "one"), ("a.py", "three")])
    assert trace.follows([("b.py", "two"), ("a.py", "one")]) == "a.py one"
