"""Sources: GPIO lines, serial ports, I2C buses, and the base class for others. No hardware package is imported here."""

from __future__ import annotations

from hwloop.core import find_compiled

find_compiled(__path__[0], ["intake"])

from hwloop.sources.event_stream import EventStream  # noqa: E402
from hwloop.sources.intake import WhenFull  # noqa: E402
from hwloop.sources.rate_limit import RateLimit  # noqa: E402
from hwloop.sources.reopening import Backoff, ReopenHook  # noqa: E402
from hwloop.sources.source import Source  # noqa: E402

__all__ = ["Backoff", "EventStream", "RateLimit", "ReopenHook", "Source", "WhenFull"]


def __dir__() -> list[str]:
    return __all__
