"""MCP3008 and its relatives: Microchip's successive-approximation ADCs with 10 or 12 bits.

Source: Microchip DS21295D (MCP3004/3008), DS21294E (MCP3002), DS21298E (MCP3204/3208), DS21034D (MCP3202). The clock's
limit follows the supply between the two of the electrical characteristics. Not simulated: noise, and the charge that
the sample loses on a clock slower than 10 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.analog import Voltage, inputs, volts_at
from firmware_sim.limits import within
from firmware_sim.spi_device import BitDevice
from firmware_sim.spi_part import SpiPart


@dataclass(eq=False)
class _Adc(BitDevice, SpiPart):
    """An ADC of this family.

    Parameters:
        bus, select: its place.
        line: a line that selects it instead of the bus's own.
        inputs: the voltages of its inputs, in volts, or functions of time (`firmware_sim.analog`).
        reference: the voltage at VREF, which gives the highest code.
        supply: the voltage at VDD; with less, its clock must be slower.

    Attributes:
        conversions: how many it has made.
    """

    wiring: ClassVar[str] = (
        "VDD and VREF 3.3 V, AGND and DGND to GND; CLK to GPIO11, DIN to GPIO10, DOUT to GPIO9, CS/SHDN to GPIO8 (CE0)"
    )
    example: ClassVar[str] = "pot = gpiozero.MCP3008(0)\nprint(pot.voltage)"
    count: ClassVar[int] = 8
    """The number of inputs."""
    bits: ClassVar[int] = 10
    channel_bits: ClassVar[int] = 3
    order_bit: ClassVar[bool] = False
    """Whether the bit MSBF of the command, and no bit for sampling, follows the channel (MCP3002, MCP3202)."""
    clocks: ClassVar[tuple[float, float]] = (1_350_000, 3_600_000)
    """The fastest clock with a supply of 2.7 V and of 5 V, Hz."""
    inputs: list[Voltage] = inputs(8, -0.6, 5.6)
    reference: float = within(0.25, 5.5, "volts", default=3.3)
    supply: float = within(2.7, 5.5, "volts", default=3.3)

    def power_on(self) -> None:
        slow, fast = self.clocks
        self.max_speed: float = slow + (fast - slow) * (min(self.supply, 5.0) - 2.7) / 2.3
        self.conversions: int = 0
        self.begin()

    def begin(self) -> None:
        """Wait for a start bit."""
        self._command: list[int] = []
        self._answer: Iterator[int | None] | None = None
        self._output: int | None = None

    @property
    def output(self) -> int | None:
        return self._output

    def clock(self, bit: int) -> None:
        if self._answer is not None:
            self._output = next(self._answer)
        elif bit or self._command:  # the first 1 is the start bit
            self._command.append(bit)
            if len(self._command) == 2 + self.channel_bits + self.order_bit:
                self._answer = self._convert()
                self._output = next(self._answer)

    def _convert(self) -> Iterator[int | None]:
        """Yield the output for one clock after the other: sampling, the null bit, and the code."""
        single, channel_bits = self._command[1], self._command[2 : 2 + self.channel_bits]
        channel = int("".join(map(str, channel_bits)), 2) % self.count
        seconds = self.seconds()
        volts = volts_at(self.inputs, channel, seconds)
        if not single:  # IN+ is the channel, IN- the other one of its pair
            volts -= volts_at(self.inputs, channel ^ 1, seconds)
        code = min(max(int(volts / self.reference * 2**self.bits), 0), 2**self.bits - 1)
        self.conversions += 1
        digits = [code >> place & 1 for place in range(self.bits - 1, -1, -1)]
        if not self.order_bit:
            yield None
        yield 0
        yield from digits
        if not self.order_bit or not self._command[-1]:
            yield from digits[-2::-1]  # once more, the lowest bit first
        while True:
            yield 0


@dataclass(eq=False)
class Mcp3008(_Adc):
    """An MCP3008 on an SPI bus: 10 bits, eight inputs."""


@dataclass(eq=False)
class Mcp3004(_Adc):
    """An MCP3004 on an SPI bus: 10 bits, four inputs."""

    example: ClassVar[str] = "pot = gpiozero.MCP3004(0)\nprint(pot.voltage)"
    count: ClassVar[int] = 4
    inputs: list[Voltage] = inputs(4, -0.6, 5.6)


@dataclass(eq=False)
class Mcp3208(_Adc):
    """An MCP3208 on an SPI bus: 12 bits, eight inputs."""

    example: ClassVar[str] = "pot = gpiozero.MCP3208(0)\nprint(pot.voltage)"
    bits: ClassVar[int] = 12
    clocks: ClassVar[tuple[float, float]] = (1_000_000, 2_000_000)


@dataclass(eq=False)
class Mcp3204(Mcp3208):
    """An MCP3204 on an SPI bus: 12 bits, four inputs."""

    example: ClassVar[str] = "pot = gpiozero.MCP3204(0)\nprint(pot.voltage)"
    count: ClassVar[int] = 4
    inputs: list[Voltage] = inputs(4, -0.6, 5.6)


@dataclass(eq=False)
class Mcp3002(_Adc):
    """An MCP3002 on an SPI bus: 10 bits, two inputs. Its supply is its reference.

    Parameters:
        reference: the voltage at VDD/VREF, which gives the highest code.
        supply: the same for its clock.
    """

    wiring: ClassVar[str] = (
        "VDD/VREF 3.3 V, VSS to GND; CLK to GPIO11, DIN to GPIO10, DOUT to GPIO9, CS/SHDN to GPIO8 (CE0)"
    )
    example: ClassVar[str] = "pot = gpiozero.MCP3002(0)\nprint(pot.voltage)"
    count: ClassVar[int] = 2
    channel_bits: ClassVar[int] = 1
    order_bit: ClassVar[bool] = True
    clocks: ClassVar[tuple[float, float]] = (1_200_000, 3_200_000)
    inputs: list[Voltage] = inputs(2, -0.6, 5.6)


@dataclass(eq=False)
class Mcp3202(Mcp3002):
    """An MCP3202 on an SPI bus: 12 bits, two inputs. Its supply is its reference.

    Parameters:
        reference: the voltage at VDD/VREF, which gives the highest code.
        supply: the same for its clock.
    """

    example: ClassVar[str] = "pot = gpiozero.MCP3202(0)\nprint(pot.voltage)"
    bits: ClassVar[int] = 12
    clocks: ClassVar[tuple[float, float]] = (900_000, 1_800_000)
