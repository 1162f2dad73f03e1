"""Urgency that comes from outside a task: changed by another one, lent by one that waits, or lowered by the loop.

A task's own urgency is a value in its context, and the C task of Python 3.11 shows its context to nobody. But each
handle that steps or wakes a task carries it. So a change waits here until the loop next meets such a handle, and is
then written into the context, where what the task spawns later inherits it as from any other. What is lent stays here
and is never inherited: it ends when the lender gets what it waits for.

Both reach what keeps the task from running, as far as the loop can see it: its next step, the timer or the job whose
end it waits for, and a task that it awaits directly. A handle that is queued already is moved. Promised: a loop on
which nobody changes or lends anything pays one test of an empty dict for each handle of which it asks the urgency.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from hwloop.core.urgency import NORMAL, URGENCY, Priority, Urgency, as_deadline, as_priority

if TYPE_CHECKING:
    from hwloop.core.run_queue import Bands


class Change(NamedTuple):
    """A change of urgency; None leaves that part as it is."""

    priority: Priority | None
    deadline: float | None

    def applied(self, urgency: Urgency) -> Urgency:
        """A new `Urgency`, always another object: `scheduled` knows by this that its own is no longer in force."""
        return Urgency(
            urgency.priority if self.priority is None else self.priority,
            urgency.deadline if self.deadline is None else self.deadline,
        )


class Override:
    """What is in force for one task."""

    __slots__ = ("change", "demoted", "lent", "watcher")

    def __init__(self) -> None:
        self.change: Change | None = None
        self.demoted = False
        self.lent: dict[object, Urgency] = {}  # by lender
        self.watcher: Callable[[], object] | None = None

    def applied(self, urgency: Urgency) -> Urgency:
        """What counts instead of `urgency`: the changed, lowered if demoted, or the lent, if that is more urgent."""
        if self.change is not None:
            urgency = self.change.applied(urgency)
        if self.demoted and urgency.priority < Priority.LOW:  # below LOW, nothing would bound its wait
            urgency = urgency._replace(priority=Priority(urgency.priority + 1))
        return min(urgency, *self.lent.values()) if self.lent else urgency


class Overriding:
    """A mixin of `hwloop.EventLoop`: its cold half where urgency is concerned."""

    _overrides: dict[asyncio.Task[Any], Override]
    _ready: collections.deque[Any]
    _bands: Bands

    if TYPE_CHECKING:

        def heed_urgency(self) -> None: ...
        def _add_ready(self, handle: Any) -> None: ...
        def _urgency(self, handle: Any) -> Urgency: ...

    def reschedule(
        self, task: asyncio.Task[Any], *, priority: Priority | None = None, deadline: float | None = None
    ) -> None:
        """Change the urgency of a task from now on, wherever it is: running, ready or waiting.

        What is None stays as it is; `deadline` is in seconds, `math.inf` for none. What the task spawns from now on
        inherits the new urgency, what it has spawned keeps the old. Within a `scheduled` block of that task, it ends
        the block's effect. Raises ValueError for an unknown priority, a deadline that is not above 0 or a task of
        another loop, TypeError for what is no task.
        """
        if not isinstance(task, asyncio.Task):
            raise TypeError(f"a task was expected, not {task!r}")
        if task.get_loop() is not self:  # type: ignore[comparison-overlap]  # a mixin of it
            raise ValueError(f"{task!r} is on another loop")
        change = Change(
            None if priority is None else as_priority(priority), None if deadline is None else as_deadline(deadline)
        )
        if task.done() or change == (None, None):
            return
        self.heed_urgency()
        if self._is_current(task):
            URGENCY.set(change.applied(URGENCY.get()))
            return
        override = self._overrides.setdefault(task, Override())
        if override.change is not None:  # by which the task has not been met yet
            change = Change(
                override.change.priority if change.priority is None else change.priority,
                override.change.deadline if change.deadline is None else change.deadline,
            )
        override.change = change
        self._changed(task, override)

    def lend_urgency(self, lender: object, task: asyncio.Task[Any], urgency: Urgency | None) -> None:
        """Have `task` run at least as urgently as `urgency` until `lender` says otherwise; None takes it back."""
        override = self._overrides.get(task)
        if (None if override is None else override.lent.get(lender)) == urgency:
            return
        if override is None:
            override = self._overrides[task] = Override()
        if urgency is None:
            del override.lent[lender]
        else:
            if urgency != NORMAL:
                self.heed_urgency()
            override.lent[lender] = urgency
        self._changed(task, override)
        self._forget_if_spent(task, override)

    def watch_urgency(self, task: asyncio.Task[Any], watcher: Callable[[], object] | None) -> None:
        """Call `watcher` whenever somebody else changes the urgency of `task`, which waits; None ends that."""
        override = self._overrides.setdefault(task, Override())
        override.watcher = watcher
        self._forget_if_spent(task, override)

    def urgency_in_force(self, task: asyncio.Task[Any], own: Urgency) -> Urgency:
        """What counts for a task that waits, whose own urgency is, or was when it began to wait, `own`."""
        override = self._overrides.get(task)
        return own if override is None else override.applied(own)

    def _demote(self, task: asyncio.Task[Any]) -> None:
        """Run a task one band lower until it rests: until it waits for something, rather than for its turn only."""
        waiting: Any = task
        if task.done() or waiting._fut_waiter is not None:
            return
        override = self._overrides.setdefault(task, Override())
        if not override.demoted:
            self.heed_urgency()
            override.demoted = True
            task.add_done_callback(self._promote, context=contextvars.Context())
            self._requeue(task)

    def _promote(self, task: asyncio.Task[Any]) -> None:
        """End a demotion: the task has rested, or is done."""
        override = self._overrides.get(task)
        if override is not None and override.demoted:
            override.demoted = False
            task.remove_done_callback(self._promote)
            self._forget_if_spent(task, override)

    def _override(self, handle: Any, urgency: Urgency) -> Urgency:
        """The urgency of a handle that has just become ready; a change to the task that it steps is written down."""
        for task in _served(handle):
            override = self._overrides.get(task)
            if override is None:
                continue
            stepping = _steps(handle, task)
            if override.demoted and (handle._args or not stepping):
                self._promote(task)  # something has woken it, or is about to
            applied = override.applied(urgency)
            if override.change is not None and stepping:
                try:
                    handle._context.run(URGENCY.set, override.change.applied(urgency))
                except RuntimeError:
                    pass  # a context that is entered just now, because tasks share it; the next handle will do
                else:
                    override.change = None
                    self._forget_if_spent(task, override)
            return applied
        return urgency

    def _forget_if_spent(self, task: asyncio.Task[Any], override: Override) -> None:
        if not (override.change or override.lent or override.watcher or override.demoted):
            self._overrides.pop(task, None)

    def _is_current(self, task: asyncio.Task[Any]) -> bool:
        loop: Any = self
        return asyncio.current_task(loop) is task  # works between two runs of the loop, too

    def _changed(self, task: asyncio.Task[Any], override: Override) -> None:
        if not self._is_current(task):
            self._requeue(task)
        if override.watcher is not None:
            override.watcher()

    def _requeue(self, task: asyncio.Task[Any]) -> None:
        """Move what is queued for a task to where it belongs now. What it leaves in the queues is skipped there."""

        def misplaced(handle: Any, queued: Urgency) -> bool:
            return task in _served(handle) and self._urgency(handle) != queued

        nothing = asyncio.Handle(print, (), self, contextvars.Context())  # type: ignore[arg-type]
        nothing.cancel()
        moved = self._bands.take(misplaced, nothing)
        for place, handle in enumerate(self._ready):
            if misplaced(handle, NORMAL):
                self._ready[place] = nothing
                moved.append(handle)
        for handle in moved:
            self._add_ready(handle)


def _served(handle: Any) -> list[asyncio.Task[Any]]:
    """The tasks that a handle steps, wakes, or brings nearer to waking; none where attributes of its callback raise."""
    try:
        return [] if handle._cancelled else list(_found(handle))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        return []


def _found(handle: Any) -> Iterator[asyncio.Task[Any]]:
    for what in (getattr(handle._callback, "__self__", None), *handle._args[:1]):
        if isinstance(what, asyncio.Task):
            yield what
        if isinstance(what, asyncio.Future):
            for callback, _ in what._callbacks or ():
                waiter = getattr(callback, "__self__", None)
                if isinstance(waiter, asyncio.Task):
                    yield waiter


def _steps(handle: Any, task: asyncio.Task[Any]) -> bool:
    """Whether a handle runs the task itself, and so in its context; `call_later(1, task.cancel)` does not."""
    callback = handle._callback
    return getattr(callback, "__self__", None) is task and not hasattr(
        asyncio.Task, getattr(callback, "__name__", None) or ""
    )
