"""The simulated SSD1306 (Solomon Systech, rev. 1.5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]
UPRIGHT = (0xA1, 0xC8, 0x8D, 0x14, 0xAF)


def command(rig: Any, *commands: int) -> None:
    rig.write(0x00, *commands)


def data(rig: Any, *values: int) -> None:
    rig.write(0x40, *values)


def lit(rig: Any) -> set[tuple[int, int]]:
    picture = rig.part.picture()
    return {(place % picture.width, place // picture.width) for place, dot in enumerate(picture.dots) if dot}


def test_it_is_dark_until_it_is_on_and_its_charge_pump_too(make: Make) -> None:
    rig = make("ssd1306")
    assert rig.read(1) == b"\x40"
    command(rig, 0xA1, 0xC8, 0xA5, 0xAF)
    assert (rig.part.on, lit(rig), rig.read(1)) == (False, set(), b"\0")
    command(rig, 0x8D, 0x14)
    assert rig.part.on
    assert len(lit(rig)) == 128 * 64
    command(rig, 0xA4)
    assert lit(rig) == set()
    command(rig, 0xA7)
    assert (rig.part.inverted, len(lit(rig))) == (True, 128 * 64)
    command(rig, 0xAE)
    assert lit(rig) == set()
    rig.part.reset()
    assert rig.part.inverted is False


def test_page_addressing(make: Make) -> None:
    rig = make("ssd1306")
    command(rig, *UPRIGHT, 0xB2, 0x0E, 0x17)  # page 2, column 0x7E
    data(rig, 0x01, 0x80, 0xFF)
    assert lit(rig) == {(126, 16), (127, 23), *((0, y) for y in range(16, 24))}  # back to column 0 of the page


def test_horizontal_and_vertical_addressing_keep_to_their_window(make: Make) -> None:
    rig = make("ssd1306")
    command(rig, *UPRIGHT, 0x20, 0x00, 0x21, 10, 11, 0x22, 3, 4)
    data(rig, 1, 1, 1, 1, 2)
    assert lit(rig) == {(10, 25), (11, 24), (10, 32), (11, 32)}
    command(rig, 0x20, 0x01, 0x21, 20, 21, 0x22, 3, 4)
    data(rig, 1, 2, 4, 8, 16)
    assert lit(rig) - {(10, 25), (11, 24), (10, 32), (11, 32)} == {(20, 28), (20, 33), (21, 26), (21, 35)}


def test_commands_come_in_several_messages_and_with_control_bytes_of_their_own(make: Make) -> None:
    rig = make("ssd1306")
    for byte in (*UPRIGHT, 0x81, 0x33, 0xB0, 0x00, 0x10):
        rig.write(0x80, byte)
    rig.write(0x80, 0xB1, 0x80, 0x05, 0xC0, 0x01, 0x40, 0x02, 0x04)
    assert rig.part.contrast == 0x33
    assert lit(rig) == {(5, 8), (6, 9), (7, 10)}


@pytest.mark.parametrize(
    ("commands", "place"),
    [
        ((0xA1, 0xC8), (0, 0)),
        ((0xA0, 0xC8), (127, 0)),
        ((0xA1, 0xC0), (0, 63)),
        ((0xA1, 0xC8, 0x48), (0, 56)),  # the start line
        ((0xA1, 0xC8, 0xD3, 0x10), (0, 48)),  # the offset
    ],
)
def test_the_picture_can_be_mirrored_and_moved(make: Make, commands: tuple[int, ...], place: tuple[int, int]) -> None:
    rig = make("ssd1306")
    command(rig, 0x8D, 0x14, 0xAF, *commands)
    data(rig, 0x01)
    assert lit(rig) == {place}


def test_smaller_displays(make: Make, tmp_path: Path) -> None:
    rig = make("ssd1306", width=64, height=48, colour="blue")
    command(rig, *UPRIGHT, 0xA8, 47, 0x20, 0x00, 0x21, 32, 95, 0x22, 0, 5)
    data(rig, *[0xFF] * (64 * 6))
    assert len(lit(rig)) == 64 * 48
    assert rig.part.text() == "\n".join(["⣿" * 32] * 12)
    rig.part.save(tmp_path / "screen.png")
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")


def test_its_text_is_in_braille(make: Make) -> None:
    rig = make("ssd1306", height=32)
    command(rig, *UPRIGHT, 0xA8, 31)
    data(rig, 0x01, 0x80, 0x00, 0x0F)
    lines = rig.part.text().split("\n")
    assert len(lines) == 8
    assert lines[:2] == ["⠁⢸", "⢀"]
