"""`hwloop parts`: the list, one part in full, JSON, pictures, and what can be wrong about the arguments."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from firmware_sim.catalog import FAMILIES
from firmware_sim.wiring import DEVICES
from hwloop.cli import main

SVG = "{http://www.w3.org/2000/svg}"


def test_all_parts_are_listed_by_the_way_they_are_connected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts"]) == 0
    out = capsys.readouterr().out
    headings = [line for line in out.splitlines() if not line.startswith(" ")]
    assert headings == [f"{family}:" for family in FAMILIES if f"{family}:" in headings]
    assert {"lines:", "I2C:", "serial:"} <= set(headings)
    for name in DEVICES:
        assert f"\n  {name}  " in out
    assert "keys:   trigger, echo, distance = 1.0 metres, temperature = 20.0 °C" in out
    assert "wiring: DATA to the line with 10 kΩ to 3.3 V" in out


def test_a_kind_selects_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "serial"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("serial:\n")
    assert "  gps  " in out
    assert "  led  " not in out


def test_one_part_is_shown_in_full_with_a_table_for_a_board_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "hc-sr04"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("hc-sr04  An HC-SR04 ultrasonic distance sensor.\n")
    assert "  trigger      a whole number, required: the line that starts a measurement.\n" in out
    assert "  distance     a number, default 1.0 metres: metres to the obstacle" in out
    assert '  [[device]]\n  type = "hc-sr04"\n  trigger = 17\n  echo = 27\n' in out


def test_optional_keys_and_kinds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "buzzer"]) == 0
    assert "  pitch    a number (Hz), optional: the frequency of an active buzzer" in capsys.readouterr().out
    assert main(["parts", "lines", "1-wire"]) == 0
    out = capsys.readouterr().out
    assert "keys:   line, [pitch], current = 5.0 mA" in out
    assert out.partition("1-Wire:\n")[2].startswith("  ds18b20  ")


def test_a_part_of_another_package_is_listed_and_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("garden_parts.py").write_text(
        "from dataclasses import dataclass\nfrom firmware_sim import Device\n"
        "@dataclass\nclass Pump(Device):\n    '''A garden pump.'''\n    line: int\n    def attach(self, board): ...\n"
    )
    about = tmp_path / "garden-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: garden\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hwloop.devices]\npump = garden_parts:Pump\nbroken = no_such:Part\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["parts", "pump"]) == 0
    assert "A garden pump." in capsys.readouterr().out
    assert main(["parts", "garden_parts:Pump", "led"]) == 0
    assert 'type = "garden_parts:Pump"' in capsys.readouterr().out
    assert main(["parts"]) == 1  # one can't be loaded, and the others are listed all the same
    said = capsys.readouterr()
    assert "  pump  A garden pump.\n" in said.out
    assert "hwloop parts: parts: no_such:Part: there is no module no_such; install its package" in said.err


def test_json_has_every_key_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "--json"]) == 0
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)}
    assert parts.keys() >= DEVICES.keys()
    assert parts["led"]["family"] == "lines"
    assert parts["led"]["class"] == "firmware_sim.devices.pin_parts:Led"
    line, active_low, resistor = parts["led"]["keys"]
    assert (line["required"], "default" in line) == (True, False)
    assert (active_low["default"], active_low["type"]) == (False, "true or false")
    assert resistor["unit"] == "Ω"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hcsr04"], "no part 'hcsr04'; did you mean hc-sr04?; 'hwloop parts' lists all"),
        (["HC-SR04"], "no part 'HC-SR04'; did you mean hc-sr04?; 'hwloop parts' lists all"),
        (["serails"], "no part 'serails'; did you mean serial?"),
        (["qqqq"], "no part 'qqqq'; 'hwloop parts' lists all"),
        (["--svg", "x.svg"], "--board and --svg belong together"),
        (["--board", "x.toml", "--svg", "x.svg", "led"], "--svg draws a board; it takes no names"),
    ],
)
def test_wrong_arguments_have_a_hint(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"hwloop parts: {message}")


BOARD = """
label = "bench <1>"
[[device]]
type = "hc-sr04"
name = "eye"
trigger = 23
echo = 24
[[device]]
type = "bme280"
[[device]]
type = "gps"
port = "/dev/ttyAMA0"
[[device]]
type = "modbus-temperature"
port = "/dev/ttyUSB0"
[[device]]
type = "wire"
lines = [5, 6]
[[device]]
type = "keypad"
rows = [13, 19]
columns = [12, 16]
keys = "1234"
"""


def test_a_board_is_drawn_with_a_wire_for_each_pin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD)
    assert main(["parts", "--board", str(board), "--svg", str(tmp_path / "board.svg")]) == 0
    assert "board.svg: bench <1>, 6 parts" in capsys.readouterr().out
    drawn = ElementTree.parse(tmp_path / "board.svg").getroot()
    texts = {element.text for element in drawn.iter(f"{SVG}text")}
    assert texts >= {"bench <1>", "eye", "hc-sr04", "trigger 23", "echo 24", "SDA 2", "SCL 3", "RX 14", "TX 15"}
    assert texts >= {"/dev/ttyUSB0", "rows[1] 19", "line 5", "I2C bus 1, address 0x76", "GPIO17"}
    assert len(list(drawn.iter(f"{SVG}path"))) == 2 + 2 + 2 + 2 + 4
    assert main(["parts", "--board", str(board), "--svg", "-"]) == 0
    assert capsys.readouterr().out.startswith("<svg ")


def test_the_default_board_is_drawn_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "--board", "sim", "--svg", "-"]) == 0
    assert ">bme280</text>" in capsys.readouterr().out


def test_a_board_that_does_not_exist_or_a_directory_that_does_not_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["parts", "--board", str(tmp_path / "none.toml"), "--svg", "-"]) == 2
    assert "none.toml: No such file or directory\n" in capsys.readouterr().err
    (tmp_path / "twice.toml").write_text('[[device]]\ntype = "led"\nline = 4\n' * 2)
    assert main(["parts", "--board", str(tmp_path / "twice.toml"), "--svg", "-"]) == 2
    assert "the LED on line 4: line 4 is used already, by the LED on line 4\n" in capsys.readouterr().err
    board = tmp_path / "board.toml"
    board.write_text(BOARD)
    assert main(["parts", "--board", str(board), "--svg", str(tmp_path / "no" / "x.svg")]) == 1
    assert "no such file or directory" in capsys.readouterr().err


def test_a_part_in_full_shows_what_a_test_can_do_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "pir", "keypad"]) == 0
    out = capsys.readouterr().out
    assert 'In a test, with name = "pir":\n  board["pir"].motion()    # Move something in front of the sensor.\n' in out
    assert 'board["keypad"].press(key)' in out
    assert "attach" not in out
    assert main(["parts", "led", "--json"]) == 0
    (led,) = json.loads(capsys.readouterr().out)
    assert {"name": "lit", "meaning": "Whether it is lit now."} in led["actions"]
