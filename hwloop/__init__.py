"""hwloop: an asyncio event loop for hardware. See README.md; the names below are the public ones."""

from __future__ import annotations

from hwloop.errors import HardwareError
from hwloop.scheduling import Priority

__all__ = ["HardwareError", "Priority"]
__version__ = "0.1.0"
