"""A coroutine as a process: a signal ends it in order, and what it drives ends safe.

By itself a Python program makes an exception of Ctrl-C only; SIGTERM, with which a service is stopped, and SIGHUP, with
which a terminal goes away, kill it where it stands, with relays as they happen to be. Here the three are the same. The
first one cancels the main coroutine, which has all the time it wants to clean up; the second gives up waiting for it.
However it ends, outputs that are still open go to their safe level, and the board is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

from hwloop import board as boards
from hwloop import service
from hwloop.board import Board
from hwloop.cli import Ended, Failure, UsageError
from hwloop.clock import REAL, Clock
from hwloop.deferring import DeferredSignals
from hwloop.runner import new_event_loop

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process:
    """What runs while `hosted` lasts."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received = 0
        self._forced = False
        self._closing = False

    def run(
        self,
        main: Callable[[], Coroutine[Any, Any, T]],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        debug: bool = False,
    ) -> T:
        """The result of `main()`, run on a new loop. Raises what it raises, and `Ended` where a signal cancelled it.

        As with `asyncio.run`, a coroutine that takes no notice of being cancelled ends as it wishes.
        """
        runner = asyncio.Runner(debug=debug or None, loop_factory=loop_factory)
        try:
            return runner.run(self._supervise(main))
        except asyncio.CancelledError:
            if self._received:
                raise Ended(self._received) from None
            raise
        finally:
            if not self._forced:  # else closing would wait for the very tasks that don't end
                runner.close()

    def close(self) -> None:
        """Close the outputs that the program left open, which sets them to their safe level. Harmless when repeated.

        Each is tried, whatever becomes of the others, and no signal breaks it off.
        """
        self._closing = True
        failures = []
        with DeferredSignals():
            gpio = sys.modules.get("hwloop.sources.gpio")
            for output in gpio.outputs() if gpio is not None else ():
                try:
                    output.close()
                except BaseException as error:
                    failures.append(f"hwloop: {output.name} could not be left at its safe level: {error}")
        for failure in failures:  # afterwards: nobody may be there to read it
            with contextlib.suppress(OSError):
                print(failure, file=sys.stderr)

    async def _supervise(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        watchdog = service.Watchdog()
        # It is the first to run once main waits for something: a program that fails before that was never ready.
        ready = self._loop.call_soon(_say_ready, watchdog)
        try:
            return await main()
        finally:
            ready.cancel()
            watchdog.stop()
            service.notify("STOPPING=1")

    def _cancel(self) -> None:
        assert self._task is not None
        service.notify("STOPPING=1")
        self._task.cancel()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal cancels the task that runs; any other breaks off what is under way, but for the clean-up."""
        if self._closing:
            return
        if self._task is not None and not self._received and not self._task.done():
            assert self._loop is not None
            self._received = number
            # The loop may be asleep, or amidst its own bookkeeping.
            self._loop.call_soon_threadsafe(self._cancel)
            return
        self._forced = self._task is not None
        raise Ended(number, forced=self._forced)


@contextlib.contextmanager
def hosted(board: Board | str | None, *, clock: Clock = REAL) -> Iterator[Process]:
    """A process to run a coroutine in, with a board in use; `board` as for `hwloop.run`, on `clock`.

    Raises `UsageError` for a board that can't be meant, `HardwareError` for one that can't be opened, and
    `Failure` inside a running loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise Failure("an event loop runs in this thread already, and a thread can have one only; use another process")
    process = Process()
    with _handling_signals(process), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(boards.using(board, clock=clock))
        except ValueError as error:
            raise UsageError(str(error)) from error
        stack.callback(process.close)
        yield process


@contextlib.contextmanager
def _handling_signals(process: Process) -> Iterator[None]:
    before = {}
    for number in SIGNALS:
        # What our parent has us ignore (nohup, a shell's background job) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, process.on_signal)
    try:
        yield
    finally:
        # Once more, and before the handlers go: a signal may have broken off what was to call it, and the next one
        # would kill the process where it stands.
        process.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_ready(watchdog: service.Watchdog) -> None:
    service.notify("READY=1")
    watchdog.start()
