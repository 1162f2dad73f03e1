"""Stable order: tasks and futures that sets keep in order of age, for a loop whose traces must be the same each time.

A set iterates in the order of hashes, and by default an object's hash is its address, which differs from one process
to another and from one run to the next. asyncio keeps tasks in sets: a `TaskGroup` cancels its tasks so, `wait()`
returns two sets, `as_completed()` starts coroutines from one, a runner cancels all tasks that are left. In virtual
time all of this must not depend on addresses. So the loop makes tasks and futures of the two classes below, whose hash
is a number from the loop's `next_task_number()` or `next_future_number()`; and while it runs, asyncio's own modules
find `keep_order` in place of `set` where they put coroutines, or what is to be cancelled, into one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio import base_events, taskgroups, tasks
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from hwloop.core.ordered_sets import OrderedSet, WeakOrderedSet

T = TypeVar("T")


class Task(asyncio.Task[T]):
    """asyncio's task, whose hash is its number on its loop. The loop sets it, or the task gets it when it is asked."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        try:
            return self.number
        except AttributeError:
            loop: Any = self.get_loop()
            self.number = loop.next_task_number()
            return self.number


class Future(asyncio.Future[T]):
    """asyncio's future, with a number as its hash, which it gets when it is asked for it first."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        try:
            return self.number
        except AttributeError:
            loop: Any = self.get_loop()
            self.number = loop.next_future_number()
            return self.number


def in_order(server: Any) -> Any:
    """Have a server close its connections in the order in which they came: from Python 3.13 on, it keeps a set."""
    if hasattr(server, "_clients"):
        clients = WeakOrderedSet()
        for transport in server._clients:
            clients.add(transport)
        server._clients = clients
    return server


def keep_order(items: Iterable[T] = ()) -> OrderedSet[T]:
    """Return what stands for `set(items)`."""
    return OrderedSet.fromkeys(items)  # type: ignore[return-value]


def _set_of_given(*items: Iterable[Any]) -> set[Any] | OrderedSet[Any]:
    """Return a real set unless items are given: asyncio fills real ones and returns them to the program."""
    return keep_order(*items) if items else set()


_PLACES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (base_events, _set_of_given),  # the addresses that a server binds
    (taskgroups, keep_order),  # the tasks of a group
    (tasks, _set_of_given),  # what wait() and as_completed() are given
)
_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def asyncio_keeps_order() -> Iterator[None]:
    """Have asyncio put what it is given into sets that keep its order, while any thread is in such a block."""
    global _users
    with _lock:
        _users += 1
        for module, stand_in in _PLACES:
            module.set = stand_in
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for module, _ in _PLACES:
                    del module.set
