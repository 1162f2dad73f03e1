"""A 74HC595: eight outputs from three lines, and more in a chain.

A rising edge of SRCLK shifts SER in, one of RCLK shows the register on the outputs QA to QH (TI SN74HC595, function
table). SRCLR low clears the register, OE high switches the outputs off.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sim.device import Connections, Device
from firmware_sim.pins import Line
from firmware_sim.segments import character


@dataclass
class ShiftRegister(Device):
    """One or more 74HC595 shift registers in a chain.

    Parameters:
        data: the line of SER (DS).
        clock: the line of SRCLK (SHCP).
        latch: the line of RCLK (STCP).
        enable: the line of OE, low while the outputs drive; None: tied low.
        clear: the line of SRCLR, low to clear the register; None: tied high.
        chips: how many are in the chain, QH' of each on SER of the next.
    """

    data: int
    clock: int
    latch: int
    enable: int | None = None
    clear: int | None = None
    chips: int = 1

    fixed = "data, clock, latch, enable, clear, chips"
    wiring = "SER, SRCLK, RCLK to the lines, OE to GND, SRCLR and VCC to 3.3 V, GND to GND"
    example = "for bit in bits: data.value = bit; clock.on(); clock.off()\nlatch.on(); latch.off()"

    def __post_init__(self) -> None:
        if not 1 <= self.chips <= 100:
            raise ValueError(f"chips must be 1 to 100, not {self.chips}")

    def attach(self, board: Connections) -> None:
        def use(name: str, number: int) -> Line:
            return board.use_line(number, f"{name} of the 74HC595 on line {number}")

        self._data = use("SER", self.data)
        self._enable = None if self.enable is None else use("OE", self.enable)
        self._clear = None if self.clear is None else use("SRCLR", self.clear)
        self._register = self._latched = 0
        self._mask = (1 << 8 * self.chips) - 1
        use("SRCLK", self.clock).observe(self._on_clock)
        use("RCLK", self.latch).observe(self._on_latch)
        if self._clear is not None:
            self._clear.observe(self._on_clear)

    @property
    def value(self) -> int:
        """The latched outputs as a number: bit 0 is QA of the first chip, bit 8 QA of the second."""
        return self._latched

    @property
    def outputs(self) -> list[int | None]:
        """The levels of QA to QH of each chip, the first chip first; None while OE is high."""
        if self._enable is not None and self._enable.level:
            return [None] * (8 * self.chips)
        return [self._latched >> place & 1 for place in range(8 * self.chips)]

    @property
    def text(self) -> str:
        """The text on seven-segment digits at the outputs, QA on segment A, the last chip first."""
        return "".join(character(self._latched >> 8 * chip) for chip in reversed(range(self.chips)))

    def _on_clock(self, level: int, when_ns: int) -> None:
        if level and (self._clear is None or self._clear.level):
            self._register = (self._register << 1 | self._data.level) & self._mask

    def _on_latch(self, level: int, when_ns: int) -> None:
        if level:
            self._latched = self._register

    def _on_clear(self, level: int, when_ns: int) -> None:
        if not level:
            self._register = 0
