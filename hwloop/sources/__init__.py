"""Sources: GPIO lines, serial ports, I2C buses, and the base class for others. No hardware package is imported here."""

from __future__ import annotations

from hwloop.sources.channel import WhenFull
from hwloop.sources.event_stream import EventStream
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.source import Source

__all__ = ["Backoff", "EventStream", "RateLimit", "ReopenHook", "Source", "WhenFull"]


def __dir__() -> list[str]:
    return __all__
