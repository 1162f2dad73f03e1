"""The catalog of parts: each type of a board file with its keys, their types, defaults, units and meanings.

All of it comes from the classes themselves: keys from the fields, units from the limits, meanings from the docstring,
wiring and use from two class attributes. So a part of another package is listed like those of this one.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from firmware_sim.device import Device
from firmware_sim.errors import WiringError
from firmware_sim.fields import named
from firmware_sim.limits import limits_of
from firmware_sim.onewire import OneWireDevice
from firmware_sim.wiring import DEVICES, device_class
from hwloop import plugins
from hwloop.core.naming import error_text

Family = Literal["lines", "analog", "I2C", "SPI", "1-Wire", "serial", "other"]
FAMILIES: tuple[Family, ...] = typing.get_args(Family)

_DEVICES = re.compile(r"firmware_sim\.devices\b")
_HEADER = (17, 27, 22, 5, 6, 13, 19, 26, 23, 24, 25, 12, 16, 20, 21, 4, 18)
"""Lines for examples: those of the header that are for nothing else."""
_STRINGS = {"port": "/dev/ttyUSB0", "adc": "adc"}


class Key(NamedTuple):
    """A key of a part in a board file.

    Attributes:
        name: its name.
        type: the type of its value, in words: "a number".
        default: the value if the key is missing; `dataclasses.MISSING` where it is required.
        unit: the unit of its value, or "".
        meaning: a sentence from the docstring, or "".
    """

    name: str
    type: str
    default: Any
    unit: str
    meaning: str

    @property
    def required(self) -> bool:
        """Whether a board file must give it."""
        return self.default is dataclasses.MISSING


class PartType(NamedTuple):
    """A type of part, as `hwloop parts` shows it.

    Attributes:
        name: its `type` in a board file.
        kind: the class.
        family: how it is connected.
        summary: a line about it, from the docstring.
        keys: its keys, the required ones first.
        wiring: which pin goes where.
        example: lines of Python that use it.
        snippet: its table in a board file, with each required key.
        actions: what a test can call and read: "motion()", "lit", each with a line from its docstring.
    """

    name: str
    kind: type[Device]
    family: Family
    summary: str
    keys: tuple[Key, ...]
    wiring: str
    example: str
    snippet: str
    actions: tuple[tuple[str, str], ...]


def names() -> dict[str, str]:
    """Return the path of each type's class by its name: our own types, then those of installed packages."""
    return DEVICES | dict(sorted(plugins.installed(plugins.DEVICES, DEVICES).items()))


def part_type(name: str, directory: Path | None = None) -> PartType:
    """Describe the type that a board file calls `name`. Raises `WiringError` for one that does not exist or load."""
    kind, path = device_class(name, "parts", directory)
    try:
        return describe(name, kind)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise WiringError(
            f"parts: {path} can't be described: {error_text(error)}; its class is to blame, not hwloop"
        ) from error


def describe(name: str, kind: type[Device]) -> PartType:
    """Describe the class of a device under this name."""
    keys = tuple(_keys(kind))
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    if summary.startswith(f"{kind.__name__}("):  # made by the dataclass decorator
        summary = ""
    needed = example_keys(kind)
    snippet = _table({"type": name} | needed)
    if "adc" in needed:
        snippet = f"{_table({'type': 'ads1115', 'name': needed['adc']})}\n\n{snippet}"
    example = inspect.cleandoc(kind.example)
    return PartType(name, kind, _family(kind), summary, keys, kind.wiring, example, snippet, tuple(_actions(kind)))


def example_keys(kind: type[Device]) -> dict[str, Any]:
    """Return a plausible value for each required key, such as a free line for `line`.

    A field may bring its own one in its metadata: `field(metadata={"example": [5, 6]})`.
    """
    hints = typing.get_type_hints(kind)
    lines = iter(_HEADER)
    values: dict[str, Any] = {}
    for field in _fields(kind):
        if _default(field) is not dataclasses.MISSING:
            continue
        if "example" in field.metadata:
            values[field.name] = field.metadata["example"]
        elif hints[field.name] is int:
            values[field.name] = next(lines)
        elif hints[field.name] == list[int]:
            values[field.name] = list(itertools.islice(lines, 2))
        elif hints[field.name] is str:
            values[field.name] = _STRINGS.get(field.name, field.name)
        else:
            values[field.name] = 1.0
    return values


def _fields(kind: type[Any]) -> Iterator[dataclasses.Field[Any]]:
    yield from (field for field in dataclasses.fields(kind) if field.init)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    default: Any = field.default
    return getattr(default, "default", default)  # of a number with limits


def _keys(kind: type[Device]) -> Iterator[Key]:
    hints, limits, meanings = typing.get_type_hints(kind), limits_of(kind), _meanings(kind)
    for field in _fields(kind):
        unit = limits[field.name].unit if field.name in limits else ""
        if unit.startswith("as "):  # words for messages, such as "1 to 247 as a unit"
            unit = ""
        yield Key(field.name, named(hints[field.name]), _default(field), unit, meanings.get(field.name, ""))


def _meanings(kind: type[Device]) -> Mapping[str, str]:
    """Return the meaning of each key from the section "Parameters" of its class's docstring, or of a base class's."""
    meanings = dict[str, str]()
    for each in reversed(kind.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        section = re.search(r"^Parameters:\n((?: .*\n?|\n)*)", text, re.MULTILINE)
        found = re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE)
        meanings |= {name: re.sub(r"\s+", " ", text) for together, text in found for name in together.split(", ")}
    return meanings


def _actions(kind: type[Device]) -> Iterator[tuple[str, str]]:
    """Yield the methods and properties that a part has of its own, beyond those by which the board reaches it."""
    own = [each for each in kind.__mro__ if each.__module__ == kind.__module__ or _DEVICES.match(each.__module__)]
    others = {name for each in kind.__mro__ if each not in own for name in vars(each)}
    seen = set[str]()
    for name, value in (pair for each in own for pair in vars(each).items()):
        if name.startswith("_") or name in others | seen:
            continue
        seen.add(name)
        line = (inspect.getdoc(value) or "").partition("\n")[0]
        if inspect.isfunction(value) and line:
            signature = inspect.signature(value)
            rest = [each.replace(annotation=each.empty) for each in list(signature.parameters.values())[1:]]
            yield f"{name}{signature.replace(parameters=rest, return_annotation=signature.empty)}", line
        elif isinstance(value, property) and line:
            yield name, line


def _family(kind: type[Device]) -> Family:
    keys = {field.name for field in _fields(kind)}
    if issubclass(kind, OneWireDevice):
        return "1-Wire"
    marks: tuple[tuple[Family, str], ...] = (
        ("SPI", "select"),
        ("I2C", "address"),
        ("serial", "port"),
        ("analog", "adc"),
    )
    on_lines = any(isinstance(value, int | list) for value in example_keys(kind).values()) or "line" in keys
    return next((family for family, mark in marks if mark in keys), "lines" if on_lines else "other")


def _table(keys: Mapping[str, object]) -> str:
    # JSON's strings, numbers and lists are TOML too.
    return "\n".join(
        ["[[device]]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items())]
    )
