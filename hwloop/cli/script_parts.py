"""The parts that the lines of a script suggest: `led = LED(17)` is an LED called led on line 17.

The script is read and not run, so constants are followed, and nothing that a program computes. Lines that can't be
seen are left to the user.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SeenPart:
    """A part of a board file: its type, a name, and its other keys."""

    type: str
    name: str
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def lines(self) -> list[int]:
        """The lines that it uses."""
        return [value for key, value in self.keys.items() if type(value) is int and key not in ("bus", "address")]


@dataclass(frozen=True)
class _Class:
    """A class of gpiozero: the part behind it, and the key of each of its parameters that is a pin."""

    type: str
    pins: Mapping[str, str]
    inverted: str = ""
    """The parameter that is False where a low line means on."""


def _one(type: str, inverted: str = "") -> _Class:
    return _Class(type, {"pin": "line"}, inverted)


_CLASSES: dict[str, _Class] = {
    "LED": _one("led", "active_high"),
    "PWMLED": _one("led", "active_high"),
    "PWMOutputDevice": _one("led", "active_high"),
    "DigitalOutputDevice": _one("led", "active_high"),
    "OutputDevice": _one("relay", "active_high"),
    "Buzzer": _one("buzzer"),
    "TonalBuzzer": _one("buzzer"),
    "Button": _one("button", "pull_up"),
    "DigitalInputDevice": _one("button", "pull_up"),
    "MotionSensor": _one("pir"),
    "LightSensor": _one("photoresistor"),
    "Servo": _one("servo"),
    "AngularServo": _one("servo"),
    "DistanceSensor": _Class("hc-sr04", {"echo": "echo", "trigger": "trigger"}),
    "RGBLED": _Class("rgb-led", {"red": "red", "green": "green", "blue": "blue"}),
    "RotaryEncoder": _Class("rotary-encoder", {"a": "a", "b": "b"}),
    "Motor": _Class("l298n", {"forward": "in1", "backward": "in2", "enable": "enable"}),
}
_SEVERAL = {"LEDBoard": (), "LEDBarGraph": (), "TrafficLights": ("red", "amber", "green")}
"""Classes that stand for several LEDs, and their names."""

_DRIVERS = {"bme280": "bme280"}
"""Modules of drivers for I2C parts, and the part behind each."""


def parts_of(tree: ast.Module) -> list[SeenPart]:
    """Return the parts that a script uses, as far as its lines show them; each line once."""
    finder = _Finder(tree)
    parts: list[SeenPart] = []
    names: set[str] = set()
    used: set[int] = set()
    for part in finder.parts():
        if used.intersection(part.lines):
            continue
        used.update(part.lines)
        base, count = part.name, 2
        while part.name in names:
            part.name, count = f"{base}_{count}", count + 1
        names.add(part.name)
        parts.append(part)
    return parts


class _Finder:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._constants: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                self._constants.update(
                    (each.id, node.value.value) for each in node.targets if isinstance(each, ast.Name)
                )
        self._named: dict[ast.AST, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and (name := _name(node.targets[0])):
                self._named[node.value] = name

    def parts(self) -> Iterator[SeenPart]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                yield from self._called(node, _name(node.func))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                for module in modules:
                    if module in _DRIVERS:
                        yield SeenPart(_DRIVERS[module], _DRIVERS[module])

    def _called(self, call: ast.Call, function: str) -> Iterator[SeenPart]:
        given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        name = self._named.get(call, "")
        if (known := _CLASSES.get(function)) is not None:
            given = dict(zip(known.pins, call.args, strict=False)) | given
            lines = {key: self._line(given[pin]) for pin, key in known.pins.items() if pin in given}
            if lines and all(line is not None for line in lines.values()):
                keys: dict[str, Any] = dict(lines)
                if known.inverted in given and self._value(given[known.inverted]) is False:
                    keys["active_low"] = known.type != "button"
                yield SeenPart(known.type, name or f"{known.type.replace('-', '_')}_{next(iter(lines.values()))}", keys)
        elif function in _SEVERAL:
            labels = _SEVERAL[function]
            pins = dict(zip(labels or map(str, range(len(call.args))), call.args, strict=False)) | given
            for label, pin in pins.items():
                if (line := self._line(pin)) is not None and (not labels or label in labels):
                    yield SeenPart("led", label if labels else f"{name or 'led'}_{line}", {"line": line})
        elif function == "setup" and len(call.args) >= 2:  # RPi.GPIO
            line, direction = self._line(call.args[0]), _name(call.args[1])
            if line is not None and direction in ("OUT", "IN"):
                kind = "led" if direction == "OUT" else "button"
                label = call.args[0].id.lower() if isinstance(call.args[0], ast.Name) else f"{kind}_{line}"
                yield SeenPart(kind, re.sub(r"_?(pin|gpio)$", "", label) or f"{kind}_{line}", {"line": line})

    def _value(self, node: ast.expr) -> object:
        if isinstance(node, ast.Name):
            return self._constants.get(node.id)
        return node.value if isinstance(node, ast.Constant) else None

    def _line(self, node: ast.expr) -> int | None:
        """Return the number of a line that gpiozero's names for pins mean."""
        value = self._value(node)
        if isinstance(value, str) and (found := re.fullmatch(r"(?:GPIO|BCM)?(\d+)", value)):
            value = int(found[1])
        return value if type(value) is int and 0 <= value <= 27 else None


def _name(node: ast.AST) -> str:
    """Return the last name of a target or a function: `led` of `self.led`, `LED` of `gpiozero.LED`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
