"""Board files: the devices of a board and their wiring, in TOML, checked so that an error names its place.

    label = "weather station"
    revision = "c03111"
    pwm = [12, 13]

    [[device]]
    type = "button"
    name = "door"
    line = 17

    [[device]]
    type = "my_package.devices:Relay"
    line = 26

A device's type is a name of `DEVICES`, the name of an entry point of the group `hwloop.devices`, or the path of a
class. `board[name]` finds the device that has the key `name`. The other keys are the fields of its dataclass, so a new
device needs no code here.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firmware_sim import raspberry_pi
from firmware_sim.device import Device
from firmware_sim.errors import WiringError
from firmware_sim.fields import FieldError, check_fields, listed
from firmware_sim.port_files import PortSettings, port_settings
from hwloop import plugins
from hwloop.errors import HardwareError, suggestion

# Imported when a board file names one.
DEVICES = {
    "28byj-48": "firmware_sim.devices.stepper_28byj:Stepper28byj",
    "74hc595": "firmware_sim.devices.shift_register:ShiftRegister",
    "a4988": "firmware_sim.devices.a4988:A4988",
    "ads1015": "firmware_sim.devices.ads1015:Ads1015",
    "ads1115": "firmware_sim.devices.ads1115:Ads1115",
    "ads7830": "firmware_sim.devices.ads7830:Ads7830",
    "aht20": "firmware_sim.devices.aht20:Aht20",
    "at-modem": "firmware_sim.devices.at_modem:AtModem",
    "bme280": "firmware_sim.devices.bme280:Bme280",
    "bme680": "firmware_sim.devices.bme680:Bme680",
    "bmp280": "firmware_sim.devices.bmp280:Bmp280",
    "button": "firmware_sim.devices.pin_parts:Button",
    "buzzer": "firmware_sim.devices.buzzer:Buzzer",
    "dht11": "firmware_sim.devices.dht22:Dht11",
    "dht22": "firmware_sim.devices.dht22:Dht22",
    "drv8833": "firmware_sim.devices.motor_bridge:Drv8833",
    "ds18b20": "firmware_sim.devices.ds18b20:Ds18b20",
    "ds3231": "firmware_sim.devices.ds3231:Ds3231",
    "dsmr-meter": "firmware_sim.devices.dsmr_meter:DsmrMeter",
    "flash": "firmware_sim.devices.flash:Flash",
    "flow-meter": "firmware_sim.devices.flow_meter:FlowMeter",
    "gps": "firmware_sim.devices.gps:Gps",
    "h-bridge": "firmware_sim.devices.motor_bridge:HBridge",
    "hc-sr04": "firmware_sim.devices.hc_sr04:HcSr04",
    "htu21d": "firmware_sim.devices.htu21d:Htu21d",
    "ina219": "firmware_sim.devices.ina219:Ina219",
    "ir-receiver": "firmware_sim.devices.ir_receiver:IrReceiver",
    "joystick": "firmware_sim.devices.joystick:Joystick",
    "keyboard": "firmware_sim.devices.keyboard:Keyboard",
    "keypad": "firmware_sim.devices.keypad:Keypad",
    "l298n": "firmware_sim.devices.motor_bridge:L298n",
    "lcd1602": "firmware_sim.devices.lcd1602:Lcd1602",
    "led": "firmware_sim.devices.pin_parts:Led",
    "lm75": "firmware_sim.devices.lm75:Lm75",
    "max31855": "firmware_sim.devices.max31855:Max31855",
    "mcp23017": "firmware_sim.devices.mcp23017:Mcp23017",
    "mcp3002": "firmware_sim.devices.mcp3008:Mcp3002",
    "mcp3004": "firmware_sim.devices.mcp3008:Mcp3004",
    "mcp3008": "firmware_sim.devices.mcp3008:Mcp3008",
    "mcp3202": "firmware_sim.devices.mcp3008:Mcp3202",
    "mcp3204": "firmware_sim.devices.mcp3008:Mcp3204",
    "mcp3208": "firmware_sim.devices.mcp3008:Mcp3208",
    "mcp4131": "firmware_sim.devices.mcp4131:Mcp4131",
    "mcp4251": "firmware_sim.devices.mcp4131:Mcp4251",
    "mcp9808": "firmware_sim.devices.mcp9808:Mcp9808",
    "mfrc522": "firmware_sim.devices.mfrc522:Mfrc522",
    "mh-z19": "firmware_sim.devices.mh_z19:MhZ19",
    "modbus-slave": "firmware_sim.devices.modbus_slave:ModbusSlave",
    "modbus-temperature": "firmware_sim.devices.modbus:ModbusTemperature",
    "mpu6050": "firmware_sim.devices.mpu6050:Mpu6050",
    "pca9685": "firmware_sim.devices.pca9685:Pca9685",
    "pcf8574": "firmware_sim.devices.pcf8574:Pcf8574",
    "pcf8591": "firmware_sim.devices.pcf8591:Pcf8591",
    "photoresistor": "firmware_sim.devices.photoresistor:Photoresistor",
    "pir": "firmware_sim.devices.pir:Pir",
    "pms5003": "firmware_sim.devices.pms5003:Pms5003",
    "potentiometer": "firmware_sim.devices.potentiometer:Potentiometer",
    "rdm6300": "firmware_sim.devices.rdm6300:Rdm6300",
    "reed-switch": "firmware_sim.devices.reed_switch:ReedSwitch",
    "relay": "firmware_sim.devices.relay:Relay",
    "rgb-led": "firmware_sim.devices.rgb_led:RgbLed",
    "rotary-encoder": "firmware_sim.devices.rotary_encoder:RotaryEncoder",
    "scd40": "firmware_sim.devices.scd40:Scd40",
    "sds011": "firmware_sim.devices.sds011:Sds011",
    "servo": "firmware_sim.devices.servo:Servo",
    "sht31": "firmware_sim.devices.sht31:Sht31",
    "ssd1306": "firmware_sim.devices.ssd1306:Ssd1306",
    "tcs34725": "firmware_sim.devices.tcs34725:Tcs34725",
    "tm1637": "firmware_sim.devices.tm1637:Tm1637",
    "vl53l0x": "firmware_sim.devices.vl53l0x:Vl53l0x",
    "wire": "firmware_sim.devices.pin_parts:Wire",
}

_KEYS = {"device", "label", "port", "pwm", "revision"}
_PWM_LINES = (12, 13, 18, 19)
REVISION = "c03111"
"""The Raspberry Pi that a board poses as unless it says otherwise: a 4 Model B."""


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A checked board file."""

    label: str
    revision: int
    """The Raspberry Pi that it poses as, as a revision code."""
    devices: tuple[Device, ...]
    names: Mapping[str, Device]
    """The devices that have a key `name`, which any device may have."""
    pwm: tuple[int, ...]
    """The lines of its PWM channels."""
    ports: Mapping[str, PortSettings]
    """The settings of serial ports, by their names."""
    directory: Path
    """The directory in which relative paths of the file begin."""
    where: str
    """The file's name, for messages."""
    pwm_given: bool = False
    """Whether it says which lines the PWM drives, so that outputs on them use it."""


def load(path: str | os.PathLike[str]) -> Wiring:
    """Read a board file. Raises `WiringError`."""
    where = Path(path)
    try:
        document = copy.deepcopy(_document(where.read_text(encoding="utf-8")))
    except OSError as error:
        raise WiringError(f"board file {where}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WiringError(f"board file {where}: not valid TOML: {error}") from error
    return parse(document, str(where), where.parent)


@functools.lru_cache(maxsize=32)
def _document(text: str) -> dict[str, Any]:
    """Parse TOML; tests open the same board hundreds of times."""
    return tomllib.loads(text)


def parse(document: Mapping[str, object], where: str = "wiring", directory: Path | None = None) -> Wiring:
    """Check a mapping of the shape of a board file and make its devices. Raises `WiringError`."""
    if unknown := document.keys() - _KEYS:
        meant = suggestion(min(unknown), _KEYS)
        raise WiringError(f"{where}: unknown key {listed(unknown)}; known are {listed(_KEYS)}{meant}")
    label = document.get("label", "simulated board")
    if not isinstance(label, str):
        raise WiringError(f"{where}: label must be a string, not {label!r}")
    code = document.get("revision", REVISION)
    try:
        revision = int(str(code), base=16)
    except ValueError:
        raise WiringError(
            f"{where}: revision must be a Raspberry Pi's revision code in hexadecimal like {REVISION!r}, not {code!r}"
        ) from None
    pwm = document.get("pwm", list(raspberry_pi.model(revision).pwm_lines))
    if not isinstance(pwm, list) or len(set(map(str, pwm))) < len(pwm) or any(line not in _PWM_LINES for line in pwm):
        lines = ", ".join(map(str, _PWM_LINES))
        raise WiringError(f"{where}: pwm must be the lines of the PWM channels, each one of {lines}, not {pwm!r}")
    ports = port_settings(document.get("port", []), where)
    entries = document.get("device", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WiringError(f"{where}: devices are written as [[device]] tables")
    devices, names = list[Device](), dict[str, Device]()
    for number, entry in enumerate(entries, 1):
        place = f"{where}: device {number}"
        name = entry.get("name", "")
        if not isinstance(name, str) or ("name" in entry and not name.strip()):
            raise WiringError(f"{place}: name must be a string that is not empty, not {name!r}")
        if name in names:
            raise WiringError(f"{place}: the name {name!r} is used already, by device {devices.index(names[name]) + 1}")
        devices.append(_make(entry, place, directory))
        if name:
            names[name] = devices[-1]
    return Wiring(
        label, revision, tuple(devices), names, tuple(pwm), ports, directory or Path(), where, "pwm" in document
    )


def _make(entry: dict[str, Any], where: str, directory: Path | None) -> Device:
    name = entry.get("type")
    kind, path = device_class(name, where, directory)
    where = f"{where} ({name})"
    taken = {field.name for field in dataclasses.fields(kind) if field.init}
    given = {key: value for key, value in entry.items() if key != "type" and (key != "name" or key in taken)}
    try:
        check_fields(kind, given, also=("name",))
    except FieldError as error:
        if name in DEVICES:  # logs a package whose device has this name, and was perhaps meant
            plugins.installed(plugins.DEVICES, DEVICES)
        raise WiringError(f"{where}: {error}") from error
    try:
        device: Device = plugins.make(kind, path, given)
    except plugins.PluginError as error:
        cause = error.__cause__
        # A value that a device rejects is the board file's mistake, and the device's words say which.
        raise WiringError(f"{where}: {cause if isinstance(cause, ValueError | TypeError) else error}") from cause
    except HardwareError as error:
        raise WiringError(f"{where}: {error}") from error
    return device


def device_class(name: object, where: str, directory: Path | None = None) -> tuple[type[Any], str]:
    """Return the class of a device's type, and the path from which it was imported. Raises `WiringError`."""
    path = DEVICES.get(name) if isinstance(name, str) else None
    if path is None and isinstance(name, str):
        path = name if ":" in name else plugins.installed(plugins.DEVICES, DEVICES).get(name)
    if name is None:
        raise WiringError(
            f"{where}: the key type is missing, such as type = \"button\"; 'hwloop parts' lists all types"
        )
    if path is None:
        known = {*DEVICES, *plugins.installed(plugins.DEVICES, DEVICES)}
        meant = suggestion(str(name).lower(), known)
        raise WiringError(
            f"{where}: unknown type {name!r}{meant}; correct it, install the package that provides it, or write "
            f"package.module:Class; known are {listed(known)}"
        )
    try:
        kind = plugins.load_class(path, beside=directory)
    except plugins.PluginError as error:
        raise WiringError(f"{where}: {error}") from error
    if not issubclass(kind, Device):
        raise WiringError(f"{where}: {path} is not a device; derive it from firmware_sim.Device")
    if not dataclasses.is_dataclass(kind):
        raise WiringError(f"{where}: {path} is not a dataclass; decorate it with @dataclasses.dataclass")
    if unwritten := getattr(kind, "__abstractmethods__", frozenset()):
        raise WiringError(
            f"{where}: {path} lacks the method {listed(unwritten)}; write it, as firmware_sim.Device says"
        )
    return kind, path
