"""Hitachi's HD44780: the controller of character displays, with its memory of characters, cursor and instructions.

Source: Hitachi ADE-207-272(Z), rev. 0.0; tables are named where they are kept. It takes instructions over eight or four
data lines. After power-on it expects eight. A driver that finds it in either state, or in the middle of a byte, brings
it to a known one with three times "eight lines" (figures 23 and 24).
"""

from __future__ import annotations

COLUMNS_OF_MEMORY = 40
CLEAR_SECONDS, SECONDS = 1.52e-3, 37e-6
"""How long the instructions take that clear the display or move the cursor home, and all others."""
CHARACTERS: str = (
    "□" * 8 * 2
    + " " * 16
    + "".join(map(chr, range(0x20, 0x5C)))
    + "¥"
    + "".join(map(chr, range(0x5D, 0x7E)))
    + "→←"
    + " " * 33
    + "".join(map(chr, range(0xFF61, 0xFF9F)))
    + "°αäßεµσρg√⁻jˣ¢£ñöpqθ∞ΩüΣπxy千万円÷ █"
)
"""The characters of ROM code A00. The first sixteen are those that the program has defined."""


class Hd44780:
    """The controller, as its data lines see it.

    Attributes:
        characters: the dots of the eight characters that the program can define, eight rows each.
        shown, cursor, blinks: whether it shows anything, the cursor as a line, and as a blinking block.
        address: the place of the cursor in its memory.
        shift: by how many columns the display is shifted to the left.
        ignored: instructions and characters that came while it was busy, and were lost.
    """

    def __init__(self) -> None:
        self.ignored: int = 0
        self.power_on()

    def power_on(self) -> None:
        """Begin as after power-on: eight data lines, display off, memory clear."""
        self._memory = bytearray(b" " * 0x80)
        self.characters: bytearray = bytearray(64)
        self.address: int = 0
        self.shift: int = 0
        self.shown: bool = False
        self.cursor: bool = False
        self.blinks: bool = False
        self._four_lines = self._two_rows = False
        self._increment, self._shifts = True, False
        self._defining = False
        self._high: int | None = None
        self._busy_until_ns = 0
        self._answering = False

    def row(self, row: int, columns: int) -> bytes:
        """Return the codes of the characters that a row shows; rows 2 and 3 continue rows 0 and 1."""
        if not self._two_rows and row:
            return b" " * columns
        length = COLUMNS_OF_MEMORY if self._two_rows else 2 * COLUMNS_OF_MEMORY
        start = (row >> 1) * columns + self.shift
        return bytes(self._memory[0x40 * (row & 1) + (start + column) % length] for column in range(columns))

    def latch(self, nibble: int, *, data: bool, now_ns: int) -> None:
        """Take the levels of the four upper data lines at the falling edge of E; the lower lines are not connected."""
        if now_ns < self._busy_until_ns:
            self.ignored += 1
            return
        if not self._four_lines:
            self._take(nibble << 4, data, now_ns)
        elif self._high is None:
            self._high = nibble
        else:
            byte, self._high = self._high << 4 | nibble, None
            self._take(byte, data, now_ns)

    def answer(self, *, data: bool, now_ns: int) -> int:
        """Return the levels of the four upper data lines while E is high: the busy flag and the address, or memory."""
        byte = self._memory[self.address] if data else (now_ns < self._busy_until_ns) << 7 | self.address
        return byte & 0x0F if self._four_lines and self._answering else byte >> 4

    def answered(self, *, data: bool) -> None:
        """Take note of the falling edge of E after `answer()`."""
        self._answering = self._four_lines and not self._answering
        if data and not self._answering:
            self._move(1 if self._increment else -1)

    def _take(self, byte: int, data: bool, now_ns: int) -> None:
        seconds = SECONDS
        if data and self._defining:
            self.characters[self.address & 0x3F] = byte & 0x1F
            self.address = (self.address + (1 if self._increment else -1)) & 0x3F
        elif data:
            self._memory[self.address] = byte
            self._move(1 if self._increment else -1)
            if self._shifts:
                self._shift(1 if self._increment else -1)
        else:
            self._execute(byte)
            seconds = CLEAR_SECONDS if 0 < byte < 4 else SECONDS
        self._busy_until_ns = now_ns + round(seconds * 1e9)

    def _execute(self, byte: int) -> None:
        """Carry out an instruction, which its highest bit of 1 names."""
        match byte.bit_length() - 1:
            case 0:
                self._memory[:] = b" " * len(self._memory)
                self.address = self.shift = 0
                self._increment, self._defining = True, False
            case 1:
                self.address = self.shift = 0
                self._defining = False
            case 2:
                self._increment, self._shifts = bool(byte & 2), bool(byte & 1)
            case 3:
                self.shown, self.cursor, self.blinks = bool(byte & 4), bool(byte & 2), bool(byte & 1)
            case 4:
                step = 1 if byte & 4 else -1
                if byte & 8:
                    self._shift(-step)
                else:
                    self._move(step)
            case 5:
                self._four_lines = not byte & 0x10
                self._two_rows = bool(byte & 8)
            case 6:
                self.address, self._defining = byte & 0x3F, True
            case 7:
                self.address, self._defining = byte & 0x7F, False

    def _move(self, step: int) -> None:
        """Move the cursor; from the end of a row it goes to the begin of the other one."""
        if not self._two_rows:
            self.address = (self.address + step) % (2 * COLUMNS_OF_MEMORY)
            return
        place = (self.address >> 6 & 1) * COLUMNS_OF_MEMORY + min(self.address & 0x3F, COLUMNS_OF_MEMORY - 1)
        row, column = divmod((place + step) % (2 * COLUMNS_OF_MEMORY), COLUMNS_OF_MEMORY)
        self.address = row << 6 | column

    def _shift(self, step: int) -> None:
        length = COLUMNS_OF_MEMORY if self._two_rows else 2 * COLUMNS_OF_MEMORY
        self.shift = (self.shift + step) % length
