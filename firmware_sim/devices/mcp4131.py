"""MCP4131 and MCP4251: digital potentiometers on an SPI bus.

Source: Microchip DS22060 (MCP413X/415X/423X/425X), "Serial Interface (SPI)" and "Device Commands". A write and a read
take 16 bits, an increment and a decrement eight; a command for an address that the part lacks answers with zeros. Not
simulated: the switches of the terminals (TCON is only stored), the pins SHDN and WP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.adc_inputs import adc_input
from firmware_sim.device import Connections
from firmware_sim.limits import within
from firmware_sim.spi_device import BitDevice
from firmware_sim.spi_part import SpiPart

_WRITE, _INCREMENT, _DECREMENT, _READ = range(4)
_TCON, _STATUS = 4, 5


@dataclass(eq=False)
class _DigitalPot(BitDevice, SpiPart):
    """A digital potentiometer of this family.

    Parameters:
        bus, select: its place.
        line: a line that selects it instead of the bus's own.
        adc: the name of an ADC part on the wiper; by default on none.
        channel: the input of the ADC, from 0; a second wiper is on the next one.
        low, high: the voltages at the ends B and A.
    """

    wiring: ClassVar[str] = (
        "VDD 3.3 V, VSS to GND; SCK to GPIO11, SDI to GPIO10 (SDI/SDO with 1 kΩ), CS to GPIO8 (CE0); ends A and B"
    )
    fixed: ClassVar[str] = "adc, channel"
    steps: ClassVar[int] = 128
    count: ClassVar[int] = 1
    adc: str = ""
    channel: int = 0
    low: float = within(-0.3, 5.5, "volts", default=0.0, changed="_apply")
    high: float = within(-0.3, 5.5, "volts", default=3.3, changed="_apply")

    def attach(self, board: Connections) -> None:
        user = f"the {type(self).__name__.upper()} on SPI bus {self.bus}"
        places = range(self.channel, self.channel + self.count)
        self._outputs = [(adc_input(board, self.adc, place, user), place) for place in places] if self.adc else []
        super().attach(board)

    def power_on(self) -> None:
        self._wipers = [self.steps // 2] * self.count
        self._tcon = 0x1FF
        self.begin()
        self._apply()

    @property
    def wiper0(self) -> int:
        """The position of the first wiper, from the end B at 0 to the end A."""
        return self._wipers[0]

    def begin(self) -> None:
        self._bits: list[int] = []
        self._failed = False

    @property
    def output(self) -> int:
        if self._failed:
            return 0
        place = len(self._bits)  # D9 follows the address and the command
        if place < 6 or self._command() != _READ:
            return 1
        return (0x200 | self._register()) >> (15 - place) & 1

    def clock(self, bit: int) -> None:
        self._bits.append(bit)
        if len(self._bits) == 6:
            self._failed = self._failed or not self._is_known()
        length = 8 if len(self._bits) >= 6 and self._command() in (_INCREMENT, _DECREMENT) else 16
        if len(self._bits) == length:
            if not self._failed:
                self._execute(_number(self._bits[6:]) & 0x1FF)
            self._bits.clear()

    def _address(self) -> int:
        return _number(self._bits[:4])

    def _command(self) -> int:
        return _number(self._bits[4:6])

    def _is_known(self) -> bool:
        address, command = self._address(), self._command()
        if address < self.count:
            return True
        return command in (_WRITE, _READ) if address == _TCON else address == _STATUS and command == _READ

    def _register(self) -> int:
        address = self._address()
        if address < self.count:
            return self._wipers[address]
        return self._tcon if address == _TCON else 0x1E0

    def _execute(self, data: int) -> None:
        address, command = self._address(), self._command()
        if command == _WRITE and address == _TCON:
            self._tcon = data
        elif command == _WRITE:
            self._wipers[address] = data
        elif command == _INCREMENT and self._wipers[address] < self.steps:
            self._wipers[address] += 1
        elif command == _DECREMENT and 0 < self._wipers[address] <= self.steps:
            self._wipers[address] -= 1
        self._apply()

    def _apply(self) -> None:
        for wiper, (adc, channel) in zip(self._wipers, self._outputs, strict=False):
            adc.inputs[channel] = self.low + min(wiper, self.steps) / self.steps * (self.high - self.low)


@dataclass(eq=False)
class Mcp4131(_DigitalPot):
    """An MCP4131 digital potentiometer on an SPI bus: 129 positions."""

    example: ClassVar[str] = "pot = spidev.SpiDev(0, 0)\npot.max_speed_hz = 50_000\npot.xfer2([0, 64])  # half way"


@dataclass(eq=False)
class Mcp4251(_DigitalPot):
    """An MCP4251 on an SPI bus: two digital potentiometers of 257 positions."""

    example: ClassVar[str] = (
        "pots = spidev.SpiDev(0, 0)\npots.max_speed_hz = 50_000\npots.xfer2([0x10, 128])  # the second"
    )
    steps: ClassVar[int] = 256
    count: ClassVar[int] = 2

    @property
    def wiper1(self) -> int:
        """The position of the second wiper, from the end B at 0 to the end A."""
        return self._wipers[1]


def _number(bits: list[int]) -> int:
    return sum(bit << place for place, bit in enumerate(reversed(bits)))
