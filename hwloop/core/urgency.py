"""What is urgent: priorities, deadlines, and the context variable that carries them.

asyncio hands every callback a `contextvars.Context`, so urgency that lives in a context variable follows a task
into what it spawns and into the futures that wake it, with the genuine C `asyncio.Task`. The loop looks the
variable up where a callback becomes ready; a program that never asks for urgency never pays for that look-up.
"""

from __future__ import annotations

import contextvars
import enum
import math
from typing import NamedTuple


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
    """What the context variable holds."""

    priority: Priority = Priority.NORMAL
    deadline: float = math.inf
    """Seconds within which the work should start, counted from when it becomes ready."""


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
    """`value` as seconds from readiness. Raises ValueError unless it is above 0, TypeError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a deadline is a number of seconds, not {value!r}")
    if not value > 0:
        raise ValueError(f"a deadline is in seconds from readiness, more than 0, not {value!r}")
    return value
