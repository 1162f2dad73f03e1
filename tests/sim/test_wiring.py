"""Board files, and the mistakes in them."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard, WiringError
from firmware_sim.devices.pin_parts import Button, Led, Wire
from hwloop import board as boards
from hwloop.errors import HardwareError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "board.toml"
    path.write_text(text)
    return path


def test_a_board_file_makes_its_parts_in_its_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        label = "bench"
        [[device]]
        type = "wire"
        lines = [22, 23]
        [[device]]
        type = "button"
        line = 17
        bounce = 0.002
        press_every = 2
        [[device]]
        type = "led"
        line = 27
        active_low = true
        """,
    )
    with SimBoard(path) as board:
        assert (board.label, board.directory) == ("bench", tmp_path)
        assert board.devices == [Wire([22, 23]), Button(17, bounce=0.002, press_every=2), board.devices[2]]
        assert isinstance(board.devices[2], Led)
        assert board.devices[2].lit


def test_a_mapping_works_like_a_board_file_and_none_means_a_bare_board() -> None:
    with SimBoard({"device": [{"type": "led", "line": 27}]}) as board:
        assert [type(device) for device in board.devices] == [Led]
        assert board.label == "simulated board"
    with SimBoard() as board:
        assert (board.devices, board.ports, list(board.buses)) == ([], {}, [1])


def test_the_default_board_is_as_the_docs_list_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    rows = page.partition("## The default board")[2].partition("\n## ")[0]
    with SimBoard.default() as board:
        named = re.findall(
            r'^\| `"(.+?)"` \| .* \| (?:line (\d+)|`(/dev/\w+)`|I2C bus (\d), address (0x\w+)) \|$', rows, re.M
        )
        assert [board[name] for name, *_ in named] == board.devices
        for name, line, port, bus, address in named:
            if line:
                assert board.line(int(line)).part == f"the {name.replace('led', 'LED')} on line {line}"
            elif port:
                assert board[name].port == port
                assert list(board.ports).count(port) == 1
            else:
                assert board.i2c(int(bus))[int(address, 16)] is board[name]


@pytest.mark.slow
def test_no_part_of_the_default_board_moves_or_joins_a_line() -> None:
    changes = []

    async def main() -> None:
        await asyncio.sleep(3600)

    clock = hwloop.VirtualClock()
    with SimBoard.default(clock=clock) as board:
        for number in range(len(board.chip)):
            line = board.line(number)
            assert line.net.lines == [line]
            line.observe(lambda level, when_ns, number=number: changes.append(number))
        hwloop.run(main(), board=board, clock=clock)
        assert changes == []
        assert not any(line.level for line in map(board.line, range(9, 28)))


def test_a_board_file_is_a_board_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, 'label = "bench"')
    with boards.open_board(str(path)) as board:
        assert board.label == "bench"


MISTAKES = [
    ("label = ", "not valid TOML: Invalid value (at "),
    ("label = 5", ": label must be a string, not 5"),
    ("lable = 'x'", ": unknown key lable; known are device, label"),
    ("device = 5", ": devices are written as [[device]] tables"),
    ("[[device]]\nline = 17", ": device 1: the key type is missing"),
    ("[[device]]\ntype = 'LED'", "did you mean led?"),
    ("[[devices]]\ntype = 'led'", "did you mean device?"),
    ("[[device]]\ntype = 'buton'", ": device 1: unknown type 'buton'; did you mean button?; correct it"),
    ("[[device]]\ntype = 'led'\nline = 1\n[[device]]\ntype = 'button'", ": device 2 (button): missing key line"),
    ("[[device]]\ntype = 'led'\nlines = 1", ": device 1 (led): unknown key lines; known are active_low, line"),
    ("[[device]]\ntype = 'led'\nline = '27'", ": device 1 (led): line must be a whole number, not '27'"),
    ("[[device]]\ntype = 'led'\nline = true", ": device 1 (led): line must be a whole number, not True"),
    ("[[device]]\ntype = 'led'\nline = 2.0", ": device 1 (led): line must be a whole number, not 2.0"),
    ("[[device]]\ntype = 'led'\nline = 1\nactive_low = 0", "(led): active_low must be true or false, not 0"),
    ("[[device]]\ntype = 'wire'\nlines = 22", "(wire): lines must be a list, each a whole number, not 22"),
    (
        "[[device]]\ntype = 'wire'\nlines = [22, 'x']",
        "(wire): lines must be a list, each a whole number, not [22, 'x']",
    ),
    ("[[device]]\ntype = 'wire'\nlines = [22]", "(wire): a wire joins two or more different lines, not [22]"),
    ("[[device]]\ntype = 'button'\nline = 1\npress_every = 'x'", "(button): press_every must be a number, not 'x'"),
    (
        "[[device]]\ntype = 'button'\nline = 1\nhold = nan",
        "hold must be a number that a board can mean, not nan: 0, or",
    ),
    ("[[device]]\ntype = 'button'\nline = 1\npress_every = inf", "press_every must be a number that a board can mean"),
    ("[[device]]\ntype = 'button'\nline = 1\nhold = 1e300", "(button): hold must be a number that a board can mean"),
    ("[[device]]\ntype = 'button'\nline = 1\nhold = 1e-300", "(button): hold must be a number that a board can mean"),
    ("[[device]]\ntype = 'button'\nline = 1\nhold = 9000000000000", "hold must be a number that a board can mean"),
    ("[[device]]\ntype = 'wire'\nlines = [1, 99999999999999999999]", "lines must be a number that a board can mean"),
    ("[[device]]\ntype = 'button'\nline = 1\nhistory = []", "(button): unknown key history"),
    ("[[device]]\ntype = 'led'\nline = 99", "the LED on line 99: line 99 is not on the board; lines are 0 to 53"),
    (
        "[[device]]\ntype = 'led'\nline = 5\n[[device]]\ntype = 'button'\nline = 5",
        "the button on line 5: line 5 is used already, by the LED on line 5",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_named_where_it_stands_and_leaves_nothing(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(WiringError) as caught:
        SimBoard(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith((f"{path}: ", f"board file {path}: "))


@pytest.mark.parametrize("text", [b"\xff\xfe", b"label = '\xff'"])
def test_a_file_that_is_not_text_raises(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(text)
    with pytest.raises(WiringError, match=f"board file {path}: not valid TOML"):
        SimBoard(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=f"board file {tmp_path}/none.toml: No such file or directory"):
        SimBoard(tmp_path / "none.toml")
    with pytest.raises(WiringError, match="Is a directory"):
        SimBoard(tmp_path)


def test_the_mistake_of_a_mapping_is_named_too() -> None:
    wrong: Any = {"device": [{"type": "led"}]}
    with pytest.raises(WiringError, match=r"^wiring: device 1 \(led\): missing key line$"):
        SimBoard(wrong)


def test_a_failing_part_leaves_no_thread_and_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(WiringError):
        SimBoard({"device": [{"type": "button", "line": 17, "press_every": 1.0}, {"type": "led", "line": 17}]})
    assert list(tmp_path.iterdir()) == []


# The board itself.


def test_ports_and_buses_that_are_not_there_are_answered_with_those_that_are() -> None:
    with SimBoard() as board:
        with pytest.raises(
            HardwareError, match="/dev/ttyUSB0: no such port on the simulated board; its ports are: none"
        ):
            board.serial_port("/dev/ttyUSB0")
        with pytest.raises(HardwareError, match="/dev/i2c-7: no such bus on the simulated board; its buses are: 1"):
            board.open_bus(7)
        board.add_port("/dev/ttyAMA0")
        with pytest.raises(WiringError, match="port /dev/ttyAMA0 is used already"):
            board.add_port("/dev/ttyAMA0")
        assert os.path.exists(board.serial_port("/dev/ttyAMA0"))


def test_closing_a_board_twice_is_harmless() -> None:
    board = SimBoard()
    board.close()
    board.close()


def test_an_attached_device_gets_no_attribute_that_it_does_not_have() -> None:
    wiring = {"device": [{"type": "pir", "name": "pir", "line": 4}, {"type": "led", "name": "lamp", "line": 17}]}
    with SimBoard(wiring) as board:
        with pytest.raises(AttributeError, match=r"motion is a method of Pir: call it, motion\(…\)"):
            board["pir"].motion = True
        with pytest.raises(AttributeError, match=r"Pir has no attribute .warmup.; did you mean warm_up\?"):
            board["pir"].warmup = 3
        board["pir"].hold = 3
        board["pir"].attach = lambda board: None  # as a test's mock does
        assert board["pir"].hold == 3
