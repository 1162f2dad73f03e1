"""The doctor: what a machine can do for a program on hwloop, what stands in the way, and the command that mends it.

The checks read files below /dev, /proc, /sys, /boot and /etc, ask `systemctl`, `timedatectl` and `vcgencmd`, and change
nothing. They run on any Linux; what is normal on a desktop is no problem there.
"""

from __future__ import annotations

import platform

import hwloop
from hwloop.compiled_core import core_fault, remedy
from hwloop.core import core_kind
from hwloop.doctor import buses, gpio, kernel, system
from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine

MODEL = "/proc/device-tree/model"
_WITH_RP1 = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")
"""Beginnings of the models whose header is on the RP1 chip: the 5, the 500, the Compute Module 5."""


def examine(machine: Machine) -> list[Finding]:
    """Return all findings about a machine, in the order in which a reader needs them."""
    model = machine.text(MODEL)
    is_pi = model.startswith("Raspberry Pi")
    has_rp1 = model.startswith(_WITH_RP1)
    return [
        _version(),
        Finding("machine", "ok", model or "no device tree: not a Raspberry Pi"),
        *gpio.examine(machine, is_pi=is_pi),
        *buses.examine(machine, is_pi=is_pi, has_rp1=has_rp1),
        *kernel.examine(machine),
        *system.examine(machine),
    ]


def _version() -> Finding:
    on = f"on Python {platform.python_version()}"
    if fault := core_fault():
        return Finding("hwloop", "warning", f"{hwloop.__version__}, compiled core, {fault}, {on}", remedy())
    return Finding("hwloop", "ok", f"{hwloop.__version__}, {core_kind()} core, {on}")
