"""Bosch's temperature and pressure sensor as the BMP280 and the BME280 have it: formulas, calibration, modes, times.

A driver computes physical values from raw ones with the calibration that is burnt into the chip. This model does the
reverse: it finds the raw values for which the datasheet's formulas give the physical ones, rounded to the resolution
that the driver has set. So a test can compare an unmodified driver's readings with the values that it set here.

Measuring takes time, forced mode measures once and normal mode again and again. Nothing runs for that: the registers
are computed from the timeline's clock when they are read.

Source: Bosch BST-BME280-DS002; sections are named where they are kept. Not simulated: the smoothing of the IIR filter
(values do not jump here; its finer resolution is), the SPI interface, and commands sent while a measurement runs.
"""

from __future__ import annotations

import functools
import math
import struct
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import ClassVar

from firmware_sim.i2c_part import RegisterPart, measured
from firmware_sim.limits import LEAST_PERIOD, LONGEST, Limits, within

RESET_WORD = 0xB6
SKIPPED = 0x80000
"""The raw value of a quantity that was not measured."""
OVERSAMPLING = (0, 1, 2, 4, 8, 16, 16, 16)
_CALIBRATION_1, _ID, _RESET = 0x88, 0xD0, 0xE0
_STATUS, _CTRL_MEAS, CONFIG, _DATA = 0xF3, 0xF4, 0xF5, 0xF7
_MEASURING, _COPYING = 0x08, 0x01
_SLEEP, _NORMAL = 0, 3
_START_UP_NS = 2_000_000

TEMPERATURE = Limits(-40.0, 85.0, "°C")
PRESSURE = Limits(300.0, 1100.0, "hPa")


@dataclass(frozen=True, slots=True)
class Calibration:
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
        first = struct.pack("<Hhh Hhhhhhhhh xB", *astuple(self)[:12], self.h1)
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
    return _pascal(raw, *_pressure_terms(t_fine, c), c)


def _pascal(raw: int, v1: float, v2: float, c: Calibration = CALIBRATION) -> float:
    pressure = (1048576 - raw - v2 / 4096) * 6250 / v1
    return pressure + (c.p9 * pressure * pressure / 2147483648 + pressure * c.p8 / 32768 + c.p7) / 16


def _pressure_terms(t_fine: float, c: Calibration = CALIBRATION) -> tuple[float, float]:
    """Return the part of the formula that depends on the temperature only: its `var1` and `var2`."""
    v1 = t_fine / 2 - 64000
    v2 = (v1 * v1 * c.p6 / 32768 + v1 * c.p5 * 2) / 4 + c.p4 * 65536
    v1 = (1 + (c.p3 * v1 * v1 / 524288 + c.p2 * v1) / 524288 / 32768) * c.p1
    return v1, v2


# The same formulas solved for the raw value. Each is a quadratic equation, in the form that does not cancel out.


def near_celsius(temperature: float, c: Calibration = CALIBRATION) -> float:
    """Return the raw value, not rounded, for a temperature in °C."""
    fine = temperature * 5120
    offset = 2 * fine / (c.t2 + math.sqrt(c.t2 * c.t2 + c.t3 * fine / 16))
    return (offset + c.t1 / 1024) * 16384


def _near_pascal(pressure: float, v1: float, v2: float, c: Calibration = CALIBRATION) -> float:
    """Return the raw value, not rounded, for a pressure in Pa and the terms of a temperature."""
    a, b = c.p9 / 34359738368, 1 + c.p8 / 524288
    linear = 2 * (pressure - c.p7 / 16) / (b + math.sqrt(b * b + 4 * a * (pressure - c.p7 / 16)))
    return 1048576 - v2 / 4096 - linear * v1 / 6250


def solve(formula: Callable[[int], float], value: float, near: float, size: int) -> int:
    """Return the raw value below `size` for which a rising formula comes closest to `value` from above.

    `near` is that value before it is rounded up, by the formula solved for the raw value. Where that is so close to a
    whole number that its rounding error may matter, the formula decides.
    """
    raw = math.ceil(near)
    if raw >= size:
        raw = size - 1
    elif raw < 0:
        raw = 0
    if 0.001 < near % 1 < 0.999:
        return raw
    while raw < size - 1 and formula(raw) < value:
        raw += 1
    while raw > 0 and formula(raw - 1) >= value:
        raw -= 1
    return raw


def _rounded(raw: int, samples: int, filtered: int) -> int:
    """Round to 20 bits with the filter on, else to 16 and one more per doubling of the samples (section 3.4)."""
    if filtered:
        return raw
    step = 16 // (samples or 1)
    rounded = round(raw / step) * step
    return rounded if rounded < 1 << 20 else rounded - step


class _Mode:
    """The mode that ctrl_meas has started.

    Attributes:
        begun_ns: when it was started.
        samples: how often each quantity is sampled for one measurement; 0: not at all.
        measuring_ns, cycle_ns: how long a measurement takes, and how long it is from one to the next.
        measured: the number of the last one that has ended; -1 if none has.
    """

    def __init__(self) -> None:
        self.begun_ns = 0
        self.samples: Sequence[int] = (0, 0)
        self.measuring_ns = self.cycle_ns = 0
        self.measured = -1

    def start(self, now_ns: int, samples: Sequence[int], standby_ms: float) -> None:
        """Begin, with a pause of `standby_ms` milliseconds from one measurement to the next."""
        self.begun_ns = now_ns
        self.samples = samples
        self.measuring_ns, self.cycle_ns = _times_ns(samples, standby_ms)
        self.measured = -1


@functools.lru_cache(64)
def _times_ns(samples: Sequence[int], standby_ms: float) -> tuple[int, int]:
    """Return how long a measurement takes, and how long it is from one to the next: typical times of section 9.1."""
    temperature, *others = samples
    measuring_ns = round((1.0 + 2 * temperature + sum(2 * count + 0.5 for count in others if count)) * 1e6)
    return measuring_ns, measuring_ns + round(standby_ms * 1e6)


@dataclass(eq=False)
class PressureSensor(RegisterPart):
    """The part that both sensors have in common."""

    chip_id: ClassVar[int]
    standby_ms: ClassVar[Sequence[float]]
    """Milliseconds between two measurements in normal mode, by three bits of the register config."""
    settings: ClassVar[Sequence[int]] = (CONFIG,)
    """The registers that the program may set, besides the one that starts a mode."""
    addresses: ClassVar[Sequence[int]] = (0x76, 0x77)
    address: int = 0x76
    temperature: float = measured(*TEMPERATURE[:3], default=21.5)
    pressure: float = measured(*PRESSURE[:3], default=1013.25)
    temperature_swing: float = within(-125, 125, "°C", default=0.0)
    pressure_swing: float = within(-800, 800, "hPa", default=0.0)
    period: float = within(LEAST_PERIOD, LONGEST, "seconds", default=60.0)
    stretch: float = within(0, 3600, "seconds", default=0.0)
    measurements: int = field(default=0, init=False)

    def swing(self, time_ns: int) -> float:
        """Return the sine of the swings at a time (nanoseconds, the timeline's clock)."""
        return math.sin(2 * math.pi * self.seconds(time_ns) / self.period)

    @abstractmethod
    def air(self, time_ns: int) -> tuple[float, ...]:
        """Return the temperature and the pressure (°C, hPa) at a time, and then what else the part measures."""

    def write(self, data: bytes) -> None:
        """Set the pointer from a single byte; else store pairs of register and value (section 6.2.1)."""
        self.update(self.now_ns())
        if data:
            self.move_pointer(data[0])
        for place in range(1, len(data), 2):
            self.write_register(data[place - 1], data[place])

    def write_register(self, register: int, value: int) -> None:
        registers = self.registers
        if register in self.settings:
            registers[register] = value
        elif register == _CTRL_MEAS:
            registers[register] = value
            self._mode.start(self.now_ns(), self.samples(), self.standby_ms[registers[CONFIG] >> 5])
        elif register == _RESET and value == RESET_WORD:
            self.reset()

    def power_on(self) -> None:
        """Set the registers of section 5.3, and copy the calibration from its memory."""
        calibration, _ = CALIBRATION.registers()
        self.registers[_CALIBRATION_1 : _CALIBRATION_1 + len(calibration)] = calibration
        self.registers[_ID] = self.chip_id
        self._store(SKIPPED, SKIPPED)
        self._copied_ns = self.now_ns() + _START_UP_NS
        self._mode = _Mode()

    def samples(self) -> tuple[int, ...]:
        """Return how often each quantity is sampled in the mode that is started now, in the order of `air`."""
        control = self.registers[_CTRL_MEAS]
        return OVERSAMPLING[control >> 5], OVERSAMPLING[control >> 2 & 7]

    def measure_further(self, air: Sequence[float], samples: Sequence[int], t_fine: float) -> None:
        """Measure the quantities besides temperature and pressure."""

    def update(self, now_ns: int) -> None:
        registers, mode = self.registers, self._mode
        control = registers[_CTRL_MEAS] & 3
        status = _COPYING if now_ns < self._copied_ns else 0
        if control != _SLEEP:
            elapsed = now_ns - mode.begun_ns
            ended = (elapsed - mode.measuring_ns) // mode.cycle_ns if elapsed >= mode.measuring_ns else -1
            if control != _NORMAL and ended > 0:
                ended = 0
            if ended > mode.measured:
                mode.measured = ended
                self._measure(mode.begun_ns + ended * mode.cycle_ns + mode.measuring_ns)
            if control != _NORMAL and ended == 0:
                registers[_CTRL_MEAS] &= ~3
            elif elapsed % mode.cycle_ns < mode.measuring_ns:
                status |= _MEASURING
        registers[_STATUS] = status

    def _measure(self, time_ns: int) -> None:
        """Put the raw values for the air at `time_ns` into the data registers."""
        self.measurements += 1
        air, samples = self.air(time_ns), self._mode.samples
        temperature, pressure, t, p = air[0], air[1], samples[0], samples[1]
        filtered = self.registers[CONFIG] >> 2 & 7
        raw_t = _rounded(solve(celsius, temperature, near_celsius(temperature), 1 << 20), t, filtered)
        t_fine = fine_temperature(raw_t)
        v1, v2 = _pressure_terms(t_fine)
        near = _near_pascal(pressure * 100, v1, v2)
        raw_p = _rounded(solve(lambda raw: -_pascal(raw, v1, v2), -pressure * 100, near, 1 << 20), p, filtered)
        self._store(raw_p if p else SKIPPED, raw_t if t else SKIPPED)
        self.measure_further(air, samples, t_fine)

    def _store(self, pressure: int, temperature: int) -> None:
        self.registers[_DATA : _DATA + 6] = (pressure << 28 | temperature << 4).to_bytes(6)
