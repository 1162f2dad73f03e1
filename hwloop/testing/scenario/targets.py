"""The targets of steps: the things on a board that a scenario names.

door                 a part, by its name in the board file
door.pressed         a value of a part
line 17              a line of the chip
/dev/ttyAMA0         a serial port; a part on it may be named instead
i2c 1 0x76           a device on an I2C bus; a part may be named instead
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from firmware_sim import Device, SimBoard
from firmware_sim.fields import check_value
from firmware_sim.pins import Line
from firmware_sim.uart import Port
from hwloop.core.naming import error_text
from hwloop.testing.scenario.errors import meant

_LINE = re.compile(r"line (\d+)")
_I2C = re.compile(r"i2c (\d+) (0x[0-9a-fA-F]+)")

Plain = bool | int | float | str


class Address(NamedTuple):
    """The place of an I2C device."""

    bus: int
    address: int

    def __str__(self) -> str:
        return f"i2c {self.bus} {self.address:#04x}"


@dataclass
class Value:
    """A value on the board that a scenario reads or sets."""

    name: str
    read: Callable[[], object]
    write: Callable[[Any], None]
    line: int | None = None
    """The number of the line, if it is the level of one."""
    hint: Any = typing.Any
    """The type of what can be written."""


def find_part(board: SimBoard, name: str) -> Device:
    """Return a part by its name. Raises ValueError."""
    try:
        part: Device = board[name]
    except KeyError as error:
        raise ValueError(f"{error.args[0]}{meant(name, board.names)}") from None
    return part


def find_value(board: SimBoard, target: str) -> Value:
    """Return the level of a line, or a value of a part. Raises ValueError."""
    if _LINE.fullmatch(target):
        line = find_line(board, target)
        return Value(target, lambda: line.level, line.drive, line.number, typing.Literal[0, 1])
    name, dot, attribute = target.partition(".")
    if not dot:
        part = find_part(board, name)
        known = values_of(part)
        shown = next((each for each in known if isinstance(getattr(part, each, None), bool)), (*known, "")[0])
        advice = f"write '{name}.{shown}'; its values are {', '.join(known)}" if known else "it has no values"
        raise ValueError(f"{name!r} is a part and not one of its values; {advice}")
    part = find_part(board, name)
    known = values_of(part)
    if attribute not in known:
        raise ValueError(
            f"{name!r} has no value {attribute!r}; its values are {', '.join(known)}{meant(attribute, known)}"
        )
    hint = typing.get_type_hints(type(part)).get(attribute, Any)

    def write(value: object) -> None:
        setattr(part, attribute, value)

    return Value(target, lambda: getattr(part, attribute), write, None, hint)


def check_writable(board: SimBoard, value: Value, to: object) -> None:
    """Raise ValueError if a value can't be set to `to`."""
    if value.line is None:
        name, _, attribute = value.name.partition(".")
        part = find_part(board, name)
        if attribute in part.fixed_keys:
            raise ValueError(f"{attribute!r} of {name!r} counts while the board is made, and can't change afterwards")
        found = getattr(type(part), attribute, None)
        if isinstance(found, property) and found.fset is None:
            raise ValueError(f"{attribute!r} of {name!r} can be read only")
    check_value(value.name, to, value.hint)


def values_of(part: Device) -> list[str]:
    """Return the names of a part's values: first those that are no keys of a board file."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    keys = {each.name for each in fields if each.init}
    states = {each.name for each in fields if not each.init}
    for kind in type(part).__mro__:
        states.update(name for name, found in vars(kind).items() if isinstance(found, property))
    is_state = {name: name in states for name in keys | states if not name.startswith("_")}
    return sorted(is_state, key=lambda name: (not is_state[name], name))


def find_line(board: SimBoard, target: str) -> Line:
    """Return a line, or that of a part on one line. Raises ValueError."""
    match = _LINE.fullmatch(target)
    if match is not None:
        return board.line(int(match[1]))
    if re.fullmatch(r"(?:GPIO|line|pin)? ?\d+", target, re.IGNORECASE):
        raise ValueError(f"a line is written as 'line {re.sub(r'[^0-9]', '', target)}', not {target!r}")
    number = getattr(find_part(board, target), "line", None)
    if not isinstance(number, int):
        raise ValueError(f"{target!r} is not on one line; write 'line N'")
    return board.line(number)


def find_port(board: SimBoard, target: str) -> Port:
    """Return a serial port, or that of a part. Raises ValueError."""
    if target.startswith("/"):
        try:
            return board.serial(target)
        except KeyError as error:
            raise ValueError(f"{error.args[0]}{meant(target, board.ports)}") from None
    name = getattr(find_part(board, target), "port", None)
    if not isinstance(name, str):
        raise ValueError(f"{target!r} is not on a serial port; write the name of a port such as /dev/ttyAMA0")
    return board.serial(name)


def find_address(board: SimBoard, target: str) -> Address:
    """Return the place of an I2C device or part. Nothing need be there. Raises ValueError."""
    match = _I2C.fullmatch(target)
    if match is not None:
        found = Address(int(match[1]), int(match[2], 16))
    elif target.startswith("i2c "):
        raise ValueError(f"a device on an I2C bus is written as 'i2c 1 0x76', not {target!r}")
    else:
        part = find_part(board, target)
        bus, address = getattr(part, "bus", None), getattr(part, "address", None)
        if not isinstance(bus, int) or not isinstance(address, int):
            raise ValueError(f"{target!r} is not on an I2C bus; write a bus and an address: 'i2c 1 0x76'")
        found = Address(bus, address)
    try:
        board.i2c(found.bus)
    except KeyError as error:
        raise ValueError(str(error.args[0])) from None
    return found


def find_method(board: SimBoard, part: str, name: str) -> Callable[..., object]:
    """Return a method of a part. Raises ValueError."""
    found = getattr(find_part(board, part), name, None)
    if name.startswith("_") or not callable(found):
        kind = type(find_part(board, part))
        public = (each for each in dir(kind) if not each.startswith("_") and each != "attach")
        known = sorted(each for each in public if callable(getattr(kind, each, None)))
        raise ValueError(
            f"{part!r} has no method {name!r}; the methods of a {kind.__name__} are: {', '.join(known) or 'none'}"
            f"{meant(name, known)}"
        )
    return found  # type: ignore[no-any-return]


def value_text(value: object) -> str:
    """Return a value as scenario files write it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def read_text(value: Value) -> str:
    """Return what a value is now, for messages."""
    try:
        return value_text(value.read())
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return f"can't be read: {error_text(error)}"
