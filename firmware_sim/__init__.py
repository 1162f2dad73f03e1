"""A simulated board: lines, ports, a bus and the devices on them, below the parsing of the real libraries.

`SimBoard` implements `hwloop.board.Board`. It knows nothing of sources and needs no event loop: like hardware it
goes its own way, on a thread of its own.
"""

from __future__ import annotations

from firmware_sim.board import SimBoard
from firmware_sim.bus import SMBus
from firmware_sim.wiring import WiringError

__all__ = ["SMBus", "SimBoard", "WiringError"]
