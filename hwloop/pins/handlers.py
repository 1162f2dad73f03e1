"""Calling the handlers of devices, in the right thread, and containing whatever they raise.

A handler may be a coroutine function: what it returns becomes a task. SystemExit and KeyboardInterrupt pass on a loop
and in the main thread, where they end the program; in any other thread SystemExit ends the handler alone, in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from hwloop.core import registry as running
from hwloop.core.naming import place_of
from hwloop.pins.parts import device_name

if TYPE_CHECKING:
    from hwloop.core.event_loop import EventLoop

logger = logging.getLogger("hwloop")


class Server(Protocol):
    """Who knows which loop serves."""

    @property
    def loop(self) -> EventLoop | None:
        """The program's loop that serves; None while a thread does, or nobody has to."""

    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that serves, the thread's included."""

    def ensure_loop(self) -> asyncio.AbstractEventLoop | None:
        """The same, started where there is none; None where the program has ended."""


class Handlers:
    """Calls the handlers of the devices that `server` serves."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._here = threading.local()
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        """In this block, in this thread, handlers are called at once, and what they raise is not caught."""
        before = getattr(self._here, "unguarded", False)
        self._here.unguarded = True
        try:
            yield
        finally:
            self._here.unguarded = before

    def fire(self, handler: Callable[[], object], name: str, device: object) -> None:
        """Have a device's handler called where handlers belong: here if this is the serving thread, else on the loop.

        `name` is the handler's: "when_activated".
        """
        if getattr(self._here, "unguarded", False):
            self._take_result(handler(), name, device)
            return
        loop = self._server.loop
        if loop is not None and running.thread_of(loop) not in (None, threading.get_ident()):
            with contextlib.suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(self._call, handler, name, device)
                return
        self._call(handler, name, device)

    def failed(self, error: BaseException, message: str) -> None:
        """Report what user code raised; call it where that was caught. An exit passes where it ends the program."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            if self.blocks_loop() or threading.current_thread() is threading.main_thread():
                raise error
            if isinstance(error, SystemExit):
                return  # as in any other thread: what called it ends
        self.report(message, error)

    def report(self, message: str, error: BaseException) -> None:
        """Report an exception through the exception handler of the loop that serves, or in the log if none does."""
        loop = self._server.serving_loop()
        context = {"message": message, "exception": error}
        if loop is not None and asyncio._get_running_loop() is loop:
            loop.call_exception_handler(context)
            return
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(loop.call_exception_handler, context)
                return
        logger.error(message, exc_info=error)

    def blocks_loop(self) -> bool:
        """Whether to wait in this thread is to stop the loop that would end the wait."""
        loop = self._server.loop
        return loop is not None and asyncio._get_running_loop() is loop

    def _call(self, handler: Callable[[], object], name: str, device: object) -> None:
        try:
            result = handler()
        except BaseException as error:
            place = place_of(handler)
            self.failed(error, f"{name} of {device_name(device)} raised{place and f' ({place})'}")
            return
        self._take_result(result, name, device)

    def _take_result(self, result: object, name: str, device: object) -> None:
        if inspect.iscoroutine(result):
            self._spawn(result, f"{name} of {device_name(device)}")

    def _spawn(self, coroutine: Coroutine[Any, Any, object], what: str) -> None:
        """Run a coroutine as a task: on the loop of this thread, else on the one that serves."""
        here = asyncio._get_running_loop()
        if here is not None:
            task = here.create_task(coroutine, name=what)
            self._tasks.add(task)
            task.add_done_callback(self._task_done)
            return
        loop = self._server.ensure_loop()
        try:
            if loop is None:
                raise RuntimeError(f"{what} can't run: the program has ended")
            loop.call_soon_threadsafe(self._spawn, coroutine, what)
        except RuntimeError:
            coroutine.close()
            raise

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error: BaseException | None
        if task.cancelled():
            if task.cancelling():
                return  # somebody wanted that
            error = asyncio.CancelledError()  # of something else that it waited for
        else:
            error = task.exception()
        if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):  # which have passed
            task.get_loop().call_exception_handler(
                {"message": f"{task.get_name()} raised", "exception": error, "task": task}
            )
