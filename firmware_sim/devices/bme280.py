"""A BME280: Bosch's temperature, humidity and pressure sensor, as a driver sees it through its registers.

All but the humidity it has in common with the BMP280 (`firmware_sim.bosch`).

Source: Bosch BST-BME280-DS002; sections are named where they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from firmware_sim.bosch import (
    CALIBRATION,
    CONFIG,
    OVERSAMPLING,
    PRESSURE,
    SKIPPED,
    TEMPERATURE,
    Calibration,
    PressureSensor,
    solve,
)
from firmware_sim.i2c_part import measured
from firmware_sim.limits import Limits, within

_CALIBRATION_2, _CTRL_HUM, _HUMIDITY_DATA = 0xE1, 0xF2, 0xFD
_HUMIDITY = Limits(0.0, 100.0, "%RH")


def percent(raw: int, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the relative humidity (0 to 100 %) for a 16-bit raw value (section 8.1)."""
    t = t_fine - 76800
    value = (raw - (c.h4 * 64 + c.h5 / 16384 * t)) * (
        c.h2 / 65536 * (1 + c.h6 / 67108864 * t * (1 + c.h3 / 67108864 * t))
    )
    return min(max(value * (1 - c.h1 * value / 524288), 0.0), 100.0)


def near_percent(humidity: float, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the raw value, not rounded, for a relative humidity in percent; the least one for 0 %."""
    if humidity <= 0:
        return 0.0
    t = t_fine - 76800
    value = 2 * humidity / (1 + math.sqrt(1 - 4 * humidity * c.h1 / 524288))
    slope = c.h2 / 65536 * (1 + c.h6 / 67108864 * t * (1 + c.h3 / 67108864 * t))
    return value / slope + c.h4 * 64 + c.h5 / 16384 * t


class Conditions(NamedTuple):
    """The air around the sensor: °C, %RH, hPa."""

    temperature: float
    humidity: float
    pressure: float


@dataclass(eq=False)
class Bme280(PressureSensor):
    """A BME280 temperature, humidity and pressure sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x76 or 0x77 (pin SDO).
        temperature, humidity, pressure: the air around it, in °C, %RH and hPa. Assign new values at any time; earlier
            measurements stay as they are.
        temperature_swing, humidity_swing, pressure_swing: the amplitude of a sine that is added to each of them.
        period: the period of these sines, in seconds.
        stretch: seconds for which it holds the clock in each transfer.

    Attributes:
        measurements: how many its registers have shown so far.
    """

    wiring: ClassVar[str] = (
        "SDA and SCL to lines 2 and 3, VCC to 3.3 V, GND to GND; SDO to GND for address 0x76, to 3.3 V for 0x77"
    )
    example: ClassVar[str] = (
        "bme280.sample(bus := smbus2.SMBus(1), 0x76, bme280.load_calibration_params(bus, 0x76)).temperature"
    )
    chip_id: ClassVar[int] = 0x60
    standby_ms: ClassVar[Sequence[float]] = (0.5, 62.5, 125, 250, 500, 1000, 10, 20)
    settings: ClassVar[Sequence[int]] = (_CTRL_HUM, CONFIG)
    humidity: float = measured(*_HUMIDITY[:3], default=45.0)
    humidity_swing: float = within(-100, 100, "%RH", default=0.0)

    def conditions(self, time_ns: int) -> Conditions:
        """Return the air at a time (nanoseconds, the timeline's clock), unless a value was assigned since."""
        temperature, pressure, humidity = self.air(time_ns)
        return Conditions(temperature, humidity, pressure)

    def air(self, time_ns: int) -> tuple[float, float, float]:
        swing = self.swing(time_ns)
        return (
            TEMPERATURE.clamp(self.temperature + self.temperature_swing * swing),
            PRESSURE.clamp(self.pressure + self.pressure_swing * swing),
            _HUMIDITY.clamp(self.humidity + self.humidity_swing * swing),
        )

    def power_on(self) -> None:
        super().power_on()
        _, second = CALIBRATION.registers()
        self.registers[_CALIBRATION_2 : _CALIBRATION_2 + len(second)] = second
        self._store_humidity(SKIPPED >> 4)

    def samples(self) -> tuple[int, ...]:
        # The setting of ctrl_hum takes effect now (section 5.4.3).
        return *super().samples(), OVERSAMPLING[self.registers[_CTRL_HUM] & 7]

    def measure_further(self, air: Sequence[float], samples: Sequence[int], t_fine: float) -> None:
        humidity = air[2]
        raw = solve(lambda raw: percent(raw, t_fine), humidity, near_percent(humidity, t_fine), 1 << 16)
        self._store_humidity(raw if samples[2] else SKIPPED >> 4)

    def _store_humidity(self, raw: int) -> None:
        self.registers[_HUMIDITY_DATA : _HUMIDITY_DATA + 2] = raw.to_bytes(2)
