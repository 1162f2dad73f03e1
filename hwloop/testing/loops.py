"""The loops of tests: hwloop's own, which also report each step, and the place where each task was created.

A condition of a test (`BoardFixture.until`) is checked after each callback, so nothing has to poll for it. In virtual
time the dispatcher polls after each callback anyway; in real time a slice may have several.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import types
import weakref
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from hwloop.core.asyncio_base import SelectorEventLoop
from hwloop.core.dispatch import Dispatcher
from hwloop.core.event_loop import EventLoop
from hwloop.core.parts import Parts
from hwloop.core.urgency import Priority
from hwloop.testing.places import is_of_project, place_of_caller
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.dispatch import VirtualDispatcher
from hwloop.virtual.loop import SimLoop

OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("hwloop.testing.owner", default=None)
"""The program that a task belongs to, if a test runs it; tasks inherit it from the one that creates them."""

RunUntil = Callable[[Callable[[], object], float | None], bool]
"""Called as `run_until(check, timeout)`; returns whether `check()` is true."""


def ending_in_program(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Cut the frames of asyncio and hwloop off the end of a traceback."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    while len(frames) > 1 and not is_of_project(frames[-1].tb_frame.f_code.co_filename):
        frames.pop()
    if frames:
        frames[-1].tb_next = None
    return frames[0] if frames else None


def raise_as_it_was(failure: BaseException) -> NoReturn:
    """Raise an exception of the program, without the one that ended the test's wait as its context."""
    __tracebackhide__ = True
    context = failure.__context__
    try:
        raise failure
    finally:
        failure.__context__ = context


class Tasks:
    """The tasks of a loop: to whom each belongs, and where it was created."""

    def __init__(self) -> None:
        self._created: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[object, str]] = weakref.WeakKeyDictionary()

    def note(self, task: asyncio.Task[Any]) -> None:
        """Note a task that the caller's caller has just created."""
        self._created[task] = OWNER.get(), place_of_caller(4)

    def pending(self, owner: object) -> list[asyncio.Task[Any]]:
        """Return the tasks of `owner` that have not ended, oldest first."""
        return [task for task, (whose, _) in list(self._created.items()) if whose is owner and not task.done()]

    def place(self, task: asyncio.Task[Any]) -> str:
        """Return the place where a task was created."""
        return (self._created[task][1] if task in self._created else "") or "an unknown place"


class ObservedDispatcher(Dispatcher):
    """A dispatcher that calls `after_step` once per slice."""

    after_step: Callable[[], object] | None = None

    def poll(self, loop: SelectorEventLoop) -> float:
        if self.after_step is not None:
            self.after_step()
        return super().poll(loop)


class ObservedParts(Parts):
    """The parts of a loop in real time, with an observed dispatcher."""

    dispatcher_class: type[Dispatcher] = ObservedDispatcher


class RealLoop(EventLoop):
    """The loop of a test in real time."""

    dispatcher: ObservedDispatcher
    run_until: RunUntil | None = None
    """Runs the loop while it rests, for code that blocks in the thread of the test."""

    def __init__(self) -> None:
        self.tasks: Tasks = Tasks()
        super().__init__(parts=ObservedParts(selectors.DefaultSelector()))

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        self.tasks.note(task)
        return task


class VirtualLoop(SimLoop):
    """The loop of a test in virtual time."""

    dispatcher: VirtualDispatcher
    run_until: RunUntil | None = None
    """Runs the loop while it rests, for code that blocks in the thread of the test."""

    def __init__(
        self, seed: int | Literal["random"] | None = None, *, limit: float | None, clock: VirtualClock
    ) -> None:
        self.tasks: Tasks = Tasks()
        super().__init__(seed, limit=limit, clock=clock)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        self.tasks.note(task)
        return task


ObservedLoop = RealLoop | VirtualLoop


async def rest(loop: ObservedLoop) -> None:
    """Wait until nothing is ready, without letting time pass."""
    while True:
        resting: asyncio.Future[None] = loop.create_future()
        loop.call_soon_priority(Priority.IDLE, _resolve, resting)
        await resting
        if not (isinstance(loop, SimLoop) and loop.clock.settle()):
            return


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
