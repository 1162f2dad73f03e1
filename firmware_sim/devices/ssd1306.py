"""An SSD1306: the controller of small OLED displays, 128 by 64 dots and less.

Its memory has eight pages of 128 bytes; a byte is a column of eight dots, the top one in the lowest bit. The display
stays dark until it is switched on and the charge pump, from which the modules have their 7 V, is on as well.

Source: Solomon Systech, SSD1306 rev. 1.5. Modules are wired so that their
picture is upright with the segments and the scan direction reversed (commands A1 and C8), which all drivers send. Not
simulated: scrolling, the COM pins' configuration, and the effect of the contrast on the picture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from firmware_sim.device import Connections
from firmware_sim.i2c_part import I2cPart
from firmware_sim.picture import Picture

_COLUMNS, _ROWS, _PAGES = 128, 64, 8
_HORIZONTAL, _VERTICAL, _PAGE = range(3)
_PARAMETERS = {
    0x20: 1,
    0x21: 2,
    0x22: 2,
    0x26: 6,
    0x27: 6,
    0x29: 5,
    0x2A: 5,
    0x81: 1,
    0x8D: 1,
    0xA3: 2,
    0xA8: 1,
    0xD3: 1,
    0xD5: 1,
    0xD9: 1,
    0xDA: 1,
    0xDB: 1,
}
"""How many bytes follow a command."""
_COLOURS = {"white": (235, 245, 255), "blue": (70, 150, 255), "yellow": (255, 220, 60)}


@dataclass(eq=False)
class Ssd1306(I2cPart):
    """An OLED display with an SSD1306.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x3c or 0x3d (pin D/C#).
        width, height: its dots.
        colour: the colour of its dots.

    Attributes:
        on: whether it shows its picture.
        inverted: whether lit dots are dark, and dark ones lit.
        contrast: 0 to 255.
    """

    fixed: ClassVar[str] = "width, height"
    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3"
    example: ClassVar[str] = 'print(board["display"].text())\nboard["display"].save("screen.png")'
    addresses: ClassVar[Sequence[int]] = (0x3C, 0x3D)
    address: int = 0x3C
    width: Literal[128, 96, 72, 64] = 128
    height: Literal[64, 48, 40, 32, 16] = 64
    colour: Literal["white", "blue", "yellow"] = "white"

    def connect(self, board: Connections) -> None:
        self._memory = bytearray(_COLUMNS * _PAGES)

    def power_on(self) -> None:
        """Begin as after its reset pin was low; its memory is random then, and dark here."""
        self._memory[:] = bytes(len(self._memory))
        self.inverted: bool = False
        self.contrast: int = 0x7F
        self._switched_on = self._pump = self._all_lit = self._segments_reversed = self._scan_reversed = False
        self._mode = _PAGE
        self._columns, self._pages = (0, _COLUMNS - 1), (0, _PAGES - 1)
        self._column = self._page = 0
        self._start_line = self._offset = 0
        self._multiplex = _ROWS - 1
        self._command: list[int] = []

    @property
    def on(self) -> bool:
        return self._switched_on and self._pump

    def picture(self) -> Picture:
        """Return the picture that it shows."""
        with self.timeline.lock:
            first = (_COLUMNS - self.width) // 2
            dots = bytearray()
            for y in range(self.height):
                scanned = y if self._scan_reversed else self._multiplex - y
                row = (scanned + self._start_line + self._offset) % _ROWS
                page, bit = (row >> 3) * _COLUMNS, 1 << (row & 7)
                lit = y <= self._multiplex and self.on
                dots += bytes(
                    lit and (self._all_lit or bool(self._memory[page + x] & bit) != self.inverted)
                    for x in range(first, first + self.width)
                )
        return Picture(self.width, bytes(dots), ((0, 0, 0), _COLOURS[self.colour]))

    def text(self) -> str:
        """Return its picture in braille characters, each of two by four dots."""
        return self.picture().text()

    def save(self, path: str | os.PathLike[str], scale: int = 4) -> None:
        """Write its picture to a PNG file, each dot `scale` pixels wide."""
        self.picture().save(path, scale)

    # The wire.

    def write(self, data: bytes) -> None:
        """Take control bytes with what follows each: one byte, or all the rest."""
        index = 0
        while index < len(data) - 1:
            control = data[index]
            end = index + 2 if control & 0x80 else len(data)
            for byte in data[index + 1 : end]:
                if control & 0x40:
                    self._store(byte)
                else:
                    self._take(byte)
            index = end

    def read(self, count: int) -> bytes:
        return bytes([0 if self._switched_on else 0x40] * count)  # the status

    def _store(self, byte: int) -> None:
        """Store eight dots, and move on in the way of the addressing mode."""
        column = self._column if self._segments_reversed else _COLUMNS - 1 - self._column
        self._memory[self._page * _COLUMNS + column] = byte
        first_column, last_column = self._columns if self._mode != _PAGE else (0, _COLUMNS - 1)
        first_page, last_page = self._pages
        if self._mode == _VERTICAL:
            at_end = self._page == last_page
            self._page = first_page if at_end else (self._page + 1) % _PAGES
            if at_end:
                self._column = first_column if self._column == last_column else (self._column + 1) % _COLUMNS
            return
        at_end = self._column == last_column
        self._column = first_column if at_end else (self._column + 1) % _COLUMNS
        if at_end and self._mode == _HORIZONTAL:
            self._page = first_page if self._page == last_page else (self._page + 1) % _PAGES

    def _take(self, byte: int) -> None:
        """Take a byte of a command; a command may come in several messages."""
        self._command.append(byte)
        if len(self._command) > _PARAMETERS.get(self._command[0], 0):
            command, *parameters = self._command
            self._command = []
            self._execute(command, parameters)

    def _execute(self, command: int, parameters: Sequence[int]) -> None:
        match command:
            case 0x20:
                self._mode = min(parameters[0] & 3, _PAGE)
            case 0x21:
                self._columns = parameters[0] & 0x7F, parameters[1] & 0x7F
                self._column = self._columns[0]
            case 0x22:
                self._pages = parameters[0] & 7, parameters[1] & 7
                self._page = self._pages[0]
            case 0x81:
                self.contrast = parameters[0]
            case 0x8D:
                self._pump = bool(parameters[0] & 4)
            case 0xA0 | 0xA1:
                self._segments_reversed = command == 0xA1
            case 0xA4 | 0xA5:
                self._all_lit = command == 0xA5
            case 0xA6 | 0xA7:
                self.inverted = command == 0xA7
            case 0xA8:
                self._multiplex = max(parameters[0] & 0x3F, 15)
            case 0xAE | 0xAF:
                self._switched_on = command == 0xAF
            case 0xC0 | 0xC8:
                self._scan_reversed = command == 0xC8
            case 0xD3:
                self._offset = parameters[0] & 0x3F
            case _ if command < 0x10 and self._mode == _PAGE:
                self._column = self._column & 0x70 | command
            case _ if command < 0x20 and self._mode == _PAGE:
                self._column = self._column & 0x0F | (command & 7) << 4
            case _ if 0x40 <= command < 0x80:
                self._start_line = command & 0x3F
            case _ if 0xB0 <= command < 0xB8 and self._mode == _PAGE:
                self._page = command & 7
