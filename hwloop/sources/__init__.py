"""Sources: GPIO lines, serial ports, I2C buses, and the base for one's own. Nothing here imports a hardware package."""

from __future__ import annotations

from hwloop.sources.base import Backoff, Source, WhenFull
from hwloop.sources.rate_limit import RateLimit

__all__ = ["Backoff", "RateLimit", "Source", "WhenFull"]
