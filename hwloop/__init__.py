"""hwloop: an asyncio event loop for hardware. README.md shows how the names below go together.

Importing it touches no hardware, starts no thread and opens no file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hwloop import runner as _runner
from hwloop.core.event_loop import EventLoop
from hwloop.core.urgency import Priority, checkpoint, create_task, reschedule, scheduled, sliced
from hwloop.errors import HardwareError
from hwloop.runner import new_event_loop, run
from hwloop.scheduling.periodic import Periodic, Tick, every

if TYPE_CHECKING:
    from hwloop import pins
    from hwloop.core.realtime import RealTime
    from hwloop.scheduling.limits import RateLimiter, ThrottleStatistics, throttle
    from hwloop.scheduling.sync import Event, Lock, Queue
    from hwloop.sources import gpio, i2c, serial
    from hwloop.virtual.clock import DeadlockError, TimeLimitError, VirtualClock
    from hwloop.virtual.loop import SimLoop

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
        return getattr(importlib.import_module("hwloop.scheduling.limits"), name)
    if name == "RealTime":
        return importlib.import_module("hwloop.core.realtime").RealTime
    if name == "SimLoop":
        return importlib.import_module("hwloop.virtual.loop").SimLoop
    if name in ("DeadlockError", "TimeLimitError", "VirtualClock"):
        return getattr(importlib.import_module("hwloop.virtual.clock"), name)
    if name in ("Event", "Lock", "Queue"):
        return getattr(importlib.import_module("hwloop.scheduling.sync"), name)
    if name == "EventLoopPolicy":
        return _runner.EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
