"""1-Wire: thermometers whose readings are awaited.

async with onewire.open() as bus:
    for sensor in await bus.sensors():
        print(sensor.name, await sensor.read())
"""

from __future__ import annotations

from hwloop.sources.bus import BusTimeoutError, Transaction
from hwloop.sources.onewire.bus import Bus, open
from hwloop.sources.onewire.sensor import Sensor, SensorStatistics
from hwloop.sources.poll import Poll, Reading

__all__ = ["Bus", "BusTimeoutError", "Poll", "Reading", "Sensor", "SensorStatistics", "Transaction", "open"]


def __dir__() -> list[str]:
    return __all__
