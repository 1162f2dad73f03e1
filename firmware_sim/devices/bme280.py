"""A BME280: Bosch's temperature, humidity and pressure sensor, as a driver sees it through its registers.

A driver computes physical values from raw ones with the calibration that is burnt into the chip. This model does the
reverse: it finds the raw values for which the datasheet's formulas give the physical ones, rounded to the resolution
that the driver has set. So a test can compare an unmodified driver's readings with the values that it set here.

Measuring takes time (section 9.1), forced mode measures once and normal mode again and again. Nothing runs for that:
the registers are computed from the timeline's clock when they are read.

Source: Bosch BST-BME280-DS002; sections are named where they are kept. Not simulated: the smoothing of the IIR filter
(values do not jump here; its finer resolution is), the SPI interface, and commands sent while a measurement runs.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from firmware_sim.device import Connections, Device
from firmware_sim.i2c_device import RegisterDevice
from firmware_sim.limits import LEAST_PERIOD, LONGEST, Limited, Limits, within
from firmware_sim.timeline import Timeline

CHIP_ID = 0x60
RESET_WORD = 0xB6
_CALIBRATION_1, _ID, _RESET, _CALIBRATION_2 = 0x88, 0xD0, 0xE0, 0xE1
_CTRL_HUM, _STATUS, _CTRL_MEAS, _CONFIG, _DATA = 0xF2, 0xF3, 0xF4, 0xF5, 0xF7
_MEASURING, _COPYING = 0x08, 0x01
_SLEEP, _NORMAL = 0, 3
_OVERSAMPLING = (0, 1, 2, 4, 8, 16, 16, 16)
_STANDBY_MS = (0.5, 62.5, 125, 250, 500, 1000, 10, 20)
_START_UP_NS = 2_000_000
_SKIPPED = 0x80000

_TEMPERATURE, _HUMIDITY = Limits(-40.0, 85.0, "°C"), Limits(0.0, 100.0, "%RH")
_PRESSURE = Limits(300.0, 1100.0, "hPa")


class Calibration(NamedTuple):
    """The trimming values, with the datasheet's names and types (section 4.2.2)."""

    # The worked example of the BMP280's datasheet (BST-BMP280-DS001, 3.12), whose formulas are the same, ...
    t1: int = 27504
    t2: int = 26435
    t3: int = -1000
    p1: int = 36477
    p2: int = -10685
    p3: int = 3024
    p4: int = 2855
    p5: int = 140
    p6: int = -7
    p7: int = 15500
    p8: int = -14600
    p9: int = 6000
    # ... and values as chips have them.
    h1: int = 75
    h2: int = 362
    h3: int = 0
    h4: int = 315
    h5: int = 50
    h6: int = 30

    def registers(self) -> tuple[bytes, bytes]:
        """Return the registers 0x88 to 0xA1, and 0xE1 to 0xE7."""
        first = struct.pack("<Hhh Hhhhhhhhh xB", *self[:12], self.h1)
        nibbles = bytes([self.h4 >> 4 & 0xFF, (self.h5 & 0xF) << 4 | self.h4 & 0xF, self.h5 >> 4 & 0xFF])
        return first, struct.pack("<hB3sb", self.h2, self.h3, nibbles, self.h6)


CALIBRATION = Calibration()


def fine_temperature(raw: int, c: Calibration = CALIBRATION) -> float:
    """Return `t_fine`: the temperature in units of 1/5120 °C, which the other two formulas need (section 8.1)."""
    offset = raw / 16384 - c.t1 / 1024
    return offset * c.t2 + (offset / 8) ** 2 * c.t3


def celsius(raw: int, c: Calibration = CALIBRATION) -> float:
    """Return the temperature (°C) for a 20-bit raw value (section 8.1)."""
    return fine_temperature(raw, c) / 5120


def pascal(raw: int, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the pressure (Pa) for a 20-bit raw value (section 8.1)."""
    v1 = t_fine / 2 - 64000
    v2 = (v1 * v1 * c.p6 / 32768 + v1 * c.p5 * 2) / 4 + c.p4 * 65536
    v1 = (1 + (c.p3 * v1 * v1 / 524288 + c.p2 * v1) / 524288 / 32768) * c.p1
    pressure = (1048576 - raw - v2 / 4096) * 6250 / v1
    return pressure + (c.p9 * pressure * pressure / 2147483648 + pressure * c.p8 / 32768 + c.p7) / 16


def percent(raw: int, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the relative humidity (0 to 100 %) for a 16-bit raw value (section 8.1)."""
    t = t_fine - 76800
    value = (raw - (c.h4 * 64 + c.h5 / 16384 * t)) * (
        c.h2 / 65536 * (1 + c.h6 / 67108864 * t * (1 + c.h3 / 67108864 * t))
    )
    return min(max(value * (1 - c.h1 * value / 524288), 0.0), 100.0)


# The same three formulas solved for the raw value. Each is a quadratic equation, in the form that does not cancel out.


def near_celsius(temperature: float, c: Calibration = CALIBRATION) -> float:
    """Return the raw value, not rounded, for a temperature in °C."""
    fine = temperature * 5120
    offset = 2 * fine / (c.t2 + math.sqrt(c.t2 * c.t2 + c.t3 * fine / 16))
    return (offset + c.t1 / 1024) * 16384


def near_pascal(pressure: float, t_fine: float, c: Calibration = CALIBRATION) -> float:
    """Return the raw value, not rounded, for a pressure in Pa."""
    a, b = c.p9 / 34359738368, 1 + c.p8 / 524288
    linear = 2 * (pressure - c.p7 / 16) / (b + math.sqrt(b * b + 4 * a * (pressure - c.p7 / 16)))
    v1 = t_fine / 2 - 64000
    v2 = (v1 * v1 * c.p6 / 32768 + v1 * c.p5 * 2) / 4 + c.p4 * 65536
    v1 = (1 + (c.p3 * v1 * v1 / 524288 + c.p2 * v1) / 524288 / 32768) * c.p1
    return 1048576 - v2 / 4096 - linear * v1 / 6250


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


class _Air(Limited):
    """A property of the air. Assigning a new value leaves the measurements as they are that were due before."""

    def __set__(self, instance: Any, value: float | Limited | None) -> None:
        instance.measure_due()
        super().__set__(instance, value)


def _air(limits: Limits, default: float) -> Any:
    return _Air(limits, default)


@dataclasses.dataclass(eq=False)
class Bme280(RegisterDevice, Device):
    """A BME280 on an I2C bus.

    Parameters:
        bus, address: its place; the address is 0x76 or 0x77 (pin SDO).
        temperature, humidity, pressure: the air around it, in °C, %RH and hPa. Assign new values at any time; earlier
            measurements stay as they are.
        temperature_swing, humidity_swing, pressure_swing: the amplitude of a sine that is added to each of them.
        period: the period of these sines, in seconds.
        stretch: seconds for which it holds the clock in each transfer.

    Attributes:
        measurements: how many its registers have shown so far.
    """

    bus: int = 1
    address: int = 0x76
    temperature: float = _air(_TEMPERATURE, 21.5)
    humidity: float = _air(_HUMIDITY, 45.0)
    pressure: float = _air(_PRESSURE, 1013.25)
    temperature_swing: float = within(-125, 125, "°C", default=0.0)
    humidity_swing: float = within(-100, 100, "%RH", default=0.0)
    pressure_swing: float = within(-800, 800, "hPa", default=0.0)
    period: float = within(LEAST_PERIOD, LONGEST, "seconds", default=60.0)
    stretch: float = within(0, 3600, "seconds", default=0.0)
    passive = True

    wiring = "SDA and SCL to lines 2 and 3, VCC to 3.3 V, GND to GND; SDO to GND for address 0x76, to 3.3 V for 0x77"
    example = "bme280.sample(bus := smbus2.SMBus(1), 0x76, bme280.load_calibration_params(bus, 0x76)).temperature"

    measurements: int = dataclasses.field(default=0, init=False)
    _timeline: Timeline | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.address not in (0x76, 0x77):
            raise ValueError(f"a BME280 has address 0x76 or 0x77, not {self.address:#04x}")
        self._epoch_ns = 0
        self._restart(0)

    def attach(self, board: Connections) -> None:
        """Connect to the board's bus. Raises `WiringError`."""
        board.bus(self.bus).attach(self.address, self)
        self._timeline = board.timeline
        self._epoch_ns = board.timeline.now_ns()
        self._restart(self._epoch_ns)

    def conditions(self, time_ns: int) -> Conditions:
        """Return the air at a time (nanoseconds, the timeline's clock), unless a value was assigned since."""
        swing = math.sin(2 * math.pi * (time_ns - self._epoch_ns) / 1e9 / self.period)
        return Conditions(
            min(max(self.temperature + self.temperature_swing * swing, _TEMPERATURE.low), _TEMPERATURE.high),
            min(max(self.humidity + self.humidity_swing * swing, _HUMIDITY.low), _HUMIDITY.high),
            min(max(self.pressure + self.pressure_swing * swing, _PRESSURE.low), _PRESSURE.high),
        )

    def measure_due(self) -> None:
        """Make the measurements that are due by now, in the air as it is."""
        if self._timeline is not None:
            with self._timeline.lock:
                self._catch_up(self._now_ns())

    # The wire.

    def reset(self) -> None:
        """Restart, as after power-on or the reset command: asleep, with no setting kept (section 5.4.2)."""
        self._restart(self._now_ns())

    def write(self, data: bytes) -> None:
        """Set the pointer from a single byte; else store pairs of register and value (section 6.2.1)."""
        self._catch_up(self._now_ns())
        if data:
            self.pointer: int = data[0]
        for register, value in zip(data[0::2], data[1::2], strict=False):
            self.write_register(register, value)

    def read(self, count: int) -> bytes:
        """Return the registers from the pointer on, all of one measurement (section 4.1)."""
        self._catch_up(self._now_ns())
        return super().read(count)

    def write_register(self, register: int, value: int) -> None:
        if register == _RESET and value == RESET_WORD:
            self._restart(self._now_ns())
        elif register in (_CTRL_HUM, _CONFIG):
            self.registers[register] = value
        elif register == _CTRL_MEAS:
            self.registers[register] = value
            self._start(self._now_ns())

    # The sensor.

    def _now_ns(self) -> int:
        assert self._timeline is not None
        return self._timeline.now_ns()

    def _restart(self, now_ns: int) -> None:
        """Power on or reset: set the registers of section 5.3, and copy the calibration from its memory."""
        self.registers[:] = bytes(256)
        first, second = CALIBRATION.registers()
        self.registers[_CALIBRATION_1 : _CALIBRATION_1 + len(first)] = first
        self.registers[_CALIBRATION_2 : _CALIBRATION_2 + len(second)] = second
        self.registers[_ID] = CHIP_ID
        self._store(_SKIPPED, _SKIPPED, _SKIPPED >> 4)
        self._copied_ns = now_ns + _START_UP_NS
        self._begun_ns = now_ns
        self._measuring_ns = self._cycle_ns = 0
        self._measured = -1
        self._oversampling_h = 0

    def _start(self, now_ns: int) -> None:
        """Start the mode that ctrl_meas names, and make ctrl_hum's setting effective (section 5.4.3)."""
        self._oversampling_h = _OVERSAMPLING[self.registers[_CTRL_HUM] & 7]
        standby_ms = _STANDBY_MS[self.registers[_CONFIG] >> 5]
        t, p, h = self._oversampling()
        # Typical times of section 9.1.
        milliseconds = 1.0 + 2 * t + (2 * p + 0.5 if p else 0) + (2 * h + 0.5 if h else 0)
        self._begun_ns = now_ns
        self._measuring_ns = round(milliseconds * 1e6)
        self._cycle_ns = self._measuring_ns + round(standby_ms * 1e6)
        self._measured = -1

    def _oversampling(self) -> tuple[int, int, int]:
        """Return how often temperature, pressure and humidity are sampled for one measurement; 0: not at all."""
        control = self.registers[_CTRL_MEAS]
        return _OVERSAMPLING[control >> 5], _OVERSAMPLING[control >> 2 & 7], self._oversampling_h

    def _catch_up(self, now_ns: int) -> None:
        """Bring the registers up to date for `now_ns`."""
        mode = self.registers[_CTRL_MEAS] & 3
        status = _COPYING if now_ns < self._copied_ns else 0
        if mode != _SLEEP:
            elapsed = now_ns - self._begun_ns
            ended = (elapsed - self._measuring_ns) // self._cycle_ns if elapsed >= self._measuring_ns else -1
            if mode != _NORMAL:
                ended = min(ended, 0)
            if ended > self._measured:
                self._measured = ended
                self._measure(self._begun_ns + ended * self._cycle_ns + self._measuring_ns)
            if mode != _NORMAL and ended == 0:
                self.registers[_CTRL_MEAS] &= ~3
            elif elapsed % self._cycle_ns < self._measuring_ns:
                status |= _MEASURING
        self.registers[_STATUS] = status

    def _measure(self, time_ns: int) -> None:
        """Put the raw values for the air at `time_ns` into the data registers."""
        self.measurements += 1
        temperature, humidity, pressure = self.conditions(time_ns)
        t, p, h = self._oversampling()
        raw_t = self._rounded(_solve(celsius, temperature, near_celsius(temperature), 1 << 20), t)
        t_fine = fine_temperature(raw_t)
        near = near_pascal(pressure * 100, t_fine)
        raw_p = self._rounded(_solve(lambda raw: -pascal(raw, t_fine), -pressure * 100, near, 1 << 20), p)
        near = near_percent(humidity, t_fine)
        raw_h = _solve(lambda raw: percent(raw, t_fine), humidity, near, 1 << 16)
        self._store(raw_p if p else _SKIPPED, raw_t if t else _SKIPPED, raw_h if h else _SKIPPED >> 4)

    def _rounded(self, raw: int, oversampling: int) -> int:
        """Round to 20 bits with the filter on, else to 16 and one more per doubling of the samples (section 3.4)."""
        if self.registers[_CONFIG] >> 2 & 7:
            return raw
        step = 16 // max(oversampling, 1)
        return min(round(raw / step) * step, (1 << 20) - step)

    def _store(self, pressure: int, temperature: int, humidity: int) -> None:
        data = (pressure << 4).to_bytes(3) + (temperature << 4).to_bytes(3) + humidity.to_bytes(2)
        self.registers[_DATA : _DATA + len(data)] = data


def _solve(formula: Callable[[int], float], value: float, near: float, size: int) -> int:
    """Return the raw value below `size` for which a rising formula comes closest to `value` from above.

    `near` is a raw value close to it, by the formula solved for the raw value; rounding errors are corrected here.
    """
    raw = min(max(math.ceil(near), 0), size - 1)
    while raw < size - 1 and formula(raw) < value:
        raw += 1
    while raw > 0 and formula(raw - 1) >= value:
        raw -= 1
    return raw
