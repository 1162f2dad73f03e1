"""A simulated board: lines, ports, a bus and the devices on them, below the parsing of the real libraries.

`SimBoard` implements `hwloop.board.Board`. It knows nothing of sources and needs no event loop: like hardware it runs
by itself, on a thread of its own.
"""

from __future__ import annotations

from hwloop.core import find_compiled

find_compiled(__path__[0], ["bus", "contacts", "pins", "strain", "timeline", "uart"])

from firmware_sim.board import SimBoard  # noqa: E402
from firmware_sim.device import Connections, Device  # noqa: E402
from firmware_sim.errors import WiringError  # noqa: E402
from firmware_sim.smbus import SMBus  # noqa: E402

__all__ = ["Connections", "Device", "SMBus", "SimBoard", "WiringError"]


def __dir__() -> list[str]:
    return __all__
