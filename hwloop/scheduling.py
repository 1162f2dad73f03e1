"""What is urgent: priorities, deadlines, and the context variable that carries them.

asyncio hands every callback a `contextvars.Context`, so urgency that lives in a context variable follows a task
into what it spawns and into the futures that wake it, with the genuine C `asyncio.Task`. The loop looks the
variable up where a callback becomes ready; a program that never asks for urgency never pays for that look-up.
"""

from __future__ import annotations

import enum


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
