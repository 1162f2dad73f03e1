"""A TM1637: a driver of seven-segment displays over two wires.

The protocol resembles I2C without addresses: DIO falls while CLK is high to start, eight bits with the lowest first
are taken at the rising edges of CLK, the chip pulls DIO low for the ninth, and DIO rises while CLK is high to end
(Titan Micro TM1637 datasheet, "Interface explanation" and "Data command").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.pins import Line
from firmware_sim.segments import character

_DATA, _DISPLAY, _ADDRESS = 0x40, 0x80, 0xC0
_FIXED = 0x04
_ON = 0x08


@dataclass
class Tm1637(Device):
    """A four-digit display with a TM1637.

    Parameters:
        clock: the line of CLK.
        data: the line of DIO.
        digits: how many digits it has, up to 6.

    Attributes:
        commands: bytes that it has acknowledged.
    """

    clock: int
    data: int
    digits: int = 4
    commands: int = field(default=0, init=False)
    _segments: list[int] = field(default_factory=lambda: [0] * 6, init=False, repr=False)
    _on: bool = field(default=False, init=False, repr=False)
    _brightness: int = field(default=0, init=False, repr=False)

    fixed = "clock, data, digits"
    wiring = "CLK and DIO to the lines, VCC to 3.3 V, GND to GND; the module has pull-ups"
    example = "display = tm1637.TM1637(clk=17, dio=27); display.numbers(12, 59)"

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 6:
            raise ValueError(f"digits must be 1 to 6, not {self.digits}")

    def attach(self, board: Connections) -> None:
        self._clock: Line = board.use_line(self.clock, f"CLK of the TM1637 on line {self.clock}")
        self._data: Line = board.use_line(self.data, f"DIO of the TM1637 on line {self.data}")
        for line, observer in ((self._clock, self._on_clock), (self._data, self._on_data)):
            line.pull("up")
            line.observe(observer)
        self._bits: list[int] | None = None
        self._first = True
        self._fixed = False
        self._address = 0

    @property
    def segments(self) -> list[int]:
        """The segments of each digit; bit 7 of the second is the colon of clocks."""
        return [*self._segments]

    @property
    def on(self) -> bool:
        """Whether the display is switched on."""
        return self._on

    @property
    def brightness(self) -> int:
        """The brightness, 0 to 7."""
        return self._brightness

    @property
    def text(self) -> str:
        """The text on the display: "12:59"; blanks while it is off."""
        if not self._on:
            return " " * self.digits
        shown = [character(segments) for segments in self._segments[: self.digits]]
        if self.digits == 4 and self._segments[1] & 0x80:
            shown.insert(2, ":")
        return "".join(shown)

    def _on_data(self, level: int, when_ns: int) -> None:
        if not self._clock.level:
            return
        # A change while CLK is high starts (falling) or ends (rising) a transmission.
        self._bits = None if level else []
        self._first = True

    def _on_clock(self, level: int, when_ns: int) -> None:
        if self._bits is None:
            return
        if level and len(self._bits) < 8:
            self._bits.append(self._data.level)
        elif not level and len(self._bits) == 8:
            self._take(sum(bit << place for place, bit in enumerate(self._bits)))
            self._bits.append(0)
            self._data.drive(0)
        elif not level and len(self._bits) == 9:
            self._data.drive(None)
            self._bits = []

    def _take(self, byte: int) -> None:
        self.commands += 1
        if not self._first:
            if self._address < len(self._segments):
                self._segments[self._address] = byte
            self._address += not self._fixed
            return
        self._first = False
        if byte & 0xC0 == _ADDRESS:
            self._address = byte & 0x0F
        elif byte & 0xC0 == _DISPLAY:
            self._on, self._brightness = bool(byte & _ON), byte & 0x07
        elif byte & 0xC0 == _DATA:
            self._fixed = bool(byte & _FIXED)
