"""hwloop: an asyncio event loop for hardware. README.md shows how the names below go together.

Importing it touches no hardware, starts no thread and opens no file.
"""

from __future__ import annotations

from typing import Any

from hwloop import loop as _loop
from hwloop.errors import HardwareError
from hwloop.loop import EventLoop, new_event_loop, run
from hwloop.scheduling import Priority, create_task, scheduled
from hwloop.timers import Tick, every

__all__ = [
    "EventLoop",
    "HardwareError",
    "Priority",
    "Tick",
    "create_task",
    "every",
    "new_event_loop",
    "run",
    "scheduled",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "EventLoopPolicy":
        return _loop.EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
