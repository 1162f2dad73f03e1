"""Cooperative scheduling: tasks with a priority and a deadline, and long computations that let others run.

Priority and deadline travel in a context variable (`hwloop.core.urgency`). On an asyncio loop other than hwloop's the
functions here still work: tasks run as any other does, and long computations let others run more often than necessary.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

from hwloop.core.urgency import URGENCY, Priority, Urgency, as_deadline, as_priority

T = TypeVar("T")


def create_task(
    coro: Coroutine[Any, Any, T],
    *,
    priority: Priority | None = None,
    deadline: float | None = None,
    name: str | None = None,
) -> asyncio.Task[T]:
    """Create a task on the running loop that is woken with a priority and a deadline, as are tasks that it spawns.

    `deadline` is in seconds: each time the task becomes ready, it should run within that time. A parameter that is not
    given is inherited. On another loop than hwloop's the task runs as any other. For an invalid priority or deadline it
    raises ValueError or TypeError, and the coroutine is closed.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    try:
        context.run(_enter, loop, priority, deadline)
    except (TypeError, ValueError):
        if asyncio.iscoroutine(coro):
            coro.close()
        raise
    return loop.create_task(coro, name=name, context=context)


@contextlib.contextmanager
def scheduled(*, priority: Priority | None = None, deadline: float | None = None) -> Iterator[None]:
    """Run the rest of this block of this task with another priority or deadline (seconds, as for `create_task`).

    If the task is rescheduled meanwhile, the new urgency stays in force, in the block and after it.
    """
    token = _enter(asyncio.get_running_loop(), priority, deadline)
    within = URGENCY.get()
    try:
        yield
    finally:
        if URGENCY.get() is within:
            URGENCY.reset(token)


def reschedule(task: asyncio.Task[Any], *, priority: Priority | None = None, deadline: float | None = None) -> None:
    """Change the urgency of a task on the running loop from now on, wherever it is: running, ready or waiting.

    See `EventLoop.reschedule`. On another loop than hwloop's only the arguments are checked.
    """
    loop = asyncio.get_running_loop()
    change = getattr(loop, "reschedule", None)
    if change is not None:
        change(task, priority=priority, deadline=deadline)
        return
    if priority is not None:
        as_priority(priority)
    if deadline is not None:
        as_deadline(deadline)


def _enter(
    loop: asyncio.AbstractEventLoop, priority: Priority | None, deadline: float | None
) -> contextvars.Token[Urgency]:
    """Set the urgency of the current context, and have the loop look it up from now on."""
    urgency = URGENCY.get()._replace()  # a new object, to tell it from that of an outer block
    if priority is not None:
        urgency = urgency._replace(priority=as_priority(priority))
    if deadline is not None:
        urgency = urgency._replace(deadline=as_deadline(deadline))
    inheritance = getattr(loop, "urgency", None)
    if inheritance is not None:
        inheritance.enable()
    return URGENCY.set(urgency)


async def checkpoint() -> None:
    """Let others run if the slice is used up; otherwise return at once. For the inner loops of long computations.

    The slice (0.05 ms) begins with the loop's last poll of the hardware; this task and those before it in the turn use
    it up. With frequent checkpoints, nothing waits much longer than a slice. On another loop than hwloop's, others run
    each time.
    """
    dispatcher = getattr(asyncio.get_running_loop(), "dispatcher", None)
    if dispatcher is None or dispatcher.slice_used_up():
        await asyncio.sleep(0)


class sliced(Generic[T]):
    """`async for item in sliced(items)`: iterates, and lets others run whenever `budget` seconds are used up.

    The budget counts from when this task last let others run, in the iteration or in the body of the `async for`.
    Raises ValueError unless the budget is above 0.
    """

    def __init__(self, items: Iterable[T], budget: float = 0.001) -> None:
        if not budget > 0:
            raise ValueError(f"a budget is in seconds, more than 0, not {budget!r}")
        self._items = iter(items)
        self._budget = budget
        self._began = math.inf

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._began = min(now, self._began)
        dispatcher = getattr(loop, "dispatcher", None)
        if dispatcher is not None:  # if a slice has begun since, the body of the `async for` has waited for something
            self._began = max(self._began, dispatcher.slice_began)
        if now - self._began >= self._budget:
            await asyncio.sleep(0)
            self._began = loop.time()
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None
