"""What a seed decides in virtual time: orders that asyncio leaves open, and that a program must not depend on.

Only steps of tasks are reordered, never plain callbacks: asyncio promises the order of those, and its transports rely
on it (`connection_made` before `data_received`).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any, Literal

from hwloop.ready import Bands
from hwloop.scheduling import Priority

_OVERTAKING = 8
"""Places by which a seed may move a task's step among urgent ones."""


class SeededBands(Bands):
    """Bands in which steps of tasks with equal priority and deadline may overtake one another, a few places."""

    __slots__ = ("_pushed", "_random")

    def __init__(
        self, missed: Callable[[Any, float], None], found: Callable[[Any, float], None], seeded: random.Random
    ) -> None:
        super().__init__(missed, found)
        self._random = seeded
        count = self._sequence
        self._pushed: Any = None
        self._sequence = iter(lambda: next(count) + self._jitter(), None)  # type: ignore[assignment]

    def push(self, priority: Priority, deadline: float, handle: Any) -> None:
        self._pushed = handle
        super().push(priority, deadline, handle)
        self._pushed = None

    def _jitter(self) -> float:
        return self._random.random() * _OVERTAKING if task_of(self._pushed) is not None else 0.0


def chosen_seed(seed: int | Literal["random"] | None) -> tuple[int | None, bool]:
    """The seed, and whether the program gave it itself."""
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


def task_of(handle: Any) -> Any:
    """The task whose next step a handle is; None for other callbacks."""
    owner = getattr(getattr(handle, "_callback", None), "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None
