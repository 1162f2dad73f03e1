"""The devices of a program: those that its text shows, and those that a user names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hwloop.deployment import devices


def look(text: str, own: tuple[str, ...] = ()) -> devices.Devices:
    look = devices.Look(own)
    look.read(ast.parse(text))
    return look.devices()


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("from hwloop import gpio, serial", ("gpio", "dialout")),
        ("import hwloop\nasync def main():\n    hwloop.i2c.open(1)", ("i2c",)),
        ("import hwloop.spi", ("spi",)),
        ("from gpiozero import LED", ("gpio",)),
        ("from gpiozero import MCP3008", ("gpio", "spi")),
        ("import smbus2, evdev", ("i2c", "input")),
        ("import asyncio, json, aiohttp, hwloop", ()),
        ("import helper", ()),
        ("open('/dev/spidev0.0')", ("spi",)),
        ("print('/dev/null')", ()),
    ],
)
def test_imports_and_nodes_show_the_devices(text: str, groups: tuple[str, ...]) -> None:
    assert look(text, own=("helper",)).groups == groups


@pytest.mark.parametrize("text", ["import adafruit_dht", "from hwloop import *", "import smbus2, mystery"])
def test_a_module_that_nobody_knows_may_open_all_usual_kinds_and_the_unit_says_so(text: str) -> None:
    found = look(text)
    assert found.groups == ("gpio", "i2c", "spi", "dialout")
    assert "which may open any; --device narrows it down" in found.because


def test_the_reason_names_the_import() -> None:
    assert look("import smbus2").because == "i2c, because it imports smbus2"
    assert look("import json").because == "none, because the program uses none"


@pytest.mark.parametrize(
    ("text", "keeps"),
    [("gpio.output(1, keep=True)", True), ("gpio.output(1, keep=wanted)", True), ("gpio.output(1, keep=False)", False)],
)
def test_an_output_that_may_outlive_the_program_needs_a_guardian(text: str, keeps: bool) -> None:
    look = devices.Look()
    look.read(ast.parse(text))
    assert look.keeps_outputs is keeps


@pytest.mark.parametrize(
    ("text", "libraries"),
    [
        ("from gpiozero import LED, Button", "gpiozero"),
        ("import gpiozero", "gpiozero"),
        ("import lgpio\nfrom RPi import GPIO", "RPi.GPIO and lgpio"),
        ("from gpiozero import Button, MotionSensor", ""),
        ("from hwloop import gpio\nimport smbus2", ""),
    ],
)
def test_a_program_that_drives_lines_without_safe_levels_gets_a_note(text: str, libraries: str) -> None:
    look = devices.Look()
    look.read(ast.parse(text))
    assert look.note_on_outputs().startswith(
        f"outputs that the program drives by {libraries} have" if libraries else ""
    )
    assert bool(look.note_on_outputs()) is bool(libraries)


@pytest.mark.parametrize(
    "text", ["service.reloadable(read)", "from hwloop.service import reloadable\nreloadable(read)"]
)
def test_a_program_that_reloads_gets_the_signal_by_its_unit(text: str) -> None:
    look = devices.Look()
    look.read(ast.parse(text))
    assert look.reloads
    look = devices.Look()
    look.read(ast.parse("service.supervised()"))
    assert not look.reloads


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import aiomqtt", "it imports aiomqtt"),
        ("from urllib.request import urlopen", "it imports urllib"),
        ("reader, writer = await asyncio.open_connection('10.0.0.7', 1883)", "it calls open_connection"),
        ("serial.open('socket://10.0.0.7:4001')", "it has the address of a server"),
        ('"""Documentation: see https://example.org for more."""\nfrom hwloop import gpio, serial', ""),
        ("from .http import x", ""),
        ("import mystery, smbus2", "it imports mystery, which may use it; --no-network forbids it"),
    ],
)
def test_a_program_gets_the_network_if_its_text_shows_that_it_wants_it(text: str, reason: str) -> None:
    look = devices.Look()
    look.read(ast.parse(f"async def main():\n    {text}" if "await" in text else text))
    assert look.reason_for_network(None) == reason
    assert look.reason_for_network(False) == ""
    assert look.reason_for_network(True) == "--network permits it"


def test_a_port_is_allowed_by_its_kind_so_that_it_may_be_plugged_in_later() -> None:
    assert devices.named(["/dev/ttyUSB0"]).rules == ("char-ttyUSB",)
    assert devices.named(["/dev/serial/by-id/usb-FTDI_x"]).rules == ("char-ttyUSB", "char-ttyACM")
    assert devices.named(["/dev/serial0"]).groups == ("dialout",)


def test_another_node_is_allowed_by_its_path() -> None:
    found = devices.named(["/dev/null", "gpio"])
    assert found.rules == ("/dev/null", "char-gpiochip")
    assert found.groups == ("gpio",)


@pytest.mark.parametrize("name", ["/dev/../x", "/etc/passwd", "/dev/", "/dev/a b", "/dev/x\nUser=root", "all"])
def test_anything_else_is_no_device(name: str) -> None:
    with pytest.raises(ValueError, match="is no device"):
        devices.named([name])


def test_the_examples_show_all_of_their_devices() -> None:
    examples = Path(__file__).parents[2] / "examples"
    for program in ("weather_station.py", "greenhouse.py"):
        assert "may open any" not in look((examples / program).read_text(encoding="utf-8")).because
