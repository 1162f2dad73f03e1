"""The simulated PCF8574 (TI SCPS068J) and MCP23017 (Microchip DS20001952D), against their datasheets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import firmware_sim
import hwloop
from firmware_sim import SimBoard, WiringError

Make = Callable[..., Any]


def test_a_pcf8574_has_no_direction(make: Make) -> None:
    rig = make("pcf8574")
    assert rig.read(1) == b"\xff"
    rig.part.drive(7, 0)
    assert rig.read(1) == b"\x7f"
    rig.write(0xF0)
    assert [rig.part.level(pin) for pin in range(8)] == [0, 0, 0, 0, 1, 1, 1, 0]
    rig.part.drive(7, None)
    assert rig.read(2) == b"\xf0\xf0"
    rig.write(0x01, 0x02)  # each byte in turn
    assert rig.read(1) == b"\x02"


def test_driving_a_pin_against_a_low_output_is_a_short_circuit(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rig = make("pcf8574")
    rig.write(0xFE)
    rig.part.drive(0, 1)
    assert rig.read(1) == b"\xfe"
    assert rig.read(1) == b"\xfe"
    [record] = caplog.records
    assert record.message == "short circuit: P0 of the PCF8574 at 0x20 is driven both low and high"


def test_the_interrupt_of_a_pcf8574_ends_with_a_read_or_when_the_pins_are_as_before(make: Make) -> None:
    rig = make("pcf8574", interrupt=4)
    rig.board.line(4).pull("up")
    assert rig.level(4) == 1
    rig.part.drive(3, 0)
    assert rig.level(4) == 0
    rig.part.drive(3, None)
    assert rig.level(4) == 1
    rig.part.drive(3, 0)
    rig.read(1)
    assert rig.level(4) == 1
    rig.part.drive(3, None)
    assert rig.level(4) == 0
    rig.write(0xFF)
    assert rig.level(4) == 1


def test_pins_of_an_expander_are_lines_with_parts_on_them() -> None:
    devices = [
        {"type": "pcf8574", "name": "expander", "lines": [30, 31]},
        {"type": "button", "name": "button", "line": 40},
        {"type": "led", "name": "led", "line": 41},
        {"type": "wire", "lines": [30, 40]},
        {"type": "wire", "lines": [31, 41]},
    ]
    with SimBoard({"device": devices}, clock=hwloop.VirtualClock()) as board:
        smbus = firmware_sim.SMBus(1, board)
        assert board["led"].lit
        assert smbus.read_byte(0x20) == 0xFF
        board["button"].press()
        assert smbus.read_byte(0x20) == 0xFE
        smbus.write_byte(0x20, 0xFD)
        assert not board["led"].lit
        with pytest.raises(ValueError, match="P0 of the PCF8574 at 0x20 is line 30 of the board: drive that"):
            board["expander"].drive(0, 1)
        smbus.close()


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda part: part.drive(0, 2), ValueError, "pin 0: the world drives 0, 1 or None, not 2"),
        (lambda part: part.drive(8, 0), IndexError, "there is no pin 8; the pins are 0 to 7"),
        (lambda part: part.level(-1), IndexError, "there is no pin -1"),
    ],
)
def test_pins_and_levels_that_do_not_exist_raise(
    make: Make, action: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        action(make("pcf8574").part)


def test_more_lines_than_pins_raise() -> None:
    with pytest.raises(WiringError, match="lines must be 8 lines or fewer, not 9"):
        SimBoard({"device": [{"type": "pcf8574", "lines": list(range(28, 37))}]})


# MCP23017


def test_the_pins_of_an_mcp23017_are_inputs_until_the_program_sets_their_direction(make: Make) -> None:
    rig = make("mcp23017")
    assert rig.read(22, 0x00) == b"\xff\xff" + bytes(20)  # table 3-1: reset values
    rig.write(0x14, 0xFF, 0xFF)
    assert rig.read(2, 0x12) == b"\0\0"
    rig.write(0x00, 0xF0, 0x00)
    assert rig.read(2, 0x12) == b"\x0f\xff"
    rig.write(0x12, 0x05)  # a write to GPIO changes the latch
    assert rig.read(1, 0x14) == b"\x05"
    assert [rig.part.level(pin) for pin in (0, 1, 2, 8)] == [1, 0, 1, 1]


def test_pull_ups_and_inverted_inputs_of_an_mcp23017(make: Make) -> None:
    rig = make("mcp23017")
    rig.write(0x0C, 0xFF)
    rig.part.drive(0, 0)
    assert rig.read(1, 0x12) == b"\xfe"
    rig.write(0x02, 0xFF)
    assert rig.read(1, 0x12) == b"\x01"


def test_the_registers_of_an_mcp23017_in_two_banks(make: Make) -> None:
    rig = make("mcp23017")
    rig.write(0x0A, 0x80)
    rig.write(0x00, 0x11)
    rig.write(0x10, 0x22)
    rig.write(0x05, 0x00)  # IOCON has another address now
    assert rig.read(2, 0x00) == b"\x11\x22"


def test_the_pointer_of_an_mcp23017_stays_without_sequential_operation(make: Make) -> None:
    rig = make("mcp23017")
    rig.write(0x0A, 0x20)
    rig.write(0x00, 0x01, 0x02, 0x03, 0x04)  # IODIRA and IODIRB in turn
    assert rig.read(4, 0x00) == b"\x03\x04\x03\x04"
    rig.write(0x0A, 0xA0)
    rig.write(0x00, 0x01, 0x02)
    assert rig.read(2, 0x00) == b"\x02\x02"


def test_an_interrupt_of_an_mcp23017_on_change_ends_when_the_port_is_read(make: Make) -> None:
    rig = make("mcp23017", interrupt=17, interrupt_b=27)
    assert (rig.level(17), rig.level(27)) == (1, 1)
    rig.write(0x0C, 0xFF, 0xFF)
    rig.write(0x04, 0x0F, 0xFF)
    rig.part.drive(4, 0)
    assert rig.level(17) == 1  # not enabled
    rig.part.drive(1, 0)
    assert (rig.level(17), rig.level(27)) == (0, 1)
    rig.part.drive(0, 0)
    assert rig.read(4, 0x0E) == b"\x02\0" + b"\xed\0"  # the first change, and the port as it was then
    assert rig.level(17) == 1
    rig.part.drive(1, None)
    assert rig.level(17) == 0
    assert rig.read(1, 0x12) == b"\xee"
    assert rig.level(17) == 1
    rig.part.drive(15, 0)
    assert (rig.level(17), rig.level(27)) == (1, 0)


def test_an_interrupt_of_an_mcp23017_lasts_while_a_pin_differs_from_its_default(make: Make) -> None:
    rig = make("mcp23017", interrupt=17)
    rig.write(0x0C, 0x01)
    rig.write(0x06, 0x01)
    rig.write(0x08, 0x01)
    rig.write(0x04, 0x01)
    rig.part.drive(0, 0)
    rig.read(1, 0x12)
    assert rig.level(17) == 0
    rig.part.drive(0, 1)
    rig.read(1, 0x12)
    assert rig.level(17) == 1


@pytest.mark.parametrize(
    ("config", "idle", "active"), [(0x40, (1, 1), (0, 0)), (0x02, (0, 0), (1, 0)), (0x04, (1, 1), (0, 1))]
)
def test_the_interrupt_outputs_of_an_mcp23017(
    make: Make, config: int, idle: tuple[int, int], active: tuple[int, int]
) -> None:
    rig = make("mcp23017", interrupt=17, interrupt_b=27)
    for line in (17, 27):
        rig.board.line(line).pull("up")
    rig.write(0x0A, config)
    rig.write(0x04, 0x01)
    assert (rig.level(17), rig.level(27)) == idle
    rig.part.drive(0, 1)
    assert (rig.level(17), rig.level(27)) == active
