"""An ADS1115: Texas Instruments' 16-bit ADC with four inputs, a programmable gain and a comparator.

Source: TI SBAS444E. The oscillator has its nominal frequency (real ones are up
to 10 % off). Not simulated: noise, and the SMBus alert response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.analog import Voltage, inputs, volts_at
from firmware_sim.device import Connections
from firmware_sim.i2c_part import WordPart, signed

_CONVERSION, _CONFIG, _LOW, _HIGH = range(4)
_START, _SINGLE, _WINDOW, _ACTIVE_HIGH, _LATCHING = 0x8000, 0x0100, 0x10, 0x08, 0x04
_FULL_SCALE = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
_PAIRS = ((0, 1), (0, 3), (1, 3), (2, 3))
_QUEUE = (1, 2, 4)
_WAKE_UP_NS = 25_000
_READY_PULSE = 8e-6


@dataclass(eq=False)
class Ads1115(WordPart):
    """An ADS1115 ADC with four inputs, 16 bits and a comparator.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x48 to 0x4b (pin ADDR at GND, VDD, SDA or SCL).
        inputs: the voltages of AIN0 to AIN3, in volts, or functions of time (`firmware_sim.analog`).
        interrupt: the line of pin ALERT/RDY, which is open-drain: the program or a resistor pulls it up.

    Attributes:
        conversions: how many its conversion register has shown so far.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; ADDR to GND is 0x48; ALERT/RDY needs a pull-up"
    example: ClassVar[str] = (
        "smbus.write_i2c_block_data(0x48, 1, [0xC3, 0x83])  # convert AIN0, ±4.096 V; ready after 8 ms\n"
        "volts = int.from_bytes(smbus.read_i2c_block_data(0x48, 0, 2), signed=True) * 4.096 / 32768"
    )
    rates: ClassVar[Sequence[int]] = (8, 16, 32, 64, 128, 250, 475, 860)
    """Conversions a second, by three bits of the configuration."""
    step: ClassVar[int] = 1
    """From one code to the next, in units of 1/32768 of the full scale."""
    reset_by_general_call: ClassVar[bool] = True
    addresses: ClassVar[Sequence[int]] = range(0x48, 0x4C)
    pointer_mask: ClassVar[int] = 3
    address: int = 0x48
    inputs: list[Voltage] = inputs(4, -0.3, 5.3)
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._alert = self.signal(board, self.interrupt, "ALERT/RDY")

    def power_on(self) -> None:
        self.conversions: int = 0
        self._words = [0, 0x8583, 0x8000, 0x7FFF]
        self._settings = 0x8583
        self._ends_ns: int | None = None
        self._exceeded, self._asserted = 0, False
        self._show()

    def read_word(self, register: int) -> int:
        if register == _CONVERSION and self._words[_CONFIG] & _LATCHING and not self._signals_ready():
            self._asserted = False
            self._show()
        if register == _CONFIG:
            converting = self._ends_ns is not None and self._words[_CONFIG] & _SINGLE
            return self._words[_CONFIG] & ~_START if converting else self._words[_CONFIG] | _START
        return self._words[register]

    def write_word(self, register: int, value: int) -> None:
        if register == _CONVERSION:
            return
        self._words[register] = value
        if register == _CONFIG:
            self._configure(value)
        self._show()
        self._plan()

    def _configure(self, config: int) -> None:
        """Start a conversion; one under way ends with its own settings."""
        if self._ends_ns is None and (config & _START or not config & _SINGLE):
            self._settings = config
            self._exceeded, self._asserted = 0, False
            self._ends_ns = self.now_ns() + _WAKE_UP_NS + self._period_ns()

    def _period_ns(self) -> int:
        return round(1e9 / self.rates[self._settings >> 5 & 7])

    def update(self, now_ns: int) -> None:
        while self._ends_ns is not None and self._ends_ns <= now_ns:
            if self._words[_CONFIG] & _SINGLE:
                self._convert(self._ends_ns)
                self._ends_ns = None
            else:
                period_ns = self._period_ns()
                if self._settings == self._words[_CONFIG] and not self._compares():
                    self._ends_ns += (now_ns - self._ends_ns) // period_ns * period_ns
                self._convert(self._ends_ns)
                self._settings = self._words[_CONFIG]
                self._ends_ns += self._period_ns()
            self._plan()

    def _convert(self, time_ns: int) -> None:
        """Convert an input, or the difference of two, and compare."""
        selected = self._settings >> 12 & 7
        positive, negative = _PAIRS[selected] if selected < 4 else (selected - 4, None)
        seconds = self.seconds(time_ns)
        volts = volts_at(self.inputs, positive, seconds)
        if negative is not None:
            volts -= volts_at(self.inputs, negative, seconds)
        code = round(volts / _FULL_SCALE[self._settings >> 9 & 7] * 32768 / self.step) * self.step
        code = min(max(code, -32768), 32768 - self.step)
        self._words[_CONVERSION] = code & 0xFFFF
        self.conversions += 1
        self._compare(code)

    def _compare(self, code: int) -> None:
        queue, low, high = self._words[_CONFIG] & 3, signed(self._words[_LOW]), signed(self._words[_HIGH])
        if queue == 3:
            return
        if self._signals_ready():
            self._asserted = True
            self._show()
            if not self._words[_CONFIG] & _SINGLE:
                self.timeline.after(_READY_PULSE, self._end_pulse)
            return
        window = bool(self._words[_CONFIG] & _WINDOW)
        beyond = code > high or (window and code < low)
        self._exceeded = self._exceeded + 1 if beyond else 0
        if self._exceeded >= _QUEUE[queue]:
            self._asserted = True
        elif not self._words[_CONFIG] & _LATCHING and (code < low if not window else not beyond):
            self._asserted = False
        self._show()

    def _signals_ready(self) -> bool:
        """Return whether the pin signals the end of conversions: the thresholds' highest bits say so."""
        return bool(self._words[_HIGH] & 0x8000) and not self._words[_LOW] & 0x8000

    def _end_pulse(self) -> None:
        self._asserted = False
        self._show()

    def _show(self) -> None:
        config = self._words[_CONFIG]
        high = config & 3 == 3 or self._asserted == bool(config & _ACTIVE_HIGH)
        self._alert.drive(None if high else 0)

    def _compares(self) -> bool:
        return self._alert.connected and self._words[_CONFIG] & 3 != 3

    def _plan(self) -> None:
        """Have the next conversion end at its time if the pin shows it."""
        self.wake(self._ends_ns if self._compares() else None)
