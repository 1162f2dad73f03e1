"""I2C: a bus that is awaited, and devices on it.

async with i2c.open(1) as bus:
    chip = bus.device(0x76)
    value = await chip.read_register(0xD0)
"""

from __future__ import annotations

from hwloop.sources.bus import BusTimeoutError, Transaction
from hwloop.sources.i2c.bus import FIRST_ADDRESS, LAST_ADDRESS, Bus, open
from hwloop.sources.i2c.device import Device
from hwloop.sources.poll import Poll, Reading

__all__ = [
    "FIRST_ADDRESS",
    "LAST_ADDRESS",
    "Bus",
    "BusTimeoutError",
    "Device",
    "Poll",
    "Reading",
    "Transaction",
    "open",
]


def __dir__() -> list[str]:
    return __all__
