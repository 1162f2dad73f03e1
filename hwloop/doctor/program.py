"""A program's needs: the packages that it imports, and the lines, ports and buses that it names.

The program is read, not run. So only what it writes out is known: `gpio.watch(17)` and `serial.open("/dev/ttyAMA0")`
are, a number that it computes or reads from a file is not.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine
from hwloop.errors import HardwareError

_CALLS = {
    "gpio.watch": "line", "gpio.output": "line",
    "serial.open": "port", "serial.Serial": "port", "Serial": "port",
    "i2c.open": "bus", "SMBus": "bus", "smbus2.SMBus": "bus", "smbus.SMBus": "bus",
}  # fmt: skip
"""Calls whose first argument names a line, a port or a bus."""
PACKAGES = {"serial": "pyserial", "yaml": "PyYAML", "cv2": "opencv-python", "PIL": "pillow", "RPi": "rpi-lgpio"}
"""The packages of PyPI whose names are not those of their modules, by the modules."""


class Needs(NamedTuple):
    """Modules, lines, ports and buses that a program names in its text."""

    modules: set[str]
    lines: set[int]
    ports: set[str]
    buses: set[int]


class Places(NamedTuple):
    """The lines, ports and buses of a board."""

    label: str
    lines: int
    ports: Collection[str]
    buses: Collection[int]
    user_of: Callable[[int], str]
    """Returns the name of the program that uses a line; "" for a line that is free."""


def read_needs(text: str, where: str) -> Needs:
    """Return what a program names. Raises SyntaxError."""
    modules, named = set[str](), dict[str, set[int | str]]({"line": set(), "port": set(), "bus": set()})
    for node in ast.walk(ast.parse(text, where)):
        if isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and (kind := _CALLS.get(ast.unparse(node.func))) is not None:
            named[kind].update(
                argument.value
                for argument in [*node.args[:1], *(each.value for each in node.keywords if each.arg == kind)]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, int | str)
            )
    buses = {bus if isinstance(bus, int) else int(bus[9:]) for bus in named["bus"] if _is_bus(bus)}
    lines = {line for line in named["line"] if isinstance(line, int)}
    return Needs(modules, lines, {port for port in named["port"] if isinstance(port, str)}, buses)


def examine(machine: Machine, path: str, places: Places) -> Iterator[Finding]:
    """Yield the findings about a program, on the board that it would use."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        needs = read_needs(text, path)
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8"
        yield Finding("program", "problem", f"{path}: {reason}", "name a Python file")
        return
    except SyntaxError as error:
        yield Finding(
            "program", "problem", f"{path}, line {error.lineno}: {error.msg}", f"python3 -m py_compile {path}"
        )
        return
    found = [*_examine_modules(machine, path, text, needs), *_examine_places(needs, places)]
    yield from found
    if not any(finding.status == "problem" for finding in found):
        yield Finding(
            "program", "ok", f"{path}: every line, port, bus and package that it names is there ({places.label})"
        )


def _examine_modules(machine: Machine, path: str, text: str, needs: Needs) -> Iterator[Finding]:
    beside = os.path.dirname(os.path.abspath(path))
    for module in sorted(needs.modules - sys.stdlib_module_names):
        if os.path.exists(os.path.join(beside, module)) or os.path.exists(os.path.join(beside, f"{module}.py")):
            continue
        if not machine.importable(module):
            package = PACKAGES.get(module, module)
            listed = re.search(r"^# /// script$", text, re.MULTILINE)
            remedy = f"{sys.executable} -m pip install {package}"
            remedy += f" (or, as it lists its dependencies: uv run {path})" if listed else ""
            yield Finding("program", "problem", f"it imports {module}, which this Python lacks", remedy)


def _examine_places(needs: Needs, places: Places) -> Iterator[Finding]:
    missing = sorted(line for line in needs.lines if not 0 <= line < places.lines)
    if missing:
        named = f"line{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        remedy = (
            f"lines are 0 to {places.lines - 1}" if places.lines else "run it on the simulated board: HWLOOP_BOARD=sim"
        )
        yield Finding("program", "problem", f"it uses {named}, which {places.label} does not have", remedy)
    for line in sorted(needs.lines.difference(missing)):
        try:
            user = places.user_of(line)
        except HardwareError as error:
            yield Finding("program", "problem", f"it uses line {line}: {error.tried}: {error.reason}", error.hint)
            return  # the same for all others
        if user:
            yield Finding(
                "program", "problem", f"it uses line {line}, which {user!r} uses already",
                "stop that program, or disable the overlay in config.txt that takes the line; gpioinfo lists all users",
            )  # fmt: skip
    for port in sorted(needs.ports - set(places.ports)):
        listed = ", ".join(sorted(places.ports)) or "none"
        yield Finding(
            "program", "problem", f"it uses {port}, which {places.label} does not have", f"there are: {listed}"
        )
    for bus in sorted(needs.buses - set(places.buses)):
        listed = ", ".join(f"/dev/i2c-{each}" for each in sorted(places.buses)) or "none; enable I2C, see above"
        yield Finding(
            "program", "problem", f"it uses /dev/i2c-{bus}, which {places.label} does not have", f"there are: {listed}"
        )


def _is_bus(bus: int | str) -> bool:
    return isinstance(bus, int) or re.fullmatch(r"/dev/i2c-\d+", bus) is not None
