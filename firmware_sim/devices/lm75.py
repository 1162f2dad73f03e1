"""An LM75: a temperature sensor and thermostat, whose output follows two limits.

Source: National Semiconductor (TI) SNIS153D; NXP's LM75A and LM75B (LM75B data sheet, rev. 6.1) have eleven bits
instead of nine. Not simulated: the reset of its interface after the data line was low for 75 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from firmware_sim.device import Connections
from firmware_sim.i2c_part import Cycle, WordPart, measured, signed

_TEMPERATURE, _CONFIG, _HYSTERESIS, _LIMIT = range(4)
_SHUTDOWN, _INTERRUPT, _ACTIVE_HIGH = 1, 2, 4
_FAULTS = (1, 2, 4, 6)
_SECONDS = 0.1


@dataclass(eq=False)
class Lm75(WordPart):
    """An LM75 temperature sensor and thermostat.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x48 to 0x4f (pins A0 to A2).
        temperature: around it, in °C.
        bits: of a reading: 9 (steps of 0.5 °C), or 11 as NXP's LM75A and LM75B have (0.125 °C).
        interrupt: the line of pin O.S., which is open-drain: the program or a resistor pulls it up.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; A0 to A2 to GND is 0x48; OS needs a pull-up"
    example: ClassVar[str] = "raw = smbus.read_word_data(0x48, 0)  # low byte first: swap the bytes; 1/256 °C"
    addresses: ClassVar[Sequence[int]] = range(0x48, 0x50)
    byte_registers: ClassVar[Sequence[int]] = (_CONFIG,)
    pointer_mask: ClassVar[int] = 3
    address: int = 0x48
    temperature: float = measured(-55, 125, "°C", default=21.5)
    bits: Literal[9, 11] = 9
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._output = self.signal(board, self.interrupt, "O.S.")

    def power_on(self) -> None:
        self._words = [0, 0, 0x4B00, 0x5000]  # 75 °C and 80 °C
        self._hot = self._asserted = False
        self._outside = 0
        self._cycle = Cycle()
        self._start()

    def read_word(self, register: int) -> int:
        if self._words[_CONFIG] & _INTERRUPT:  # any reading ends the interrupt
            self._asserted = False
            self._show()
        return self._words[register]

    def write_word(self, register: int, value: int) -> None:
        if register == _TEMPERATURE:
            return
        before = self._words[_CONFIG]
        self._words[register] = value & (0x1F if register == _CONFIG else 0xFF80)
        if (before ^ self._words[_CONFIG]) & _SHUTDOWN:
            self._start()
        self._show()

    def _start(self) -> None:
        if self._words[_CONFIG] & _SHUTDOWN:
            self._cycle.stop()  # the last temperature stays
        else:
            self._cycle.start(self.now_ns(), _SECONDS, repeats=True)
        self._show()

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is not None:
            steps = 1 << self.bits - 8  # of a degree
            code = round(self.temperature * steps) * (256 // steps)
            self._words[_TEMPERATURE] = code & 0xFFFF
            self._compare(code)
            self._show()

    def _compare(self, code: int) -> None:
        """Follow the limits once as many conversions in a row agree as the fault queue asks for."""
        config = self._words[_CONFIG]
        beyond = code < signed(self._words[_HYSTERESIS]) if self._hot else code > signed(self._words[_LIMIT])
        self._outside = self._outside + 1 if beyond else 0
        if self._outside >= _FAULTS[config >> 3 & 3]:
            self._hot, self._outside = not self._hot, 0
            self._asserted = self._hot or bool(config & _INTERRUPT)

    def _show(self) -> None:
        self._output.drive(None if self._asserted == bool(self._words[_CONFIG] & _ACTIVE_HIGH) else 0)
        self.wake(self._cycle.ends_ns if self._output.connected else None)
