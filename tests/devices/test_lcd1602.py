"""The simulated character display on a backpack: an HD44780 (Hitachi ADE-207-272) behind a PCF8574."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.font import GLYPHS
from firmware_sim.hd44780 import CHARACTERS

Make = Callable[..., Any]
RS, READ, ENABLE, BACKLIGHT = 1, 2, 4, 8


class Lcd:
    """A driver of the display, in four-bit mode."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        rig.wait(0.05)
        for nibble in (3, 3, 3, 2):  # figure 24
            self.nibble(nibble)
            rig.wait(0.005)
        for instruction in (0x28, 0x0C, 0x01, 0x06):
            self.send(instruction)
            rig.wait(0.002)

    def nibble(self, nibble: int, flags: int = 0) -> None:
        port = nibble << 4 | BACKLIGHT | flags
        self.rig.write(port, port | ENABLE, port)

    def send(self, byte: int, flags: int = 0) -> None:
        self.nibble(byte >> 4, flags)
        self.nibble(byte & 0x0F, flags)
        self.rig.wait(50e-6)

    def print(self, text: str) -> None:
        for character in text:
            self.send(CHARACTERS.index(character), RS)

    def status(self, flags: int = 0) -> int:
        found = []
        for _ in range(2):
            self.rig.write(0xF0 | READ | BACKLIGHT | flags)
            self.rig.write(0xF0 | READ | ENABLE | BACKLIGHT | flags)
            found.append(self.rig.read(1)[0] >> 4)
            self.rig.write(0xF0 | READ | BACKLIGHT | flags)
        return found[0] << 4 | found[1]


def rows(lcd: Lcd) -> list[str]:
    return lcd.rig.part.text().split("\n")


def test_it_is_dark_until_a_driver_has_switched_it_on(make: Make) -> None:
    rig = make("lcd1602")
    assert rig.part.text() == " " * 16 + "\n" + " " * 16
    lcd = Lcd(rig)
    lcd.print("Hello, world!")
    assert rows(lcd) == ["Hello, world!   ", " " * 16]
    lcd.send(0xC2)
    lcd.print("21.5°C")
    assert rows(lcd)[1] == "  21.5°C        "
    lcd.send(0x08)
    assert rig.part.text().strip() == ""
    lcd.send(0x0C)
    lcd.send(0x01)
    rig.wait(0.002)
    assert rig.part.text().strip() == ""
    assert rig.part.ignored == 0


def test_a_second_driver_finds_it_in_four_bit_mode_and_in_the_middle_of_a_byte(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.print("A")
    lcd.nibble(4, RS)
    lcd = Lcd(lcd.rig)
    lcd.print("B")
    assert rows(lcd)[0].strip() == "B"


def test_after_a_power_cycle_it_needs_its_driver_again(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.print("A")
    lcd.rig.part.reset()
    lcd.print("B")
    assert lcd.rig.part.text().strip() == ""
    lcd = Lcd(lcd.rig)
    lcd.print("C")
    assert rows(lcd)[0].strip() == "C"


def test_it_is_busy_while_it_clears_and_loses_what_comes_then(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.print("A")
    lcd.send(0x01)
    lcd.print("BC")
    assert lcd.rig.part.ignored == 4
    lcd.rig.wait(0.0016)
    lcd.print("D")
    assert rows(lcd)[0].strip() == "D"


def test_its_busy_flag_and_its_memory_can_be_read(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.print("AB")
    assert lcd.status() == 0x02
    lcd.send(0x01)
    assert lcd.status() == 0x80
    lcd.rig.wait(0.002)
    lcd.send(0xC1)
    lcd.print("xy")
    lcd.send(0xC1)
    assert [lcd.status(RS), lcd.status(RS), lcd.status()] == [ord("x"), ord("y"), 0x43]


def test_four_rows_of_twenty(make: Make) -> None:
    lcd = Lcd(make("lcd1602", columns=20, rows=4))
    lcd.print("abcdefghijklmnopqrst" + "ABC")
    assert rows(lcd) == ["abcdefghijklmnopqrst", " " * 20, "ABC".ljust(20), " " * 20]
    lcd.send(0x80 | 0x54)
    lcd.send(0x0E)
    lcd.print("last row")
    assert rows(lcd)[3].strip() == "last row"
    assert lcd.rig.part.cursor == (8, 3)


@pytest.mark.parametrize(
    ("instructions", "text", "shown"),
    [
        ([0x18], "ABC", "BC"),
        ([0x1C], "ABC", " ABC"),
        ([0x10], "ABC", "AB"),  # the cursor moved left: a space overwrites the C
        ([0x04, 0x85], "ABC", "ABC"),
        ([0x02], "ABC", "ABC"),
    ],
)
def test_shifts_and_directions(make: Make, instructions: list[int], text: str, shown: str) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.print(text)
    for instruction in instructions:
        lcd.send(instruction)
        lcd.rig.wait(0.002)
    if instructions == [0x10]:
        lcd.print(" ")
    if instructions[0] == 0x04:
        lcd.print("xy")
        assert rows(lcd)[0] == "ABC yx".ljust(16)
        return
    assert rows(lcd)[0].rstrip() == shown


def test_the_display_shifts_with_the_entry_mode_that_says_so(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.send(0x07)
    lcd.send(0x90)
    lcd.print("AB")
    assert rows(lcd)[0] == "AB".rjust(16)


def test_the_cursor_and_the_backlight(make: Make) -> None:
    lcd = Lcd(make("lcd1602"))
    assert (lcd.rig.part.cursor, lcd.rig.part.backlight) == (None, True)
    lcd.send(0x0E)
    lcd.send(0xC5)
    assert lcd.rig.part.cursor == (5, 1)
    lcd.rig.write(0x00)
    assert lcd.rig.part.backlight is False


def decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    """Return width, height and rows of a PNG with a palette; checks each chunk's checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", png, place + 8 + length) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        place += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour, len(chunks[b"PLTE"])) == (8, 3, 6)
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    return width, height, [raw[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_its_picture_has_the_dots_of_the_characters(make: Make, tmp_path: Path) -> None:
    lcd = Lcd(make("lcd1602"))
    lcd.send(0x40)
    for row in range(8):
        lcd.send(1 << row % 5, RS)
    lcd.send(0x80)
    lcd.print("A")
    lcd.send(0x00, RS)
    lcd.send(0x0F)
    picture = lcd.rig.part.picture()
    cells = [[sum(picture.dot(1 + x + 6 * n, 1 + y) << 4 - x for x in range(5)) for y in range(8)] for n in range(3)]
    assert cells[0] == [*GLYPHS["A"], 0]
    assert cells[1] == [1 << row % 5 for row in range(8)]
    assert cells[2] == [0x1F] * 8  # the block of the cursor
    lcd.rig.part.save(tmp_path / "screen.png", scale=2)
    width, height, found = decoded((tmp_path / "screen.png").read_bytes())
    assert (width, height) == (2 * 97, 2 * 19)
    assert found[2][2:12] == bytes(dot for bit in range(4, -1, -1) for dot in [GLYPHS["A"][0] >> bit & 1] * 2)


def test_every_printable_character_of_ascii_has_a_glyph() -> None:
    assert set(CHARACTERS[0x20:0x7E]) <= GLYPHS.keys()
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    assert len(CHARACTERS) == 256
