"""Processes that fork while they have lines open: the child gets an error, and the parent's lines are left alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop import HardwareError, gpio
from hwloop import board as boards
from hwloop.sources import Source

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_child(check: Callable[[], object]) -> bool:
    """Whether `check`, run in a forked child, returns something true."""
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except HardwareError as error:
        return "was opened before this process was forked and belongs to its parent; open it in" in str(error)
    return False


def test_a_child_cannot_use_its_parents_watch_but_may_close_it(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch, asyncio.timeout(5):

            def check() -> bool:
                told = refused(lambda: watch.value)
                watch.close()
                return told and watch.forked and watch.closed

            assert in_child(check)
            assert not watch.forked
            board.chip.line(12).drive(1)
            assert (await anext(aiter(watch))).value == 1

    with SimBoard() as board, boards.using(board):
        run(main())


def test_a_child_cannot_use_its_parents_output_and_closing_it_keeps_the_level(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with gpio.output(27, initial=1, safe=0) as relay:

            def check() -> bool:
                told = refused(lambda: relay.set(0)) and refused(lambda: relay.value)
                gpio.make_safe()
                relay.close()
                return told and board.chip.line(27).level == 1 and gpio.outputs() == []

            relay.blink(0.001, 10.0)
            assert in_child(check)
            relay.set(1)
            assert board.chip.line(27).level == 1
        assert board.chip.line(27).level == 0

    with SimBoard() as board, boards.using(board):
        run(main())


def test_a_child_gets_no_edges_from_the_lgpio_of_its_parent() -> None:
    with SimBoard() as board, boards.using(board):
        board.open_output(boards.OutputRequest(27, consumer="x")).close()

        def check() -> bool:
            try:
                board._process = board._lines.open(None).chip._process = (
                    os.getpid()
                )  # as if the chip had been opened here
                board.open_edges(boards.EdgeRequest([12], consumer="x"))
            except HardwareError as error:
                return "its threads, which report edges, are the parent's; use gpiod" in str(error)
            return False

        assert in_child(check)


def test_closing_a_custom_source_in_the_child_does_not_affect_the_parent(run: Callable[..., Any]) -> None:
    class Bytes(Source[bytes]):
        def connect(self) -> int:
            return reader

        def receive(self) -> list[bytes]:
            return [os.read(reader, 100)]

        def disconnect(self) -> None:
            os.close(reader)

    async def main() -> None:
        async with asyncio.timeout(5), Bytes(name="bytes") as source:

            def check() -> bool:
                source.close()
                return True

            assert in_child(check)
            os.write(writer, b"news")
            assert await anext(aiter(source)) == b"news"

    reader, writer = os.pipe()
    run(main())
    os.close(writer)
