"""smbus2's own `SMBus` on a simulated bus, for programs that know of the simulation: `firmware_sim.SMBus(1)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_sim.board import SimBoard
from hwloop.board import current
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    import smbus2


def SMBus(bus: int, board: SimBoard | None = None) -> smbus2.SMBus:
    """Return smbus2's own `SMBus` on bus number `bus` of a simulated board: `board`, or else the one in use.

    Raises `HardwareError` if there is no such bus, or if the board in use is not a simulated one.
    """
    chosen = current() if board is None else board
    if not isinstance(chosen, SimBoard):
        raise HardwareError(
            f"firmware_sim.SMBus({bus})", f"the board in use is {chosen.label}", "pass board=, or set HWLOOP_BOARD=sim"
        )
    return chosen.open_bus(bus)
