"""A program that runs beside a test, as `hwloop.run` would run it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from hwloop.core.naming import short_name
from hwloop.testing.loops import OWNER, ObservedLoop, raise_as_it_was, rest


class ProgramRun:
    """A program under test: `async with board.run(station.main()):`.

    It begins when the block begins. If it fails, the test fails at once, with the program's exception. When the block
    ends, the program is cancelled as Ctrl-C would cancel it, then awaited with all tasks that it has started.
    """

    def __init__(
        self, main: Coroutine[Any, Any, Any], loop: ObservedLoop, interrupt: Callable[[ProgramRun, BaseException], None]
    ) -> None:
        self._main = main
        self._loop = loop
        self._interrupt = interrupt
        self._task: asyncio.Task[Any] | None = None
        self._ending = False
        self._reported: BaseException | None = None

    def note_reported(self, failure: BaseException) -> None:
        """Note that the test has failed with this exception, so that the end of the block need not raise it again."""
        self._reported = failure

    @property
    def done(self) -> bool:
        """Whether the program has ended by itself or failed."""
        return self._task is not None and self._task.done()

    def check_begun(self) -> None:
        """Raise RuntimeError if the program has never begun."""
        if self._task is None:
            self._main.close()  # Python need not warn of it as well
            raise RuntimeError(
                f"board.run({short_name(self._main)}()) has run nothing: "
                "write 'async with board.run(...):' in an async test"
            )

    def result(self) -> Any:
        """Return the program's return value. Raises its exception, or RuntimeError while it runs."""
        if self._task is None or not self._task.done():
            raise RuntimeError(
                f"{short_name(self._main)} has not ended yet; wait for it: board.until(lambda: run.done)"
            )
        return self._task.result()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("this program has run already; pass a new coroutine to board.run()")
        token = OWNER.set(self)
        try:
            self._task = self._loop.create_task(_exits(self._main), name=short_name(self._main))
        finally:
            OWNER.reset(token)
        self._task.add_done_callback(self._ended)
        await rest(self._loop)  # so that the test acts on a program that has begun
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._ending = True
        assert self._task is not None
        failure = self._failure()
        await self._end(self._task)
        await self._end_tasks()
        failure = failure or self._failure()
        if failure is None or failure is self._reported:
            return
        if error is None or isinstance(error, asyncio.CancelledError):
            current = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and current is not None:
                current.uncancel()
            raise_as_it_was(failure)
        error.add_note(f"the program also failed, with {type(failure).__name__}: {failure}")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        failure = self._failure()
        if failure is not None and not self._ending:
            self._interrupt(self, failure)

    def _failure(self) -> BaseException | None:
        """Return the exception with which the program has failed, if it has."""
        task = self._task
        if task is None or not task.done():
            return None
        if task.cancelled():
            return None if self._ending else AssertionError("the program was cancelled, and not by the test")
        return task.exception()

    async def _end(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def _end_tasks(self) -> None:
        """Cancel and await the tasks that the program has left, as `asyncio.run` does."""
        while tasks := self._loop.tasks.pending(self):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _exits(main: Coroutine[Any, Any, Any]) -> Any:
    """Await a program; its `sys.exit()` ends it and not the test run."""
    __tracebackhide__ = True
    try:
        return await main
    except SystemExit as exit:
        if exit.code in (None, 0):
            return None
        raise AssertionError(f"the program exited with status {exit.code}") from exit
