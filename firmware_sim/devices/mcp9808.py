"""An MCP9808: Microchip's temperature sensor with ±0.25 °C and an alert output.

Source: Microchip DS25095A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_part import Cycle, WordPart, measured, signed

_CONFIG, _UPPER, _LOWER, _CRITICAL, _AMBIENT, _MAKER, _DEVICE, _RESOLUTION = range(1, 9)
_SHUTDOWN, _LOCK_CRITICAL, _LOCK_WINDOW, _CLEAR, _STATUS = 0x100, 0x80, 0x40, 0x20, 0x10
_ENABLED, _CRITICAL_ONLY, _ACTIVE_HIGH, _INTERRUPT = 0x08, 0x04, 0x02, 0x01
_SECONDS = (0.030, 0.065, 0.130, 0.250)
_HYSTERESIS = (0.0, 1.5, 3.0, 6.0)


@dataclass(eq=False)
class Mcp9808(WordPart):
    """An MCP9808 temperature sensor with an alert output.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x18 to 0x1f (pins A0 to A2).
        temperature: around it, in °C.
        interrupt: the line of pin ALERT, which is open-drain: the program or a resistor pulls it up.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; A0 to A2 open is 0x18; ALERT needs a pull-up"
    example: ClassVar[str] = "raw = smbus.read_word_data(0x18, 5)  # low byte first: swap the bytes; 1/16 °C"
    addresses: ClassVar[Sequence[int]] = range(0x18, 0x20)
    byte_registers: ClassVar[Sequence[int]] = (_RESOLUTION,)
    pointer_mask: ClassVar[int] = 0x0F
    address: int = 0x18
    temperature: float = measured(-40, 125, "°C", default=21.5)
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._alert = self.signal(board, self.interrupt, "ALERT")

    def power_on(self) -> None:
        self._words = [0, 0, 0, 0, 0, 0, 0x0054, 0x0400, 3]
        self._cycle = Cycle()
        self._asserted = self._outside = False
        self._start()

    def read_word(self, register: int) -> int:
        if register == _CONFIG:
            return self._words[_CONFIG] | (_STATUS if self._asserted else 0)
        return self._words[register] if register < len(self._words) else 0xFFFF

    def write_word(self, register: int, value: int) -> None:
        config = self._words[_CONFIG]
        if register == _CONFIG:
            self._configure(config, value)
        elif register in (_UPPER, _LOWER, _CRITICAL):
            if not config & (_LOCK_CRITICAL if register == _CRITICAL else _LOCK_WINDOW):
                self._words[register] = value & 0x1FFC
        elif register == _RESOLUTION:
            self._words[register] = value & 3
            self._start()

    def _configure(self, before: int, value: int) -> None:
        """Take a configuration; locked bits keep their value until power-on (register 5-2)."""
        fixed = before & (_LOCK_CRITICAL | _LOCK_WINDOW)
        kept = 0x60F | _SHUTDOWN if fixed else 0
        after = (before & kept) | (value & ~kept & 0x7CF) | fixed
        if value & _CLEAR and after & _INTERRUPT:
            self._asserted = False
        self._words[_CONFIG] = after
        if (before ^ after) & _SHUTDOWN:
            self._start()
        self._show()

    def _start(self) -> None:
        if self._words[_CONFIG] & _SHUTDOWN:
            self._cycle.stop()
        else:
            self._cycle.start(self.now_ns(), _SECONDS[self._words[_RESOLUTION]], repeats=True)
        self._show()

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is not None:
            self._convert()
            self._show()

    def _convert(self) -> None:
        steps = 1 << self._words[_RESOLUTION] + 1  # of a degree
        code = round(self.temperature * steps) * (16 // steps)
        upper, lower, critical = (signed(self._words[register], 13) for register in (_UPPER, _LOWER, _CRITICAL))
        flags = (code >= critical) << 15 | (code > upper) << 14 | (code < lower) << 13
        self._words[_AMBIENT] = flags | code & 0x1FFF
        config = self._words[_CONFIG]
        hysteresis = _HYSTERESIS[config >> 9 & 3] * 16 if self._outside else 0
        beyond = code > upper - hysteresis or code < lower + hysteresis
        beyond_critical = code >= critical - hysteresis
        outside = beyond_critical or (beyond and not config & _CRITICAL_ONLY)
        if not config & _INTERRUPT or beyond_critical:
            self._asserted = outside and bool(config & _ENABLED)
        elif outside != self._outside:  # each crossing, until the program clears it
            self._asserted = bool(config & _ENABLED)
        self._outside = outside

    def _show(self) -> None:
        config = self._words[_CONFIG]
        self._alert.drive(None if not config & _ENABLED or self._asserted == bool(config & _ACTIVE_HIGH) else 0)
        self.wake(self._cycle.ends_ns if self._alert.connected and config & _ENABLED else None)
