"""Chips that are unplugged while they are in use, and processes that fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard
from hwloop.errors import HardwareError
from hwloop.sources import Backoff

SECONDS = 20
"""Within which all that is waited for has to come."""


def test_a_watch_whose_chip_vanishes_fails_and_says_so(chip: GpioSim, board: LinuxBoard) -> None:
    reports: list[dict[str, object]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        async with asyncio.timeout(SECONDS), gpio.watch(17, 27, name="the door") as watch:
            chip.drive(17, 1)
            assert (await anext(watch)).value == 1
            chip.unplug()
            with pytest.raises(HardwareError, match="is gone: its driver was unbound, or it was unplugged"):
                await anext(watch)
            assert watch.closed
        assert reports == []  # the waiting task gets the error, and nothing else does

    hwloop.run(main(), board=board)


def test_a_watch_that_may_reopen_comes_back_with_its_chip(chip: GpioSim, board: LinuxBoard) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with asyncio.timeout(SECONDS), gpio.watch(17, reopen=Backoff(0.05, maximum=0.1)) as watch:
            for _ in range(2):
                chip.drive(17, 1)
                assert (await anext(watch)).value == 1
                before = watch.statistics()
                chip.unplug()
                while watch.statistics().errors < before.errors + 2:  # the failure, and an attempt in vain
                    await asyncio.sleep(0.02)
                chip.plug_in()
                while watch.statistics().reopened == before.reopened:
                    await asyncio.sleep(0.02)
                assert watch.value == 0
            chip.drive(17, 1)
            assert (await anext(watch)).lost == 0

    hwloop.run(main(), board=board)


def test_an_output_whose_chip_vanishes_refuses_and_can_be_closed(chip: GpioSim, board: LinuxBoard) -> None:
    with hwloop.board.using(board), gpio.output(27, safe=None) as output:
        output.set(1)
        chip.unplug()
        with pytest.raises(HardwareError, match="line 27"):
            output.set(0)
        with pytest.raises(HardwareError, match="line 27"):
            _ = output.value
    chip.plug_in()
    with hwloop.board.using(board), gpio.output(27) as output:
        output.set(1)
        assert chip.level(27) == 1


@contextlib.contextmanager
def child(test: Callable[[], None]) -> Iterator[None]:
    """A forked child that runs `test` and then stays until the end of the block; it fails where the test did."""
    done_reading, done = os.pipe()
    end, end_writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end_writing)
            test()
            os.write(done, b"passed")
            os.read(end, 1)
        finally:
            os._exit(0)
    for fd in (done, end):
        os.close(fd)
    try:
        assert os.read(done_reading, 10) == b"passed"
        yield
    finally:
        os.close(end_writing)
        os.close(done_reading)
        os.waitpid(pid, 0)


def test_a_forked_child_can_not_use_its_parents_lines_nor_keep_them(
    chip: GpioSim, board: LinuxBoard, backend: str
) -> None:
    async def main() -> None:
        async with asyncio.timeout(SECONDS):
            async with gpio.watch(17) as watch, gpio.output(27) as output:

                def use() -> None:
                    for attempt in (lambda: watch.value, lambda: output.set(1), lambda: output.value):
                        with pytest.raises(HardwareError, match="before this process was forked"):
                            attempt()

                with child(use):
                    chip.drive(17, 1)
                    assert (await anext(watch)).value == 1
                    output.set(1)
                    assert chip.level(27) == 1
                    watch.close()
                    output.close()
                    again = gpio.watch(17, 27)
                    if backend == "gpiod":
                        again.open()
                        again.close()
                    else:  # lgpio's lines stay open in the child
                        with pytest.raises(HardwareError, match="in use by another process"):
                            again.open()
                gpio.watch(17, 27).open().close()

    hwloop.run(main(), board=board)


def test_a_forked_child_can_open_lines_of_its_own(chip: GpioSim, board: LinuxBoard) -> None:
    async def main() -> None:
        async with gpio.watch(17):

            def use() -> None:
                with gpio.output(27, initial=1):
                    assert chip.level(27) == 1

            with child(use):
                pass

    hwloop.run(main(), board=board)
