"""An INA219: Texas Instruments' monitor of the voltage and the current of a supply.

It measures the voltage across a shunt and of the supply behind it. Current and power are computed from these with the
calibration that the program writes, and are 0 without one.

Source: TI SBOS448G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.i2c_part import Cycle, WordPart, measured, signed

_CONFIG, _SHUNT, _BUS, _POWER, _CURRENT, _CALIBRATION = range(6)
_RESET, _AT_RESET = 0x8000, 0x399F
_READY, _OVERFLOW = 2, 1
_SECONDS = (
    *(84e-6, 148e-6, 276e-6, 532e-6, 84e-6, 148e-6, 276e-6, 532e-6),
    *(532e-6, 1.06e-3, 2.13e-3, 4.26e-3, 8.51e-3, 17.02e-3, 34.05e-3, 68.10e-3),
)
"""Of a conversion, by the four bits of SADC and BADC."""


@dataclass(eq=False)
class Ina219(WordPart):
    """An INA219 monitor of a supply's voltage, current and power.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x40 to 0x4f (pins A0 and A1).
        voltage: of the supply at pin IN-, in volts.
        current: through the shunt, in amperes; negative in the other direction.
        shunt: the resistor between IN+ and IN-, in ohms.
    """

    wiring: ClassVar[str] = "VS 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; VIN+ to the supply, VIN- to the load"
    example: ClassVar[str] = "raw = smbus.read_word_data(0x40, 2)  # low byte first: swap the bytes; (raw >> 3) * 4 mV"
    addresses: ClassVar[Sequence[int]] = range(0x40, 0x50)
    address: int = 0x40
    voltage: float = measured(0, 26, "volts", default=5.0)
    current: float = measured(-1000, 1000, "amperes", default=0.5)
    shunt: float = measured(1e-6, 100, "ohms", default=0.1)

    def power_on(self) -> None:
        self._words = [_AT_RESET, 0, 0, 0, 0, 0]
        self._cycle = Cycle()
        self._start()

    def read_word(self, register: int) -> int:
        if register >= len(self._words):
            return 0xFFFF
        word = self._words[register]
        if register == _POWER:
            self._words[_BUS] &= ~_READY
        return word

    def write_word(self, register: int, value: int) -> None:
        if register == _CALIBRATION:
            self._words[register] = value & 0xFFFE
        elif register == _CONFIG:
            if value & _RESET:
                self.power_on()
            else:
                self._words[_CONFIG] = value & 0x3FFF
                self._start()

    def _start(self) -> None:
        """Start the conversions that the mode names, which takes the sum of their times."""
        config = self._words[_CONFIG]
        mode = config & 7
        if mode & 3 == 0:  # powered down, or the ADC is off
            self._cycle.stop()
            return
        self._words[_BUS] &= ~_READY
        seconds = (_SECONDS[config >> 3 & 15] if mode & 1 else 0) + (_SECONDS[config >> 7 & 15] if mode & 2 else 0)
        self._cycle.start(self.now_ns(), seconds, repeats=bool(mode & 4))

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is None:
            return
        config = self._words[_CONFIG]
        flags = self._words[_BUS] & _OVERFLOW | _READY
        shunt, bus = signed(self._words[_SHUNT]), self._words[_BUS] >> 3
        if config & 1:
            most = 4000 << (config >> 11 & 3)  # 10 µV each, ±40 to ±320 mV
            shunt = min(max(round(self.current * self.shunt / 10e-6), -most), most)
        if config & 2:
            bus = min(round(self.voltage / 4e-3), 8000 if config & 0x2000 else 4000)
        current = int(shunt * self._words[_CALIBRATION] / 4096)
        power = abs(current) * bus // 5000  # equations 4 and 5
        overflow = not -32768 <= current <= 32767 or power > 0xFFFF
        flags = flags & ~_OVERFLOW | (_OVERFLOW if overflow else 0)
        self._words[_SHUNT], self._words[_BUS] = shunt & 0xFFFF, bus << 3 | flags
        self._words[_CURRENT], self._words[_POWER] = current & 0xFFFF, power & 0xFFFF
