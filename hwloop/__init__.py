"""hwloop: an asyncio event loop for hardware. README.md shows how the names below go together.

Importing this package touches no hardware, starts no thread and opens no file. `import hwloop` loads the loop; sources,
virtual time and gpiozero's pins are loaded on first use, because an import is slow on a small board.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_MODULE_OF = {
    "Backoff": "hwloop.sources",
    "DeadlockError": "hwloop.virtual.clock",
    "Event": "hwloop.scheduling.sync",
    "EventLoop": "hwloop.core.event_loop",
    "EventLoopPolicy": "hwloop.runner",
    "HardwareError": "hwloop.errors",
    "Lock": "hwloop.scheduling.sync",
    "Periodic": "hwloop.core.periodic_timer",
    "Priority": "hwloop.core.urgency",
    "Queue": "hwloop.scheduling.sync",
    "RateLimit": "hwloop.sources",
    "RateLimiter": "hwloop.scheduling.limits",
    "RealTime": "hwloop.core.realtime",
    "SimLoop": "hwloop.virtual.loop",
    "ThrottleStatistics": "hwloop.scheduling.limits",
    "Tick": "hwloop.core.periodic_timer",
    "TimeLimitError": "hwloop.virtual.clock",
    "VirtualClock": "hwloop.virtual.clock",
    "board": "hwloop.board",
    "checkpoint": "hwloop.scheduling.cooperative",
    "create_task": "hwloop.scheduling.cooperative",
    "every": "hwloop.scheduling.periodic",
    "gpio": "hwloop.sources.gpio",
    "i2c": "hwloop.sources.i2c",
    "new_event_loop": "hwloop.runner",
    "pins": "hwloop.pins",
    "reschedule": "hwloop.scheduling.cooperative",
    "run": "hwloop.runner",
    "scheduled": "hwloop.scheduling.cooperative",
    "serial": "hwloop.sources.serial",
    "service": "hwloop.service",
    "sliced": "hwloop.scheduling.cooperative",
    "throttle": "hwloop.scheduling.limits",
}
"""The module of each public name. A name that its module's path ends in is the module itself."""

if TYPE_CHECKING:  # the same names for type checkers; tests/test_public_names.py compares them with the table
    from hwloop import board as board
    from hwloop import pins as pins
    from hwloop import service as service
    from hwloop.core.event_loop import EventLoop as EventLoop
    from hwloop.core.periodic_timer import Periodic as Periodic
    from hwloop.core.periodic_timer import Tick as Tick
    from hwloop.core.realtime import RealTime as RealTime
    from hwloop.core.urgency import Priority as Priority
    from hwloop.errors import HardwareError as HardwareError
    from hwloop.runner import EventLoopPolicy as EventLoopPolicy
    from hwloop.runner import new_event_loop as new_event_loop
    from hwloop.runner import run as run
    from hwloop.scheduling.cooperative import checkpoint as checkpoint
    from hwloop.scheduling.cooperative import create_task as create_task
    from hwloop.scheduling.cooperative import reschedule as reschedule
    from hwloop.scheduling.cooperative import scheduled as scheduled
    from hwloop.scheduling.cooperative import sliced as sliced
    from hwloop.scheduling.limits import RateLimiter as RateLimiter
    from hwloop.scheduling.limits import ThrottleStatistics as ThrottleStatistics
    from hwloop.scheduling.limits import throttle as throttle
    from hwloop.scheduling.periodic import every as every
    from hwloop.scheduling.sync import Event as Event
    from hwloop.scheduling.sync import Lock as Lock
    from hwloop.scheduling.sync import Queue as Queue
    from hwloop.sources import Backoff as Backoff
    from hwloop.sources import RateLimit as RateLimit
    from hwloop.sources import gpio as gpio
    from hwloop.sources import i2c as i2c
    from hwloop.sources import serial as serial
    from hwloop.virtual.clock import DeadlockError as DeadlockError
    from hwloop.virtual.clock import TimeLimitError as TimeLimitError
    from hwloop.virtual.clock import VirtualClock as VirtualClock
    from hwloop.virtual.loop import SimLoop as SimLoop

# Policies are deprecated from Python 3.14 and gone in 3.16: `from hwloop import *` neither warns nor fails there.
__all__ = [name for name in _MODULE_OF if name != "EventLoopPolicy"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *_MODULE_OF]


if not TYPE_CHECKING:  # for a type checker, this function would make every misspelt name a public one

    def __getattr__(name: str) -> object:
        """Load the module of a public name on first use."""
        path = _MODULE_OF.get(name)
        if path is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(path)
        value = globals()[name] = module if path.endswith(f".{name}") else getattr(module, name)
        return value


# Programs reach for these from a running loop, which must not wait for an import.
for _path in ("hwloop.runner", "hwloop.scheduling.periodic"):
    importlib.import_module(_path)
