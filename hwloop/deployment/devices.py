"""The devices that a program uses, as rules of a unit: named by the user, by a board file, or by the program's text.

The program is read, not run. A look at its text is honest only as long as it understands every import: a module that
is neither known nor beside the program may open anything. Then all kinds are allowed, and the unit says why.

A rule names a kind of device (`char-ttyUSB`), not a node: a node that is missing when the service starts would be
forbidden when it is plugged in.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from hwloop.deployment.network import use_of_network
from hwloop.errors import suggestion


class Kind(NamedTuple):
    """A kind of device: what the kernel calls it in /proc/devices, and the group that may open it."""

    rules: tuple[str, ...]
    group: str


KINDS: Mapping[str, Kind] = {
    "gpio": Kind(("char-gpiochip",), "gpio"),
    "i2c": Kind(("char-i2c",), "i2c"),
    "spi": Kind(("char-spi",), "spi"),
    "serial": Kind(("char-ttyAMA", "char-ttyS", "char-ttyUSB", "char-ttyACM"), "dialout"),
    "input": Kind(("char-input",), "input"),
}
USUAL = ("gpio", "i2c", "spi", "serial")
"""The kinds of a program about which nothing is known."""

_NODES = {
    r"gpiochip\d+": (("char-gpiochip",), "gpio"),
    r"i2c-\d+": (("char-i2c",), "i2c"),
    r"spidev\d+\.\d+": (("char-spi",), "spi"),
    r"tty(AMA|S|USB|ACM)\d+": (("char-tty{}",), "dialout"),
    r"serial\d": (("char-ttyAMA", "char-ttyS"), "dialout"),
    r"serial/by-(?:id|path)/[A-Za-z0-9_:.+-]+": (("char-ttyUSB", "char-ttyACM"), "dialout"),
    r"input/[A-Za-z0-9_/:.+-]+": (("char-input",), "input"),
}
"""Names below /dev, their rules, and their groups."""

_OF_MODULE: Mapping[str, tuple[str, ...]] = {
    "RPi": ("gpio",),
    "adafruit_blinka": USUAL,
    "board": USUAL,
    "bme280": ("i2c",),
    "busio": USUAL,
    "digitalio": ("gpio",),
    "evdev": ("input",),
    "gpiod": ("gpio",),
    "gpiozero": ("gpio",),
    "hwloop.gpio": ("gpio",),
    "hwloop.i2c": ("i2c",),
    "hwloop.pins": ("gpio",),
    "hwloop.serial": ("serial",),
    "hwloop.spi": ("spi",),
    "lgpio": ("gpio",),
    "luma": ("gpio", "i2c", "spi"),
    "minimalmodbus": ("serial",),
    "periphery": USUAL,
    "pymodbus": ("serial",),
    "rpi_hardware_pwm": ("gpio",),
    "serial": ("serial",),
    "serial_asyncio": ("serial",),
    "serialx": ("serial",),
    "smbus": ("i2c",),
    "smbus2": ("i2c",),
    "spidev": ("spi",),
}
_WITHOUT = frozenset(
    (
        "aiofiles", "aiohttp", "aiomqtt", "aiosqlite", "anyio", "asyncpg", "attr", "attrs", "click", "dateutil",
        "fastapi", "flask", "hwloop", "httpx", "influxdb_client", "jinja2", "msgpack", "numpy", "orjson", "paho",
        "pandas", "prometheus_client", "psutil", "pydantic", "pydantic_settings", "pytz", "requests", "rich", "scipy",
        "sqlalchemy", "starlette", "structlog", "systemd", "tenacity", "typer", "typing_extensions", "urllib3",
        "uvicorn", "uvloop", "websockets", "yaml", "zoneinfo",
    )
)  # fmt: skip
"""Packages that open no device."""


_LINE_LIBRARIES = {
    name.partition(".")[0]: name
    for name in ("RPi.GPIO", "digitalio", "gpiod", "gpiozero", "lgpio", "periphery", "pigpio", "rpi_hardware_pwm")
}
"""Libraries that drive lines without a safe level, by their modules."""
_INPUTS = frozenset(
    (
        "gpiozero.Button", "gpiozero.Device", "gpiozero.DigitalInputDevice", "gpiozero.InputDevice",
        "gpiozero.LightSensor", "gpiozero.LineSensor", "gpiozero.MotionSensor", "gpiozero.RotaryEncoder",
    )
)  # fmt: skip
"""Names of these libraries that drive no line."""


class Devices(NamedTuple):
    """The devices that a service may open.

    Attributes:
        rules: the values of DeviceAllow=, without the access.
        groups: the groups that the program needs for them.
        because: a phrase that says how they were found.
    """

    rules: tuple[str, ...]
    groups: tuple[str, ...]
    because: str


def named(names: Iterable[str]) -> Devices:
    """Return the devices for kinds (`gpio`) and nodes (`/dev/ttyUSB0`). Raises ValueError for anything else."""
    rules, groups = list[str](), list[str]()
    listed = list(names)
    for name in listed:
        found = KINDS[name] if name in KINDS else _of_node(name)
        if found is None:
            raise ValueError(
                f"{name!r} is no device; use {', '.join(KINDS)}, none, or a path below /dev{suggestion(name, KINDS)}"
            )
        rules += found.rules
        groups.append(found.group)
    return _devices(rules, groups, f"those that were named: {', '.join(listed)}" if listed else "none")


def _of_node(path: str) -> Kind | None:
    """Return the kind of a device node; None for anything else. A link below /dev is not followed."""
    match = re.fullmatch(r"/dev/([A-Za-z0-9_/:.+-]+)", path)
    if match is None or ".." in path or path.endswith("/"):
        return None
    for pattern, (rules, group) in _NODES.items():
        if found := re.fullmatch(pattern, match[1]):
            return Kind(tuple(rule.format(*found.groups()) for rule in rules), group)
    return Kind((path,), _group_of(path))


def _group_of(path: str) -> str:
    """Return the group that may use a node of no known kind; "" where only its owner or everybody may."""
    import grp

    try:
        found = os.stat(path)
        return grp.getgrgid(found.st_gid).gr_name if found.st_gid and found.st_mode & 0o060 == 0o060 else ""
    except (OSError, KeyError):
        return ""


def _devices(rules: Iterable[str], groups: Iterable[str], because: str) -> Devices:
    return Devices(tuple(dict.fromkeys(rules)), tuple(filter(None, dict.fromkeys(groups))), because)


def of_kinds(kinds: Collection[str], because: str) -> Devices:
    """Return the devices of some kinds."""
    chosen = [kind for name, kind in KINDS.items() if name in kinds]
    return _devices([rule for kind in chosen for rule in kind.rules], [kind.group for kind in chosen], because)


class Look:
    """A look at the text of a program, file by file.

    Attributes:
        kinds: the kinds of devices that the text names, and the reason for each.
        unknown: the modules about which nothing is known.
        keeps_outputs: whether outputs outlive the program (`keep=`), so that it needs a guardian.
        unguarded: the libraries by which it may drive lines that have no safe level.
        reloads: whether it handles SIGHUP by `service.reloadable`.
        network: how the text shows that it wants the network; "" if it does not.
    """

    def __init__(self, own: Collection[str] = ()) -> None:
        """Parameters:
        own: modules of the program itself, which are read too.
        """
        self.kinds: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.keeps_outputs: bool = False
        self.unguarded: set[str] = set()
        self.reloads: bool = False
        self.network: str = ""
        self._own = own

    def read(self, tree: ast.Module) -> None:
        """Read one file."""
        for node in ast.walk(tree):
            self.network = self.network or use_of_network(node)
            if "reloadable" in (getattr(node, "attr", ""), getattr(node, "id", "")):
                self.reloads = True
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._import(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                if node.module == "hwloop" and any(alias.name == "*" for alias in node.names):
                    self.unknown.add("hwloop.*")
                for alias in node.names:
                    self._import(f"{node.module}.{alias.name}")
            elif isinstance(node, ast.keyword) and node.arg == "keep":
                never = isinstance(node.value, ast.Constant) and not node.value.value
                self.keeps_outputs = self.keeps_outputs or not never
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hwloop":
                self._import(f"hwloop.{node.attr}")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/dev/"):
                kind = _of_node(node.value)
                for name, each in KINDS.items():
                    if kind is not None and set(kind.rules) & set(each.rules):
                        self.kinds.setdefault(name, f"it names {node.value}")

    def _import(self, module: str) -> None:
        first = module.partition(".")[0]
        if first in _LINE_LIBRARIES and module not in _INPUTS:
            self.unguarded.add(_LINE_LIBRARIES[first])
        known = module if module in _OF_MODULE else first
        if first == "hwloop":
            known = ".".join(module.split(".")[:2])
            for name in _OF_MODULE.get(known, ()):
                self.kinds.setdefault(name, f"it uses {known}")
        elif known in _OF_MODULE:
            for name in _OF_MODULE[known]:
                self.kinds.setdefault(name, f"it imports {first}")
            if first == "gpiozero" and "MCP" in module:
                self.kinds.setdefault("spi", f"it imports {module}")
        elif first not in _WITHOUT and first not in sys.stdlib_module_names and first not in self._own:
            self.unknown.add(first)

    def reason_for_network(self, chosen: bool | None) -> str:
        """Return why the program gets the network, as a phrase; "" if it gets none. Its text decides if nobody has."""
        if chosen is not None:
            return "--network permits it" if chosen else ""
        if self.network or not self.unknown:
            return self.network
        return f"it imports {', '.join(sorted(self.unknown))}, which may use it; --no-network forbids it"

    def note_on_outputs(self) -> str:
        """Return which outputs nobody drives to a safe level where the program can't; "" if it may have none."""
        if not self.unguarded:
            return ""
        return (
            f"outputs that the program drives by {' and '.join(sorted(self.unguarded))} have no safe level: when it is "
            "killed or hangs, they stay as they are; gpio.output(LINE, safe=0) drives those that must go off"
        )

    def devices(self) -> Devices:
        """Return the devices that the program may open, as far as its text shows them."""
        if self.unknown:
            modules = ", ".join(sorted(self.unknown))
            found = of_kinds(
                {*USUAL, *self.kinds},
                f"all usual kinds, because the program imports {modules}, which may open any; --device narrows it down",
            )
        else:
            reasons = dict[str, list[str]]()
            for name, reason in self.kinds.items():
                reasons.setdefault(reason, []).append(name)
            text = "; ".join(f"{' and '.join(names)}, because {reason}" for reason, names in reasons.items())
            found = of_kinds(self.kinds, text or "none, because the program uses none")
        return found
