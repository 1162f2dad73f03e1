"""A character display, such as an LCD1602 or LCD2004, on a backpack: an HD44780 behind a port expander PCF8574.

The backpack's pins are P0 = RS, P1 = R/W, P2 = E, P3 = the backlight, P4 to P7 = the four upper data lines. So a
character takes six bytes on the bus, in which E rises and falls twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from firmware_sim.device import Connections
from firmware_sim.font import GLYPHS
from firmware_sim.hd44780 import CHARACTERS, Hd44780
from firmware_sim.i2c_part import I2cPart
from firmware_sim.picture import Colour, Picture

_RS, _READ, _ENABLE, _BACKLIGHT = 1, 2, 4, 8
_CELL = 6, 9
"""Dots from one character to the next, one of them between."""
_COLOURS: dict[str, tuple[tuple[Colour, Colour], tuple[Colour, Colour]]] = {
    "green": (((90, 105, 40), (70, 85, 35)), ((170, 215, 40), (30, 50, 20))),
    "blue": (((20, 25, 80), (60, 65, 110)), ((35, 60, 220), (240, 245, 255))),
}
"""Of dark and of dark and lit dots, without and with the backlight."""


@dataclass(eq=False)
class Lcd1602(I2cPart):
    """A character display with an HD44780 behind a PCF8574: LCD1602, LCD2004 and others.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x20 to 0x27 (PCF8574) or 0x38 to 0x3f (PCF8574A).
        columns, rows: its characters.
        colour: of the background.
    """

    fixed: ClassVar[str] = "columns, rows"
    wiring: ClassVar[str] = "VCC 5 V, GND; SDA to GPIO2, SCL to GPIO3 through a level shifter: its pull-ups go to 5 V"
    example: ClassVar[str] = 'print(board["display"].text())\nboard["display"].save("screen.png")'
    addresses: ClassVar[Sequence[int]] = (*range(0x20, 0x28), *range(0x38, 0x40))
    address: int = 0x27
    columns: Literal[8, 16, 20, 40] = 16
    rows: Literal[1, 2, 4] = 2
    colour: Literal["blue", "green"] = "blue"

    def connect(self, board: Connections) -> None:
        self._port = 0xFF
        self._controller = Hd44780()

    def power_on(self) -> None:
        self._port = 0xFF
        self._controller.power_on()

    @property
    def backlight(self) -> bool:
        """Whether the backlight is on."""
        return bool(self._port & _BACKLIGHT)

    @property
    def cursor(self) -> tuple[int, int] | None:
        """The column and row of the cursor; None while it is not shown."""
        controller = self._controller
        if not (controller.shown and (controller.cursor or controller.blinks)):
            return None
        start = (controller.address & 0x3F) - controller.shift
        return start % self.columns, (controller.address >> 6) + 2 * (start // self.columns)

    @property
    def ignored(self) -> int:
        """How many instructions and characters were lost because they came while the controller was busy."""
        return self._controller.ignored

    def text(self) -> str:
        """Return the characters that it shows, a line for each row; those that the program has defined as "□"."""
        with self.timeline.lock:
            if not self._controller.shown:
                return "\n".join([" " * self.columns] * self.rows)
            return "\n".join("".join(CHARACTERS[code] for code in codes) for codes in self._codes())

    def picture(self) -> Picture:
        """Return the picture that it shows."""
        with self.timeline.lock:
            width, height = self.columns * _CELL[0] + 1, self.rows * _CELL[1] + 1
            dots = bytearray(width * height)
            if self._controller.shown:
                for row, codes in enumerate(self._codes()):
                    for column, code in enumerate(codes):
                        for y, line in enumerate(self._glyph(code, (column, row))):
                            start = (row * _CELL[1] + 1 + y) * width + column * _CELL[0] + 1
                            dots[start : start + 5] = (line >> bit & 1 for bit in range(4, -1, -1))
            return Picture(width, bytes(dots), _COLOURS[self.colour][self.backlight])

    def save(self, path: str | os.PathLike[str], scale: int = 4) -> None:
        """Write its picture to a PNG file, each dot `scale` pixels wide."""
        self.picture().save(path, scale)

    def _codes(self) -> list[bytes]:
        return [self._controller.row(row, self.columns) for row in range(self.rows)]

    def _glyph(self, code: int, place: tuple[int, int]) -> Sequence[int]:
        """Return the eight rows of a character, with the cursor if it is here."""
        if code < 16:
            rows = list(self._controller.characters[8 * (code & 7) : 8 * (code & 7) + 8])
        else:
            rows = [*GLYPHS.get(CHARACTERS[code], GLYPHS["□"]), 0]
        if place == self.cursor:
            rows = [0x1F] * 8 if self._controller.blinks else [*rows[:7], 0x1F]
        return rows

    # The wire.

    def write(self, data: bytes) -> None:
        for port in data:
            before, self._port = self._port, port
            if before & _ENABLE and not port & _ENABLE:
                if before & _READ:
                    self._controller.answered(data=bool(before & _RS))
                else:
                    self._controller.latch(before >> 4, data=bool(before & _RS), now_ns=self.now_ns())

    def read(self, count: int) -> bytes:
        port = self._port
        if port & _READ and port & _ENABLE:
            answer = self._controller.answer(data=bool(port & _RS), now_ns=self.now_ns())
            port &= answer << 4 | 0x0F  # a pin that was written 0 stays low
        return bytes([port] * count)
