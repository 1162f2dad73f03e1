"""Seeding: in virtual time, a seed decides the orders that asyncio leaves open and that a program must not depend on.

Only steps of tasks are reordered, never plain callbacks: asyncio promises the order of those, and its transports rely
on it (`connection_made` before `data_received`).
"""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from hwloop.core.priority_queues import PriorityQueues
from hwloop.core.urgency import Priority
from hwloop.virtual.stable_order import Task

_OVERTAKING = 8
"""Places by which a seed may move a task's step among urgent ones."""


class SeededPriorityQueues(PriorityQueues):
    """Priority queues in which steps of tasks with equal priority and deadline may overtake each other, by a few."""

    __slots__ = ("_random",)

    def __init__(
        self, missed: Callable[[Any, float], None], found: Callable[[Any, float], None], seeded: random.Random
    ) -> None:
        super().__init__(missed, found)
        self._random = seeded

    def push(self, priority: Priority, deadline: float, handle: Any, places: float = 0) -> None:
        if task_of(handle) is not None:
            places += self._random.random() * _OVERTAKING
        super().push(priority, deadline, handle, places)


class StepOrder:
    """Shuffles the steps of ordinary tasks that are ready together among their places in the queue.

    Each batch once. Plain callbacks keep their places.
    """

    def __init__(self, seeded: random.Random) -> None:
        self._random = seeded
        self._ordered = 0  # the number of handles at the head of the queue that are in the seed's order
        self._last: Any = None  # the last of these
        self._others: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._made = 0

    def reset(self) -> None:
        """Forget the handles: the loop has ended."""
        self._ordered = 0
        self._last = None

    def note(self, task: asyncio.Task[Any]) -> None:
        """Note the age of a task that the program's own task factory has made."""
        self._made += 1
        self._others[task] = self._made

    def arrange(self, ready: deque[Any]) -> None:
        """Put the handles that have joined the queue since the last batch into the seed's order."""
        left = self._ordered
        if left > len(ready) or (left and ready[left - 1] is not self._last):
            left -= 1  # one has run since
            if left > 0 and (left > len(ready) or ready[left - 1] is not self._last):
                left = 0
        if left <= 0 and ready:
            left = len(ready)
            if left > 1:
                self._shuffle(ready)
            self._last = ready[-1]
        self._ordered = max(left, 0)
        if not self._ordered:
            self._last = None

    def _shuffle(self, ready: deque[Any]) -> None:
        places = [place for place, handle in enumerate(ready) if task_of(handle) is not None]
        if len(places) > 1:
            steps = sorted((ready[place] for place in places), key=self._age)
            self._random.shuffle(steps)
            for place, step in zip(places, steps, strict=True):
                ready[place] = step

    def _age(self, step: Any) -> tuple[bool, int]:
        task = task_of(step)
        return (False, task.number) if type(task) is Task else (True, self._others.get(task, 0))


def chosen_seed(seed: int | Literal["random"] | None) -> tuple[int | None, bool]:
    """Return the seed, and whether the program passed it itself."""
    if isinstance(seed, int) and not isinstance(seed, bool):
        return seed, True
    if seed not in (None, "random"):
        raise TypeError(f"a seed is a whole number, 'random' or None, not {seed!r}")
    text = os.environ.get("HWLOOP_SEED", "")
    if text:
        try:
            return int(text), False
        except ValueError:
            raise ValueError(f"HWLOOP_SEED must be a whole number, not {text!r}") from None
    return (int.from_bytes(os.urandom(4)), False) if seed else (None, False)


def how_to_repeat(seed: int, given: bool) -> str:
    """Return a note for a failure: the seed, and the command that runs it again."""
    if given:
        return f"in virtual time with seed={seed}; the same seed runs it again"
    test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
    command = ["python", "-m", "pytest", test] if test else ["python", *sys.orig_argv[1:]]
    return f"in virtual time with seed {seed}; to run it again: HWLOOP_SEED={seed} {shlex.join(command)}"


def task_of(handle: Any) -> Any:
    """Return the task whose next step a handle is; None for other callbacks."""
    owner = getattr(getattr(handle, "_callback", None), "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None
