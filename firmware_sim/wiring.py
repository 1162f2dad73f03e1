"""Board files: the devices of a board and their wiring, in TOML, checked so that an error names its place.

    label = "weather station"
    revision = "c03111"

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

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firmware_sim.device import Device
from firmware_sim.errors import WiringError
from hwloop import plugins
from hwloop.core.naming import error_text
from hwloop.errors import HardwareError

# Imported when a board file names one.
DEVICES = {
    "bme280": "firmware_sim.devices.bme280:Bme280",
    "button": "firmware_sim.devices.pin_parts:Button",
    "gps": "firmware_sim.devices.gps:Gps",
    "led": "firmware_sim.devices.pin_parts:Led",
    "modbus-temperature": "firmware_sim.devices.modbus:ModbusTemperature",
    "wire": "firmware_sim.devices.pin_parts:Wire",
}

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
    directory: Path
    """The directory in which relative paths of the file begin."""
    where: str
    """The file's name, for messages."""


def load(path: str | os.PathLike[str]) -> Wiring:
    """Read a board file. Raises `WiringError`."""
    where = Path(path)
    try:
        document = tomllib.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        raise WiringError(f"board file {where}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WiringError(f"board file {where}: not valid TOML: {error}") from error
    return parse(document, str(where), where.parent)


def parse(document: Mapping[str, object], where: str = "wiring", directory: Path | None = None) -> Wiring:
    """Check a mapping of the shape of a board file and make its devices. Raises `WiringError`."""
    if unknown := document.keys() - {"label", "revision", "device"}:
        raise WiringError(f"{where}: unknown key {_listed(unknown)}; known are device, label, revision")
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
    return Wiring(label, revision, tuple(devices), names, directory or Path(), where)


def _make(entry: dict[str, Any], where: str, directory: Path | None) -> Device:
    name = entry.get("type")
    kind, path = _device_class(name, where, directory)
    where = f"{where} ({name})"
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    given = {key: value for key, value in entry.items() if key != "type" and (key != "name" or key in fields)}
    if unknown := given.keys() - fields.keys():
        raise WiringError(f"{where}: unknown key {_listed(unknown)}; known are {_listed({'name', *fields})}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := required - given.keys():
        raise WiringError(f"{where}: missing key {_listed(missing)}")
    hints = _hints(kind, where)
    for key, value in given.items():
        if not _fits(value, hints[key]):
            raise WiringError(f"{where}: {key} must be {_named(hints[key])}, not {value!r}")
    try:
        device: Device = plugins.make(kind, path, given)
    except plugins.PluginError as error:
        cause = error.__cause__
        # A value that a device rejects is the board file's mistake, and the device's words say which.
        raise WiringError(f"{where}: {cause if isinstance(cause, ValueError | TypeError) else error}") from cause
    except HardwareError as error:
        raise WiringError(f"{where}: {error}") from error
    return device


def _device_class(name: object, where: str, directory: Path | None) -> tuple[type[Any], str]:
    """Return the class of a device's type, and the path from which it was imported. Raises `WiringError`."""
    path = DEVICES.get(name) if isinstance(name, str) else None
    if path is None and isinstance(name, str):
        path = name if ":" in name else plugins.installed(plugins.DEVICES).get(name)
    if path is None:
        known = _listed({*DEVICES, *plugins.installed(plugins.DEVICES)})
        raise WiringError(f"{where}: unknown type {name!r}; known are {known}, or write package.module:Class")
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
            f"{where}: {path} lacks the method {_listed(unwritten)}; write it, as firmware_sim.Device says"
        )
    return kind, path


def _hints(kind: type[Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise WiringError(
            f"{where}: the annotations of {kind.__qualname__} can't be read: {error_text(error)}; "
            "a name that is imported for type checking only does not exist here"
        ) from error


def _fits(value: object, hint: object) -> bool:
    """Return whether a TOML value is of an annotated type, of those that board files use."""
    if hint in (typing.Any, object):
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(hint, type) and isinstance(value, hint)


def _named(hint: object) -> str:
    """Return a type's name for writers of board files."""
    names: dict[object, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if hint in names:
        return names[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f"a list, each {_named(arguments[0])}"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if not arguments:
        return f"of type {getattr(hint, '__name__', hint)}"
    return " or ".join(_named(argument) for argument in arguments if argument is not type(None))


def _listed(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names))
