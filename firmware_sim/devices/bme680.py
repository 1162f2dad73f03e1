"""A BME680: Bosch's sensor of temperature, humidity, pressure, and the resistance of a heated film that gases change.

As in `firmware_sim.bosch`, the raw values are those for which the datasheet's formulas give the values set here. It
measures once each time the program asks it to, first the air, then, if the program wants that, the gas while it heats.

Source: Bosch BST-BME680-DS001, rev. 1.7. Not simulated: the effect of the
heater's temperature on the resistance, the smoothing of the IIR filter, and the SPI interface.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from firmware_sim.bosch import OVERSAMPLING, RESET_WORD, SKIPPED
from firmware_sim.i2c_part import Cycle, RegisterPart, measured

_STATUS, _DATA, _GAS_DATA, _RES_HEAT, _GAS_WAIT, _CTRL_GAS_0, _CTRL_GAS_1 = 0x1D, 0x1F, 0x2A, 0x5A, 0x64, 0x70, 0x71
_CTRL_HUM, _CTRL_MEAS, _CONFIG, _CALIBRATION_1, _ID, _RESET, _CALIBRATION_2 = 0x72, 0x74, 0x75, 0x89, 0xD0, 0xE0, 0xE1
_NEW_DATA, _GAS_MEASURING, _MEASURING = 0x80, 0x40, 0x20
_GAS_VALID, _HEAT_STABLE, _RUN_GAS, _HEAT_OFF, _FORCED = 0x20, 0x10, 0x10, 0x08, 1
_SAMPLE_MS, _SWITCH_MS, _WAKE_UP_MS = 1.963, 0.477, 1.0
"""Milliseconds for a sample, from one quantity to the next, and to wake up (Bosch's driver, bme68x_get_meas_dur)."""
_GAS_OFFSET = (0, 0, 0, 0, 0, -1, 0, -0.8, 0, 0, -0.2, -0.5, 0, -1, 0, 0)
_GAS_GAIN = (0, 0, 0, 0, 0.1, 0.7, 0, -0.8, -0.1, 0, 0, 0, 0, 0, 0, 0)
"""Corrections of each range of the gas measurement, in percent."""


class Calibration(NamedTuple):
    """The trimming values with the datasheet's names, as chips have them."""

    t1: int = 26125
    t2: int = 26370
    t3: int = 3
    p1: int = 36673
    p2: int = -10515
    p3: int = 88
    p4: int = 6310
    p5: int = -137
    p6: int = 30
    p7: int = 27
    p8: int = -1070
    p9: int = -2280
    p10: int = 30
    h1: int = 774
    h2: int = 1019
    h3: int = 0
    h4: int = 45
    h5: int = 20
    h6: int = 120
    h7: int = -100
    g1: int = -30
    g2: int = -5969
    g3: int = 18

    def registers(self) -> tuple[bytes, bytes]:
        """Return the registers from 0x89 and from 0xE1."""
        pressure = struct.pack("<HhbxhhbbxxhhB", *self[3:8], self.p7, self.p6, *self[10:13])
        first = struct.pack("<xhbx", self.t2, self.t3) + pressure
        shared = (self.h2 & 0x0F) << 4 | self.h1 & 0x0F
        second = bytes([self.h2 >> 4, shared, self.h1 >> 4])
        second += struct.pack("<bbbBbHhbb", *self[15:20], self.t1, self.g2, self.g1, self.g3)
        return first, second


CALIBRATION = Calibration()


def fine_temperature(raw: int, c: Calibration = CALIBRATION) -> float:
    """Return `t_fine`, the temperature in units of 1/5120 °C, for a 20-bit raw value."""
    return (raw / 16384 - c.t1 / 1024) * c.t2 + (raw / 131072 - c.t1 / 8192) ** 2 * c.t3 * 16


def pascal(raw: int, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the pressure (Pa) for a 20-bit raw value."""
    v1 = t_fine / 2 - 64000
    v2 = (v1 * v1 * c.p6 / 131072 + v1 * c.p5 * 2) / 4 + c.p4 * 65536
    v1 = (1 + (c.p3 * v1 * v1 / 16384 + c.p2 * v1) / 524288 / 32768) * c.p1
    pressure = (1048576 - raw - v2 / 4096) * 6250 / v1
    cubic = (pressure / 256) ** 3 * c.p10 / 131072
    return pressure + (c.p9 * pressure**2 / 2147483648 + pressure * c.p8 / 32768 + cubic + c.p7 * 128) / 16


def percent(raw: int, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the relative humidity (%) for a 16-bit raw value."""
    t = t_fine / 5120
    v1 = raw - (c.h1 * 16 + c.h3 / 2 * t)
    v2 = v1 * c.h2 / 262144 * (1 + c.h4 / 16384 * t + c.h5 / 1048576 * t * t)
    return v2 + (c.h6 / 16384 + c.h7 / 2097152 * t) * v2 * v2


def gas_raw(ohms: float) -> tuple[int, int]:
    """Return the ten-bit raw value and the range of a resistance (3.4.1 solved for the raw value)."""
    for gas_range in range(16):
        gain = (1 + _GAS_GAIN[gas_range] / 100) * 1.25e-7 * (1 << gas_range) * ohms
        raw = round(512 + 1340 * (1 + _GAS_OFFSET[gas_range] / 100) * (1 / gain - 1))
        if raw <= 1023:
            return max(raw, 0), gas_range
    return 1023, 15


@dataclass(eq=False)
class Bme680(RegisterPart):
    """A BME680 temperature, humidity, pressure and gas sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x76 or 0x77 (pin SDO).
        temperature, humidity, pressure: the air around it, in °C, %RH and hPa.
        gas_resistance: the resistance of its heated film, in ohms: about 100 kΩ in clean air, less with gases in it.

    Attributes:
        measurements: how many its registers have shown so far.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; SDO to GND for address 0x76, to 3.3 V for 0x77"
    example: ClassVar[str] = "sensor = bme680.BME680(0x76); sensor.get_sensor_data(); sensor.data.temperature"
    addresses: ClassVar[Sequence[int]] = (0x76, 0x77)
    address: int = 0x76
    temperature: float = measured(-40, 85, "°C", default=21.5)
    humidity: float = measured(0, 100, "%RH", default=45.0)
    pressure: float = measured(300, 1100, "hPa", default=1013.25)
    gas_resistance: float = measured(300, 10_000_000, "ohms", default=100_000.0)

    def power_on(self) -> None:
        self.measurements: int = 0
        first, second = CALIBRATION.registers()
        self.registers[_CALIBRATION_1 : _CALIBRATION_1 + len(first)] = first
        self.registers[_CALIBRATION_2 : _CALIBRATION_2 + len(second)] = second
        self.registers[0x00], self.registers[0x02], self.registers[_ID] = 40, 0x10, 0x61
        self._store(SKIPPED, SKIPPED, SKIPPED >> 4)
        self._cycle = Cycle()
        self._air_ends_ns = 0

    def write(self, data: bytes) -> None:
        """Set the pointer from a single byte; else store pairs of register and value."""
        self.update(self.now_ns())
        if data:
            self.pointer: int = data[0]
        for register, value in zip(data[0::2], data[1::2], strict=False):
            self.write_register(register, value)

    def read(self, count: int) -> bytes:
        start = self.pointer
        data = super().read(count)
        if start <= _STATUS < start + count:
            self.registers[_STATUS] &= ~_NEW_DATA
        return data

    def write_register(self, register: int, value: int) -> None:
        if register == _RESET and value == RESET_WORD:
            self.reset()
        elif 0x50 <= register <= _CONFIG:
            self.registers[register] = value
            if register == _CTRL_MEAS and value & 3 == _FORCED:
                self._start()

    def _samples(self) -> tuple[int, int, int]:
        """Return how often temperature, pressure and humidity are sampled; 0: not at all."""
        control = self.registers[_CTRL_MEAS]
        humidity = self.registers[_CTRL_HUM] & 7
        return OVERSAMPLING[control >> 5], OVERSAMPLING[control >> 2 & 7], OVERSAMPLING[humidity]

    def _start(self) -> None:
        milliseconds = _SAMPLE_MS * sum(self._samples()) + 4 * _SWITCH_MS + _WAKE_UP_MS
        self._air_ends_ns = self.now_ns() + round(milliseconds * 1e6)
        if self.registers[_CTRL_GAS_1] & _RUN_GAS:
            milliseconds += 5 * _SWITCH_MS + self._heating_ms()
        self._cycle.start(self.now_ns(), milliseconds / 1e3)
        self.update(self.now_ns())

    def _heating_ms(self) -> int:
        """Return for how many milliseconds the chosen profile heats."""
        wait = self.registers[_GAS_WAIT + min(self.registers[_CTRL_GAS_1] & 0x0F, 9)]
        return int((wait & 0x3F) << 2 * (wait >> 6))

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is not None:
            self.registers[_CTRL_MEAS] &= ~3
            self._measure()
            self.registers[_STATUS] = _NEW_DATA | self.registers[_CTRL_GAS_1] & 0x0F
        elif self._cycle.ends_ns is not None:
            measuring = _MEASURING | (_GAS_MEASURING if now_ns >= self._air_ends_ns else 0)
            self.registers[_STATUS] = self.registers[_STATUS] & _NEW_DATA | measuring  # new until it is read

    def _measure(self) -> None:
        self.measurements += 1
        t, p, h = self._samples()
        raw_t = self._rounded(_solve(fine_temperature, self.temperature * 5120, 20), t)
        t_fine = fine_temperature(raw_t)
        raw_p = self._rounded(_solve(lambda raw: -pascal(raw, t_fine), -self.pressure * 100, 20), p)
        raw_h = _solve(lambda raw: percent(raw, t_fine), self.humidity, 16)
        self._store(raw_p if p else SKIPPED, raw_t if t else SKIPPED, raw_h if h else SKIPPED >> 4)
        self.registers[_GAS_DATA + 1] &= ~(_GAS_VALID | _HEAT_STABLE)
        if self.registers[_CTRL_GAS_1] & _RUN_GAS:
            raw, gas_range = gas_raw(self.gas_resistance)
            profile = min(self.registers[_CTRL_GAS_1] & 0x0F, 9)
            heats = self.registers[_RES_HEAT + profile] and not self.registers[_CTRL_GAS_0] & _HEAT_OFF
            stable = _HEAT_STABLE if heats and self._heating_ms() >= 20 else 0
            self.registers[_GAS_DATA] = raw >> 2
            self.registers[_GAS_DATA + 1] = (raw & 3) << 6 | _GAS_VALID | stable | gas_range

    def _rounded(self, raw: int, samples: int) -> int:
        """Round to 20 bits with the filter on, else to 16 and one more per doubling of the samples."""
        step = 1 if self.registers[_CONFIG] >> 2 & 7 else 16 // max(samples, 1)
        return min(round(raw / step) * step, (1 << 20) - step)

    def _store(self, pressure: int, temperature: int, humidity: int) -> None:
        data = (pressure << 4).to_bytes(3) + (temperature << 4).to_bytes(3) + humidity.to_bytes(2)
        self.registers[_DATA : _DATA + len(data)] = data


def _solve(formula: Callable[[int], float], value: float, bits: int) -> int:
    """Return the least raw value for which a rising formula gives `value` or more."""
    return min(bisect.bisect_left(range(1 << bits), value, key=formula), (1 << bits) - 1)
