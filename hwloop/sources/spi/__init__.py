"""SPI: devices whose transfers are awaited.

async with spi.open(0, 0, speed=1_000_000) as adc:
    answer = await adc.transfer(b"\\x01\\x80\\x00")
"""

from __future__ import annotations

from hwloop.sources.bus import BusTimeoutError, Transaction
from hwloop.sources.poll import Poll, Reading
from hwloop.sources.spi.device import Device, open

__all__ = ["BusTimeoutError", "Device", "Poll", "Reading", "Transaction", "open"]


def __dir__() -> list[str]:
    return __all__
