"""`Handlers`: calls the handlers of devices in the right thread, and contains whatever they raise.

A handler may be a coroutine function: its coroutine becomes a task. SystemExit and KeyboardInterrupt pass on a loop
and in the main thread, where they end the program; in any other thread SystemExit ends only the handler, silently.
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
from hwloop.pins.device_info import device_name

if TYPE_CHECKING:
    from hwloop.core.event_loop import EventLoop

logger: logging.Logger = logging.getLogger("hwloop")


class LoopProvider(Protocol):
    """Knows which loop serves."""

    @property
    def loop(self) -> EventLoop | None:
        """The loop of the program that serves; None while a thread serves, or nothing needs serving."""

    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that serves, the program's or the thread's."""

    def ensure_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that serves, and start the thread if there is none; None if the program has ended."""


class Handlers:
    """Calls the handlers of the devices that the loops of `server` serve."""

    def __init__(self, server: LoopProvider) -> None:
        self._server = server
        self._here = threading.local()
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        """In this block, in this thread, call handlers at once and let their exceptions pass."""
        before = getattr(self._here, "unguarded", False)
        self._here.unguarded = True
        try:
            yield
        finally:
            self._here.unguarded = before

    def fire(self, handler: Callable[[], object], name: str, device: object) -> None:
        """Call a device's handler: here if this is the thread of the serving loop, else on that loop.

        `name` is the name of the handler, such as "when_activated".
        """
        if getattr(self._here, "unguarded", False):
            self._take_result(handler(), name, device)
            return
        loop = self._server.loop
        if loop is not None and running.thread_of(loop) not in (None, threading.get_ident()):
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._call, handler, name, device)
                return
        self._call(handler, name, device)

    def failed(self, error: BaseException, message: str) -> None:
        """Report an exception of user code, in the handler that caught it. An exit that ends the program is raised."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            if self.blocks_loop() or threading.current_thread() is threading.main_thread():
                raise error
            if isinstance(error, SystemExit):
                return  # ends the caller, as in any other thread
        self.report(message, error)

    def report(self, message: str, error: BaseException) -> None:
        """Report an exception through the exception handler of the serving loop, or in the log if none serves."""
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
        """Return whether waiting in this thread would block the loop that ends the wait."""
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
        """Run a coroutine as a task, on the loop of this thread or else on the serving loop."""
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
                return  # on request
            error = asyncio.CancelledError()  # of something that it awaited
        else:
            error = task.exception()
        if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):  # these have been raised
            task.get_loop().call_exception_handler(
                {"message": f"{task.get_name()} raised", "exception": error, "task": task}
            )
