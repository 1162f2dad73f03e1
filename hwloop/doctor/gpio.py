"""GPIO: the chips, the one with the header's lines, the rights to it, and the libraries that reach it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hwloop.boards.chip import HEADER_CHIPS
from hwloop.boards.chip_discovery import choose_chip
from hwloop.doctor.access import examine_access
from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine
from hwloop.errors import HardwareError

_LIBRARIES = "pip install 'gpiod>=2.2', or sudo apt install python3-libgpiod"


def examine(machine: Machine, *, is_pi: bool) -> Iterator[Finding]:
    """Yield the findings about GPIO lines."""
    nodes = machine.find("/dev/gpiochip[0-9]*")
    if not nodes:
        if is_pi:
            yield Finding(
                "gpio", "problem", "there is no /dev/gpiochip*, although this is a Raspberry Pi",
                "sudo modprobe gpiomem; in a container, pass the device: docker run --device /dev/gpiochip0",
            )  # fmt: skip
        else:
            yield Finding(
                "gpio", "note", "no GPIO chip: programs run on the simulated board here", "export HWLOOP_BOARD=sim"
            )
    else:
        yield from _examine_chips(machine)
    yield from _examine_libraries(machine, needed=bool(nodes))


def _examine_chips(machine: Machine) -> Iterator[Finding]:
    try:
        chips = machine.chips()
        for chip in chips:
            if chip.label not in HEADER_CHIPS:
                yield Finding("gpio", "ok", f"{chip.path}: {chip.label}, {chip.lines} lines, not the header's")
        if chips:
            header = choose_chip(chips)
            yield Finding("gpio", "ok", f"{header.path}: {header.label}, {header.lines} lines, the header's")
            if header.label == "pinctrl-rp1" and header.number != 0:
                yield Finding(
                    "gpio", "note",
                    f"the header of this Raspberry Pi 5 is {header.path}; kernels from 6.6.45 on call it gpiochip0. "
                    "hwloop finds it by its label, a program that opens chip 0 or 4 by number does not",
                    "sudo apt full-upgrade, or choose the chip by its label in such programs",
                )  # fmt: skip
    except HardwareError as error:
        yield Finding("gpio", "problem", f"{error.tried}: {error.reason}", error.hint)
    yield from examine_access(machine, "gpio", machine.find("/dev/gpiochip[0-9]*"))


def _examine_libraries(machine: Machine, *, needed: bool) -> Iterator[Finding]:
    gpiod, lgpio = machine.version("gpiod"), machine.version("lgpio")
    if lgpio == "0.0.0.2":
        yield Finding(
            "gpio", "warning", "lgpio 0.0.0.2 is an empty placeholder of PyPI, not the library",
            "sudo apt install python3-lgpio" if sys.version_info >= (3, 13) else "pip install 'lgpio>=0.2.2.0'",
        )  # fmt: skip
        lgpio = ""
    if gpiod.startswith("1."):
        yield Finding(
            "gpio", "warning", f"gpiod {gpiod} has the interface of libgpiod 1; hwloop needs 2 or later",
            "pip install 'gpiod>=2.2'",
        )  # fmt: skip
        gpiod = ""
    if gpiod:
        yield Finding("gpio", "ok", f"gpiod {gpiod}: hwloop reaches lines through it")
    if lgpio:
        yield Finding("gpio", "ok", f"lgpio {lgpio}" + ("" if gpiod else ": hwloop reaches lines through it"))
    if lgpio and not gpiod:
        yield Finding(
            "gpio", "note", "gpiod is quicker than lgpio, wakes nothing while lines are idle, and hides no lost edge",
            _LIBRARIES,
        )  # fmt: skip
    if not gpiod and not lgpio and needed:
        yield Finding("gpio", "problem", "neither gpiod nor lgpio is installed for this Python", _LIBRARIES)
