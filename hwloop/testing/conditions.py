"""Conditions that a test waits for: checked after each event and each step, and explained when they stay false."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from hwloop.core.naming import short_name
from hwloop.testing.explanation import explain


class Condition:
    """A condition that one task waits for."""

    def __init__(self, check: Callable[[], Any], reached: asyncio.Future[Any]) -> None:
        self._check = check
        self._reached = reached

    def look(self) -> None:
        """Check the condition, and end the wait if it is true or raises."""
        if self._reached.done():
            return
        try:
            value = self._check()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._reached.set_exception(error)
            return
        if value:
            self._reached.set_result(value)


class Conditions:
    """The conditions that tasks of one loop wait for.

    `on_step` and `on_event` check them: the loop calls the first after each step, the board's tracer the second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int, thread_now: Callable[[], int]) -> None:
        self._loop = loop
        self._thread = thread
        self._thread_now = thread_now
        self._waiting: list[Condition] = []
        self._looking = False

    def any(self) -> bool:
        """Return whether a task waits for a condition."""
        return bool(self._waiting)

    def on_step(self) -> None:
        """Check all conditions, on the loop's thread."""
        if not self._waiting or self._looking:
            return
        self._looking = True  # a condition may act on the board, which is an event
        try:
            for condition in tuple(self._waiting):
                condition.look()
        finally:
            self._looking = False

    def on_event(self) -> None:
        """Check all conditions now if this is the loop's thread, else soon."""
        if not self._waiting:
            return
        if self._thread_now() == self._thread:
            self.on_step()
        else:
            try:
                self._loop.call_soon_threadsafe(self.on_step)
            except RuntimeError:
                pass  # the loop has been closed since

    async def wait(self, check: Callable[[], Any], within: float | None = None) -> Any:
        """Wait until `check()` is true and return its value. Raises `NotReached` after `within` seconds."""
        if inspect.iscoroutinefunction(check) or not callable(check):
            raise TypeError(
                f"until() waits for a function that returns true or false, such as lambda: board['lamp'].lit, "
                f"not {short_name(check)}"
            )
        if within is not None and not 0 <= within < float("inf"):
            raise ValueError(f"within is a number of seconds, 0 or more, not {within!r}")
        reached: asyncio.Future[Any] = self._loop.create_future()
        condition = Condition(check, reached)
        condition.look()
        if reached.done():
            return reached.result()
        timer = None
        if within is not None:
            timer = self._loop.call_later(within, self._expire, condition, reached)
        self._waiting.append(condition)
        try:
            return await reached
        finally:
            self._waiting.remove(condition)
            if timer is not None:
                timer.cancel()

    def _expire(self, condition: Condition, reached: asyncio.Future[Any]) -> None:
        condition.look()  # an event at this very moment is in time
        if not reached.done():
            reached.set_exception(NotReached())


class NotReached(Exception):
    """The time for a condition has passed, and it is still false."""


def describe(check: Callable[[], Any], within: float, clock: str) -> str:
    """Return the message for a condition that was false for `within` seconds."""
    source, values = explain(check)
    lines = [f"after {within:g} s of {clock} time this is still false: {source}"]
    lines += [f"  {name} = {value}" for name, value in values]
    return "\n".join(lines)
