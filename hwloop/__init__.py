"""hwloop: an asyncio event loop for hardware. README.md shows how the names below go together.

Importing this package touches no hardware, starts no thread and opens no file. The first name that a program uses loads
the loop; sources, virtual time and gpiozero's pins are loaded on first use, because an import is slow on a small board.
`import hwloop` alone loads nothing: pytest does that in every run, for the plugin.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if sys.version_info < (3, 11):  # noqa: UP036  # in a checkout, which no pip has kept from it
    _too_old = "hwloop needs Python 3.11 or newer, this is {}.{}".format(*sys.version_info[:2])
    if sys.argv[:1] == ["-m"]:  # while Python looks for the module of `python -m hwloop`
        print(_too_old, file=sys.stderr)
        sys.exit(2)
    raise ImportError(_too_old)

from hwloop.core.lazy import lazy_names

_PUBLIC = {
    "hwloop.board": ("board",),
    "hwloop.core.event_loop": ("EventLoop",),
    "hwloop.core.periodic_timer": ("Periodic", "Tick"),
    "hwloop.core.realtime": ("RealTime",),
    "hwloop.core.urgency": ("Priority",),
    "hwloop.errors": ("HardwareError",),
    "hwloop.pins": ("pins",),
    "hwloop.recording": ("recording",),
    "hwloop.runner": ("EventLoopPolicy", "new_event_loop", "run"),
    "hwloop.scheduling.cooperative": ("checkpoint", "create_task", "reschedule", "scheduled", "sliced"),
    "hwloop.scheduling.limits": ("RateLimiter", "ThrottleStatistics", "throttle"),
    "hwloop.scheduling.periodic": ("every",),
    "hwloop.scheduling.sync": ("Event", "Lock", "Queue"),
    "hwloop.service": ("service",),
    "hwloop.sources": ("Backoff", "RateLimit"),
    "hwloop.sources.gpio": ("gpio",),
    "hwloop.sources.i2c": ("i2c",),
    "hwloop.sources.onewire": ("onewire",),
    "hwloop.sources.serial": ("serial",),
    "hwloop.sources.spi": ("spi",),
    "hwloop.virtual.clock": ("VirtualClock",),
    "hwloop.virtual.errors": ("DeadlockError", "TimeLimitError"),
    "hwloop.virtual.loop": ("SimLoop",),
}
"""The public names of each module. A name in which the module's own ends is the module itself."""

if TYPE_CHECKING:  # the same names for type checkers; tests/test_public_names.py compares them with the table
    from hwloop import board as board
    from hwloop import pins as pins
    from hwloop import recording as recording
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
    from hwloop.sources import onewire as onewire
    from hwloop.sources import serial as serial
    from hwloop.sources import spi as spi
    from hwloop.virtual.clock import VirtualClock as VirtualClock
    from hwloop.virtual.errors import DeadlockError as DeadlockError
    from hwloop.virtual.errors import TimeLimitError as TimeLimitError
    from hwloop.virtual.loop import SimLoop as SimLoop

_NAMES = [name for names in _PUBLIC.values() for name in names]
# Policies are deprecated from Python 3.14 and gone in 3.16: `from hwloop import *` neither warns nor fails there.
__all__ = sorted(name for name in _NAMES if name != "EventLoopPolicy")
__version__ = "0.1.0"

if not TYPE_CHECKING:  # for a type checker, `__getattr__` would make every misspelt name a public one
    _load, __dir__ = lazy_names(__name__, [*_NAMES, "__version__"], _PUBLIC)

    def __getattr__(name):
        """Import a name; with the first one also what programs reach for on a loop, which must not wait for it."""
        if name in _NAMES:
            for path in ("hwloop.runner", "hwloop.scheduling.periodic"):
                importlib.import_module(path)
        return _load(name)
