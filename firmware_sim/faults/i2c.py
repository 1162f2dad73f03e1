"""Faults of I2C transfers: as fault-codes.rst of the kernel names them, and as the Pi's adapters report them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.bus import Bus, Disturbance
from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import TransferFault
from firmware_sim.libraries.smbus2 import Message


class _Nacks(Disturbance):
    def __init__(self, address: int | None, chance: Chance) -> None:
        self._address = address
        self._chance = chance

    def acknowledges(self, message: Message) -> bool:
        return self._address not in (None, message.address) or not self._chance.strikes()


@dataclass
class Nack(TransferFault):
    """A device that does not acknowledge: EREMOTEIO from the Pi's adapters (i2c-bcm2835.c in the kernel).

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all transfers on the bus.
    """

    name = "i2c-nack"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, address = self.find_device(board)
        return _disturb(bus, _Nacks(address, chance))


def _disturb(bus: Bus, disturbance: Disturbance) -> Callable[[], object]:
    """Put a disturbance on the wire, and return the function that takes it away."""
    bus.disturbances.append(disturbance)
    return lambda: bus.disturbances.remove(disturbance)
