"""Board files: what is wired where, in TOML, checked so that a mistake is named where it stands.

    label = "weather station"
    revision = "c03111"

    [[device]]
    type = "button"
    line = 17

A device's keys are the fields of its dataclass, so a new device needs no code here.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from firmware_sim.board import SimBoard

# Where each type lives; imported when a board file names it, so that a pin-only board pulls in no bus.
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


class WiringError(ValueError):
    """A board file, or a wiring given as a mapping, that can't be built; the message says where and what is known."""


class Device(Protocol):
    """A part on the board: a dataclass whose fields are its keys in a board file."""

    def attach(self, board: SimBoard) -> None:
        """Connect to the board's lines, ports or bus. Raises `WiringError`."""


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A checked board file."""

    label: str
    revision: int
    """The Raspberry Pi that it poses as, as a revision code."""
    devices: tuple[Device, ...]
    directory: Path
    """What relative paths in the file are relative to."""
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
    """Check a wiring given as a mapping and make its devices. Raises `WiringError`."""
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
    devices = tuple(_make(entry, f"{where}: device {number}") for number, entry in enumerate(entries, 1))
    return Wiring(label, revision, devices, directory or Path(), where)


def _make(entry: dict[str, object], where: str) -> Device:
    name = entry.get("type")
    if not isinstance(name, str) or name not in DEVICES:
        raise WiringError(f"{where}: unknown type {name!r}; known are {_listed(DEVICES)}")
    module, _, attribute = DEVICES[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    where = f"{where} ({name})"
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    given = {key: value for key, value in entry.items() if key != "type"}
    if unknown := given.keys() - fields.keys():
        raise WiringError(f"{where}: unknown key {_listed(unknown)}; known are {_listed(fields)}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := required - given.keys():
        raise WiringError(f"{where}: missing key {_listed(missing)}")
    hints = typing.get_type_hints(cls)
    for key, value in given.items():
        if not _fits(value, hints[key]):
            raise WiringError(f"{where}: {key} must be {_named(hints[key])}, not {value!r}")
    try:
        device: Device = cls(**given)
    except (ValueError, TypeError) as error:
        raise WiringError(f"{where}: {error}") from error
    return device


def _fits(value: object, hint: object) -> bool:
    """Whether a TOML value is of an annotated type; only the types that board files use."""
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
    """A type as a writer of board files would say it."""
    names: dict[object, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if hint in names:
        return names[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f"a list, each {_named(arguments[0])}"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    return " or ".join(_named(argument) for argument in arguments if argument is not type(None))


def _listed(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names))
