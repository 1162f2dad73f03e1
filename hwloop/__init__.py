"""hwloop: an asyncio event loop for hardware. README.md shows how the names below go together.

Importing it touches no hardware, starts no thread and opens no file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hwloop import runner as _runner
from hwloop.errors import HardwareError
from hwloop.loop import EventLoop
from hwloop.runner import new_event_loop, run
from hwloop.scheduling import Priority, checkpoint, create_task, reschedule, scheduled, sliced
from hwloop.timers import Periodic, Tick, every

if TYPE_CHECKING:
    from hwloop import pins
    from hwloop.limits import RateLimiter, ThrottleStatistics, throttle
    from hwloop.realtime import RealTime
    from hwloop.simloop import SimLoop
    from hwloop.sources import gpio, i2c, serial
    from hwloop.sync import Event, Lock, Queue
    from hwloop.virtual import DeadlockError, TimeLimitError, VirtualClock

__all__ = [
    "DeadlockError",
    "Event",
    "EventLoop",
    "HardwareError",
    "Lock",
    "Periodic",
    "Priority",
    "Queue",
    "RateLimiter",
    "RealTime",
    "SimLoop",
    "ThrottleStatistics",
    "Tick",
    "TimeLimitError",
    "VirtualClock",
    "checkpoint",
    "create_task",
    "every",
    "gpio",
    "i2c",
    "new_event_loop",
    "pins",
    "reschedule",
    "run",
    "scheduled",
    "serial",
    "sliced",
    "throttle",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What is loaded when first asked for: sources, limits, virtual time, and the policy, which new Pythons lack."""
    if name in ("gpio", "i2c", "serial"):
        return importlib.import_module(f"hwloop.sources.{name}")
    if name == "pins":
        return importlib.import_module("hwloop.pins")
    if name in ("RateLimiter", "ThrottleStatistics", "throttle"):
        return getattr(importlib.import_module("hwloop.limits"), name)
    if name == "RealTime":
        return importlib.import_module("hwloop.realtime").RealTime
    if name == "SimLoop":
        return importlib.import_module("hwloop.simloop").SimLoop
    if name in ("DeadlockError", "TimeLimitError", "VirtualClock"):
        return getattr(importlib.import_module("hwloop.virtual"), name)
    if name in ("Event", "Lock", "Queue"):
        return getattr(importlib.import_module("hwloop.sync"), name)
    if name == "EventLoopPolicy":
        return _runner.EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
