"""The simulated MCP9808 (Microchip DS25095A) and LM75 (TI SNIS153D), against their datasheets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]


def set_word(rig: Any, register: int, value: int) -> None:
    rig.write(register, *(value & 0xFFFF).to_bytes(2))


# MCP9808


def test_an_mcp9808_shows_the_temperature_of_the_datasheets_example(make: Make) -> None:
    rig = make("mcp9808", temperature=25.25)
    assert (rig.word(6), rig.word(7), rig.word(1), rig.read(1, 8)) == (0x0054, 0x0400, 0, b"\x03")
    rig.part.reset()
    assert rig.word(5) == 0  # no conversion yet
    rig.wait(0.25)
    assert rig.word(5) == 0xC194  # figure 5-5: +25.25 °C, above the limits of 0 °C


@pytest.mark.parametrize(("resolution", "seconds", "raw"), [(0, 0.03, 0x158), (1, 0.065, 0x154), (2, 0.13, 0x156)])
def test_an_mcp9808_rounds_to_its_resolution_and_converts_the_faster_for_it(
    make: Make, resolution: int, seconds: float, raw: int
) -> None:
    rig = make("mcp9808", temperature=21.36)
    rig.part.reset()
    rig.write(8, resolution)
    rig.wait(seconds - 0.001)
    assert rig.word(5) == 0
    rig.wait(0.001)
    assert rig.word(5) & 0x1FFF == raw


def test_an_mcp9808_below_zero(make: Make) -> None:
    rig = make("mcp9808", temperature=-10.5)
    rig.wait(0.25)
    assert rig.word(5) == 0x2000 | (-168 & 0x1FFF)  # below the lower limit


def test_an_mcp9808_that_is_shut_down_keeps_its_last_temperature(make: Make) -> None:
    rig = make("mcp9808", temperature=20.0)
    rig.wait(0.25)
    set_word(rig, 1, 0x0100)
    rig.part.temperature = 30.0
    rig.wait(1)
    assert rig.word(5) & 0x1FFF == 20 * 16
    set_word(rig, 1, 0x0000)
    rig.wait(0.25)
    assert rig.word(5) & 0x1FFF == 30 * 16


def test_locked_limits_of_an_mcp9808_keep_their_value_until_power_on(make: Make) -> None:
    rig = make("mcp9808")
    set_word(rig, 2, 0x05A0)
    set_word(rig, 4, 0x0640)
    set_word(rig, 1, 0x0040)
    set_word(rig, 2, 0)
    set_word(rig, 4, 0x0500)
    set_word(rig, 1, 0x0100)  # can't be shut down either
    assert (rig.word(2), rig.word(4), rig.word(1)) == (0x05A0, 0x0500, 0x0040)
    rig.part.reset()
    assert (rig.word(2), rig.word(4), rig.word(1)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("config", "levels"),  # of the pin at 20, 31, 29.5, 28, 41, 20 °C, with limits 10, 30 and 40 °C
    [
        (0x0008, [1, 0, 1, 1, 0, 1]),
        (0x000A, [0, 1, 0, 0, 1, 0]),
        (0x0208, [1, 0, 0, 1, 0, 1]),
        (0x000C, [1, 1, 1, 1, 0, 1]),
        (0x0000, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_the_alert_of_an_mcp9808_follows_its_limits(make: Make, config: int, levels: list[int]) -> None:
    rig = make("mcp9808", interrupt=25)
    rig.board.line(25).pull("up")
    for register, limit in ((2, 30), (3, 10), (4, 40)):
        set_word(rig, register, limit * 16)
    set_word(rig, 1, config)
    found = []
    for temperature in (20, 31, 29.5, 28, 41, 20):
        rig.part.temperature = temperature
        rig.wait(0.25)
        found.append(rig.level(25))
    assert found == levels


def test_an_interrupt_of_an_mcp9808_lasts_until_the_program_clears_it(make: Make) -> None:
    rig = make("mcp9808", interrupt=25)
    rig.board.line(25).pull("up")
    for register, limit in ((2, 30), (3, 10), (4, 40)):
        set_word(rig, register, limit * 16)
    set_word(rig, 1, 0x0009)
    rig.wait(0.25)
    set_word(rig, 1, 0x0029)
    assert rig.level(25) == 1
    rig.part.temperature = 31
    rig.wait(0.25)
    assert (rig.level(25), rig.word(1) & 0x10) == (0, 0x10)
    set_word(rig, 1, 0x0029)
    assert (rig.level(25), rig.word(1)) == (1, 0x0009)
    rig.part.temperature = 20
    rig.wait(0.25)
    assert rig.level(25) == 0


# LM75


@pytest.mark.parametrize(
    ("temperature", "word"),  # SNIS153D, section 7.3.2: nine bits
    [(125, 0x0FA), (25, 0x032), (0.5, 0x001), (0, 0), (-0.5, 0x1FF), (-25, 0x1CE), (-55, 0x192)],
)
def test_an_lm75_shows_the_temperatures_of_the_datasheets_table(make: Make, temperature: float, word: int) -> None:
    rig = make("lm75", temperature=temperature)
    rig.part.reset()
    assert rig.word(0) == 0
    rig.wait(0.1)
    assert rig.word(0) == word << 7


@pytest.mark.parametrize(
    ("temperature", "word"),  # LM75B data sheet, table 10: eleven bits
    [(127 - 2, 0x3E8), (25, 0x0C8), (0.125, 0x001), (-0.125, 0x7FF), (-25, 0x738), (-55, 0x648)],
)
def test_an_lm75b_has_eleven_bits(make: Make, temperature: float, word: int) -> None:
    rig = make("lm75", temperature=temperature, bits=11)
    rig.wait(0.1)
    assert rig.word(0) == word << 5


@pytest.mark.parametrize(
    ("config", "levels"),  # of the pin at 70, 81, 78, 74, 70, 81 °C, with the limits of power-on: 80 and 75 °C
    [(0x00, [1, 0, 0, 1, 1, 0]), (0x04, [0, 1, 1, 0, 0, 1]), (0x08, [1, 1, 1, 1, 1, 1])],
)
def test_the_thermostat_of_an_lm75_works_without_a_program(make: Make, config: int, levels: list[int]) -> None:
    rig = make("lm75", interrupt=25)
    rig.board.line(25).pull("up")
    rig.write(1, config)
    found = []
    for temperature in (70, 81, 78, 74, 70, 81):
        rig.part.temperature = temperature
        rig.wait(0.1)
        found.append(rig.level(25))
    assert found == levels
    assert (rig.word(2), rig.word(3), rig.read(1, 1)) == (0x4B00, 0x5000, bytes([config]))


def test_an_interrupt_of_an_lm75_ends_when_any_register_is_read(make: Make) -> None:
    rig = make("lm75", interrupt=25, temperature=81)
    rig.board.line(25).pull("up")
    rig.write(1, 0x02)
    rig.wait(0.1)
    assert rig.level(25) == 0
    rig.read(1, 1)
    assert rig.level(25) == 1
    rig.wait(1)
    assert rig.level(25) == 1
    rig.part.temperature = 74
    rig.wait(0.1)
    assert rig.level(25) == 0


def test_an_lm75_counts_faults_before_its_output_moves(make: Make) -> None:
    rig = make("lm75", interrupt=25)
    rig.board.line(25).pull("up")
    rig.write(1, 0x10)  # four
    rig.part.temperature = 81
    rig.wait(0.35)
    assert rig.level(25) == 1
    rig.wait(0.1)
    assert rig.level(25) == 0
