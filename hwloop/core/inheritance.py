"""Priority inheritance: urgency that comes from outside a task, through another task or the loop.

A task's urgency can be changed by another task (`reschedule`), lent by a task that waits for it (`lend`), or lowered by
the loop (`demote`). All three reach whatever keeps the task from running, as far as the loop can see it: its next step,
the timer or thread job that it waits for, and a task that it awaits directly. A handle that is queued already moves to
its new place. A loop on which nobody does any of this pays one test of an empty dict for each handle whose urgency it
looks up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from hwloop.core.run_queue import RunQueue
from hwloop.core.urgency import NORMAL, URGENCY, Change, Priority, Urgencies, Urgency, as_deadline, as_priority


class PriorityInheritance:
    """Changes and lends the urgency of a loop's tasks: `EventLoop.urgency`, for locks and tasks with a priority."""

    def __init__(self, urgencies: Urgencies, run_queue: RunQueue) -> None:
        self._urgencies = urgencies
        self._run_queue = run_queue

    def enable(self) -> None:
        """Look up the urgency of every handle from now on. Until then, a program does not pay for it."""
        self._urgencies.in_use = True

    def reschedule(self, task: asyncio.Task[Any], priority: Priority | None, deadline: float | None) -> None:
        """Change the urgency of a task. See `EventLoop.reschedule`."""
        change = Change(
            None if priority is None else as_priority(priority), None if deadline is None else as_deadline(deadline)
        )
        if task.done() or (priority is None and deadline is None):
            return
        self.enable()
        if _is_current(task):
            URGENCY.set(change.applied(URGENCY.get()))
            return
        override = self._urgencies.override(task)
        override.change = change.over(override.change)  # the loop may not have met the task since the earlier one
        self._changed(task, override.watcher)

    def lend(self, lender: object, task: asyncio.Task[Any], urgency: Urgency | None) -> None:
        """Run `task` at least as urgently as `urgency` until `lender` lends another; None takes it back."""
        override = self._urgencies.existing(task)
        if (None if override is None else override.lent.get(lender)) == urgency:
            return
        override = self._urgencies.override(task)
        if urgency is None:
            del override.lent[lender]
        else:
            if urgency != NORMAL:
                self.enable()
            override.lent[lender] = urgency
        self._changed(task, override.watcher)
        self._urgencies.drop_if_spent(task)

    def watch(self, task: asyncio.Task[Any], watcher: Callable[[], object] | None) -> None:
        """Call `watcher` whenever the urgency of the waiting `task` is changed from outside it; None ends that."""
        self._urgencies.override(task).watcher = watcher
        self._urgencies.drop_if_spent(task)

    def in_force(self, task: asyncio.Task[Any], own: Urgency) -> Urgency:
        """Return the urgency of a waiting task; `own` is the one that it had when it began to wait."""
        override = self._urgencies.existing(task)
        return own if override is None else override.applied(own)

    def demote(self, task: asyncio.Task[Any]) -> None:
        """Run a task one priority lower until it rests, that is, waits for something other than its next turn."""
        waiting: Any = task
        if task.done() or waiting._fut_waiter is not None:
            return
        override = self._urgencies.override(task)
        if not override.is_demoted:
            self.enable()
            override.is_demoted = True
            task.add_done_callback(self._urgencies.promote, context=contextvars.Context())
            self._run_queue.requeue(task)

    def _changed(self, task: asyncio.Task[Any], watcher: Callable[[], object] | None) -> None:
        if not _is_current(task):
            self._run_queue.requeue(task)
        if watcher is not None:
            watcher()


def _is_current(task: asyncio.Task[Any]) -> bool:
    return asyncio.current_task(task.get_loop()) is task  # works between two runs of the loop, too
