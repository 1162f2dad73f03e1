"""Urgency: priorities, deadlines, and the context variable that carries them.

asyncio hands every callback a `contextvars.Context`, so urgency in a context variable follows a task into the tasks
that it spawns and into the futures that wake it, with the genuine C `asyncio.Task`. The loop reads the variable when a
callback becomes ready; a program that never asks for urgency never pays for that.

Urgency can also come from outside a task: changed by another task, lent by one that waits for it, or lowered by the
loop. The C task of Python 3.11 shows its context to nobody, but each handle that steps or wakes a task carries it. So a
change waits in `Urgencies` until the loop next meets such a handle, and is then written into the context, where tasks
that are spawned later inherit it. Lent urgency stays in `Urgencies` and is never inherited.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Priority(enum.IntEnum):
    """How urgent a callback, a task or a source is; the lower number runs first.

    A plain `loop.call_soon` is `NORMAL`. `IDLE` work runs only when nothing else is ready; every other band gets
    its turn within a stated bound however busy the more urgent ones are.
    """

    INTERRUPT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    IDLE = 4


class Urgency(NamedTuple):
    """The value of the context variable."""

    priority: Priority = Priority.NORMAL
    deadline: float = math.inf
    """Seconds from when the work becomes ready until it should start."""


NORMAL = Urgency()
URGENCY: contextvars.ContextVar[Urgency] = contextvars.ContextVar("hwloop.urgency", default=NORMAL)


def as_priority(value: Priority | int | str) -> Priority:
    """Return `value`, a `Priority`, its number or its name ("high"). Raises ValueError that names the known ones."""
    try:
        if isinstance(value, str):
            return Priority[value.strip().upper()]
        if isinstance(value, bool):
            raise ValueError
        return Priority(value)
    except (ValueError, KeyError):
        known = ", ".join(f"{priority.name} ({priority.value})" for priority in Priority)
        raise ValueError(f"unknown priority {value!r}; use one of {known}") from None


def as_deadline(value: float) -> float:
    """Return `value` (seconds from readiness). Raises ValueError unless it is above 0, TypeError if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a deadline is a number of seconds, not {value!r}")
    if not value > 0:
        raise ValueError(f"a deadline is in seconds from readiness, more than 0, not {value!r}")
    return value


class Change:
    """A change of urgency; None leaves that part as it is."""

    __slots__ = ("deadline", "priority")

    def __init__(self, priority: Priority | None, deadline: float | None) -> None:
        self.priority: Priority | None = priority
        self.deadline: float | None = deadline

    def applied(self, urgency: Urgency) -> Urgency:
        """Return the changed urgency, always a new object: by that, `scheduled` knows that its own was replaced."""
        return Urgency(
            urgency.priority if self.priority is None else self.priority,
            urgency.deadline if self.deadline is None else self.deadline,
        )

    def over(self, earlier: Change | None) -> Change:
        """Return both changes as one."""
        if earlier is None:
            return self
        return Change(
            earlier.priority if self.priority is None else self.priority,
            earlier.deadline if self.deadline is None else self.deadline,
        )


class Override:
    """Urgency of one task from outside it.

    Attributes:
        change: a change that is not in the task's context yet.
        is_demoted: whether the task runs one priority lower until it rests.
        lent: urgency by lender.
        watcher: called when the urgency changes.
    """

    __slots__ = ("change", "is_demoted", "lent", "watcher")

    def __init__(self) -> None:
        self.change: Change | None = None
        self.is_demoted: bool = False
        self.lent: dict[object, Urgency] = {}
        self.watcher: Callable[[], object] | None = None

    def applied(self, urgency: Urgency) -> Urgency:
        """Return the urgency in force: changed, lowered if demoted, or a lent one if that is more urgent."""
        if self.change is not None:
            urgency = self.change.applied(urgency)
        if self.is_demoted and urgency.priority < Priority.LOW:  # below LOW, nothing would bound its wait
            urgency = urgency._replace(priority=Priority(urgency.priority + 1))
        return min(urgency, *self.lent.values()) if self.lent else urgency


class Urgencies:
    """The urgency of every handle of a loop.

    Attributes:
        in_use: whether the program has asked for urgency. Until then every handle is NORMAL.
    """

    __slots__ = ("_overrides", "in_use")

    def __init__(self) -> None:
        self.in_use: bool = False
        self._overrides: dict[asyncio.Task[Any], Override] = {}

    def of(self, handle: Any) -> Urgency:
        """Return the urgency of a handle that has just become ready, and write a waiting change into its context."""
        if not self.in_use:
            return NORMAL
        try:
            urgency: Urgency = handle._context.get(URGENCY, NORMAL)
        except AttributeError:
            return NORMAL  # no context at all, which is reported when it runs
        return self._overridden(handle, urgency) if self._overrides else urgency

    def override(self, task: asyncio.Task[Any]) -> Override:
        """Return the task's override, a new one if it has none. Call `drop_if_spent` when done with it."""
        return self._overrides.setdefault(task, Override())

    def existing(self, task: asyncio.Task[Any]) -> Override | None:
        """Return the task's override, or None."""
        return self._overrides.get(task)

    def drop_if_spent(self, task: asyncio.Task[Any]) -> None:
        """Forget the task's override if it has no effect any more."""
        override = self._overrides.get(task)
        if override is not None and not (override.change or override.lent or override.watcher or override.is_demoted):
            del self._overrides[task]

    def promote(self, task: asyncio.Task[Any]) -> None:
        """End a demotion: the task has rested, or is done."""
        override = self._overrides.get(task)
        if override is not None and override.is_demoted:
            override.is_demoted = False
            task.remove_done_callback(self.promote)
            self.drop_if_spent(task)

    def clear(self) -> None:
        """Drop all overrides."""
        self._overrides.clear()

    def _overridden(self, handle: Any, urgency: Urgency) -> Urgency:
        for task in served_tasks(handle):
            override = self._overrides.get(task)
            if override is None:
                continue
            stepping = _steps(handle, task)
            if override.is_demoted and (handle._args or not stepping):
                self.promote(task)  # something has woken it, or is about to
            applied = override.applied(urgency)
            if override.change is not None and stepping:
                try:
                    handle._context.run(URGENCY.set, override.change.applied(urgency))
                except RuntimeError:
                    pass  # tasks share this context and it is entered now; the next handle will do
                else:
                    override.change = None
                    self.drop_if_spent(task)
            return applied
        return urgency


def served_tasks(handle: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks that a handle steps or wakes, or whose awaited future it completes.

    Attributes of the callback are user code; if one raises, the list is empty.
    """
    try:
        return [] if handle._cancelled else list(_found(handle))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        return []


def _found(handle: Any) -> Iterator[asyncio.Task[Any]]:
    for thing in (getattr(handle._callback, "__self__", None), *handle._args[:1]):
        if isinstance(thing, asyncio.Task):
            yield thing
        if isinstance(thing, asyncio.Future):
            for callback, _ in thing._callbacks or ():
                waiter = getattr(callback, "__self__", None)
                if isinstance(waiter, asyncio.Task):
                    yield waiter


def _steps(handle: Any, task: asyncio.Task[Any]) -> bool:
    """Return whether a handle runs the task itself, and so in its context; `call_later(1, task.cancel)` does not."""
    callback = handle._callback
    return getattr(callback, "__self__", None) is task and not hasattr(
        asyncio.Task, getattr(callback, "__name__", None) or ""
    )
