"""A BMP280: Bosch's temperature and pressure sensor, a BME280 without humidity (`firmware_sim.bosch`).

Source: Bosch BST-BMP280-DS001, rev. 1.26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.bosch import PRESSURE, TEMPERATURE, PressureSensor


@dataclass(eq=False)
class Bmp280(PressureSensor):
    """A BMP280 temperature and pressure sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x76 or 0x77 (pin SDO).
        temperature, pressure: the air around it, in °C and hPa. Assign new values at any time; earlier measurements
            stay as they are.
        temperature_swing, pressure_swing: the amplitude of a sine that is added to each of them.
        period: the period of these sines, in seconds.
        stretch: seconds for which it holds the clock in each transfer.

    Attributes:
        measurements: how many its registers have shown so far.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; SDO to GND for address 0x76, to 3.3 V for 0x77"
    example: ClassVar[str] = "sensor = bmp280.BMP280(i2c_dev=smbus2.SMBus(1)); sensor.get_pressure()"
    chip_id: ClassVar[int] = 0x58
    standby_ms: ClassVar[Sequence[float]] = (0.5, 62.5, 125, 250, 500, 1000, 2000, 4000)

    def air(self, time_ns: int) -> tuple[float, float]:
        swing = self.swing(time_ns)
        return (
            TEMPERATURE.clamp(self.temperature + self.temperature_swing * swing),
            PRESSURE.clamp(self.pressure + self.pressure_swing * swing),
        )
