"""Signals that fall into a clean-up: their handlers run before or after it, and no line is left on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop import gpio
from hwloop.cli import process
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.sources.gpio import open_outputs, output_lines


@pytest.fixture
def came() -> Iterator[list[int]]:
    """The signals whose handlers have run; each handler raises."""

    def handler(number: int, frame: object) -> None:
        came.append(number)
        raise InterruptedError(number)

    came: list[int] = []
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield came
    for number, old in before.items():
        signal.signal(number, old)


def test_handlers_run_at_the_end_of_the_block_in_the_order_of_the_signals(came: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def block() -> None:
        with DeferredSignals():
            for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
                signal.raise_signal(number)
            assert came == []

    with pytest.raises(InterruptedError):
        block()
    assert came == [signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_blocks_may_be_nested(came: list[int]) -> None:
    def block() -> None:
        with DeferredSignals():
            with DeferredSignals():
                signal.raise_signal(signal.SIGTERM)
            assert came == []

    with pytest.raises(InterruptedError):
        block()
    assert came == [signal.SIGTERM]


def test_an_exception_of_the_block_stays_in_the_chain(came: list[int]) -> None:
    def block() -> None:
        with DeferredSignals():
            signal.raise_signal(signal.SIGTERM)
            raise KeyError

    with pytest.raises(InterruptedError) as caught:
        block()
    assert isinstance(caught.value.__context__, KeyError)


def test_a_handler_that_the_block_sets_stays(came: list[int]) -> None:
    with DeferredSignals():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_in_another_thread_nothing_is_deferred(came: list[int]) -> None:
    def block() -> None:
        with DeferredSignals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[object] = []
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_a_loops_own_signal_handlers_go_on() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        with DeferredSignals():
            signal.raise_signal(signal.SIGUSR1)
        async with asyncio.timeout(10):
            await came.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    came = asyncio.Event()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.slow
def test_a_signal_at_any_bytecode_of_the_clean_up_leaves_no_line_on(
    in_child: Callable[[Callable[[], object]], None],
) -> None:
    """Where the process would die of it, because its handlers are gone, the line is safe already."""

    def run_to(place: int) -> int:
        """End a process that leaves an output open, with a signal at that place; the number of places."""
        nonlocal left
        left = place
        try:
            with process.hosted(board):
                gpio.output(27, initial=1, safe=0).open()
                sys.settrace(lambda frame, event, argument: trace if frame.f_code.co_filename in files else None)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        return place - left

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGTERM)
        return trace

    def die(number: int, frame: object) -> None:
        levels.append(board.chip.line(27).level)
        raise KeyboardInterrupt

    def check() -> None:
        nonlocal board
        signal.signal(signal.SIGTERM, die)
        with SimBoard() as board:
            run_to(10**9)  # Python 3.12 reports the bytecodes of a function only from its second call on
            places = run_to(10**9)
            assert places > 200
            for place in range(1, places + 1, 2):
                run_to(place)
                if signal.getsignal(signal.SIGTERM) is die:
                    levels.append(board.chip.line(27).level)
                open_outputs.close_at_exit()
                signal.signal(signal.SIGTERM, die)
                assert (board.chip.line(27).level, board.chip.line(27).consumer) == (0, None), place
            assert not any(levels)

    files = {process.__file__, contextlib.__file__, output_lines.__file__, open_outputs.__file__}
    left = 0
    levels: list[int] = []
    board: SimBoard
    in_child(check)
