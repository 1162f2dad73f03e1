"""A barrier that keeps a program on a simulated board from real devices, whatever library it uses.

`firmware_sim.imports` redirects the libraries that can be redirected. Others open a device node themselves, or in C.
`firmware_sim.node_calls` leads them to the nodes that the board has. Opening any other node from Python raises (the
audit event "open", PEP 578), and so does importing a library whose C code would open one. Each error is an ordinary
exception that names the simulated board.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.abc
import importlib.machinery
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from firmware_sim.node_calls import calls
from firmware_sim.nodes import ROOTS

if TYPE_CHECKING:
    from firmware_sim.board import SimBoard

_LIBRARY = re.compile(r"lib(gpiod|lgpio|rgpio|pigpio|wiringPi|bcm2835|bcm_host)\b")

_LINE_LIBRARIES = (
    "real lines, and the program runs on the simulated board; gpiozero, lgpio and hwloop.gpio reach that one"
)
_CAMERA = (
    "a camera, and the program runs on the simulated board, which has none; run it with a recorded picture instead"
)
_RADIO = "a Bluetooth radio, and the program runs on the simulated board, which has none"
REFUSED = {
    "RPi._GPIO": _LINE_LIBRARIES + ", and RPi.GPIO does as rpi-lgpio has it",
    "_rpi_ws281x": _LINE_LIBRARIES,
    "adafruit_blinka_raspberry_pi_pwm": _LINE_LIBRARIES + "; gpiozero.PWMLED and rpi_hardware_pwm have pulses there",
    "bluedot": _RADIO + "; a gpiozero.Button on the board can take its place",
    "bluetooth": _RADIO,
    "rpi_ws281x": _LINE_LIBRARIES + "; LEDs of the kind WS2812 are not simulated",
    "bcm2835": _LINE_LIBRARIES,
    "libcamera": _CAMERA,
    "picamera": _CAMERA,
    "picamera2": _CAMERA,
    "pigpio": _LINE_LIBRARIES + "; pigpio's daemon needs the hardware of a Pi",
    "rgpio": _LINE_LIBRARIES,
    "spidev": "real SPI devices, and the program runs on the simulated board",
    "wiringpi": _LINE_LIBRARIES,
}
"""Modules that reach real devices in C, and the reason that their import gives for raising."""


def _ports(board: SimBoard | None) -> str:
    plugged = [] if board is None else sorted(name for name, port in board.ports.items() if port.plugged)
    return f"no such port on the simulated board; its ports are: {', '.join(plugged) or 'none'}"


def _buses(board: SimBoard | None) -> str:
    buses = [] if board is None else sorted(board.buses)
    return f"no such bus on the simulated board; its buses are: {', '.join(map(str, buses)) or 'none'}"


def _lacks(what: str) -> Callable[[SimBoard | None], str]:
    return lambda board: f"the simulated board has no {what}"


_TTY = r"tty(AMA|S|USB|ACM|THS|mxc|SC|O)\d"
_NODES: tuple[tuple[re.Pattern[str], Callable[[SimBoard | None], str]], ...] = (
    (re.compile(rf"/dev/({_TTY}|serial)|/sys/class/tty/{_TTY}"), _ports),
    (re.compile(r"/dev/i2c"), _buses),
    (re.compile(r"/dev/spidev"), _lacks("such SPI device")),
    (re.compile(r"/sys/bus/w1\b|/sys/devices/w1_bus_master"), _lacks("such 1-Wire device")),
    (re.compile(r"/sys/class/pwm\b"), _lacks("such PWM channel; has the program exported it?")),
    (re.compile(r"/dev/(video|media|vchiq|vcsm)|/sys/class/video4linux\b"), _lacks("camera")),
    (re.compile(r"/dev/iio:|/sys/bus/iio\b"), _lacks("IIO devices; its parts are on the buses, for drivers in Python")),
    (
        re.compile(r"/dev/(gpio|mem$|vcio)|/sys/class/gpio\b"),
        lambda board: "the program runs on the simulated board, whose lines gpiozero, lgpio and hwloop.gpio reach",
    ),
)
"""Files of devices of the kinds that a board has, and why a program can't open one that this board lacks."""
_boards: list[SimBoard | None] = []
_hooked = False


@contextlib.contextmanager
def around(board: SimBoard | None) -> Iterator[None]:
    """Keep everything that Python opens or imports in this block from real devices of the kinds that a board has.

    `board` is None while the board has yet to be opened.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # it can't be removed, and does nothing without a board
        _hooked = True
    finder = _Refusing()
    hidden = {name: sys.modules.pop(name) for name in REFUSED if name in sys.modules}
    sys.meta_path.insert(0, finder)
    _boards.append(board)
    try:
        with contextlib.nullcontext() if board is None else calls.reaching(board.nodes, hides):
            yield
    finally:
        _boards.remove(board)
        sys.meta_path.remove(finder)
        sys.modules.update(hidden)


def hides(path: str) -> bool:
    """Return whether a real file of this path must not show to a program on a simulated board."""
    return any(kind.match(path) for kind, _ in _NODES)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _boards or event not in ("open", "ctypes.dlopen", "socket.bind"):
        return
    if event == "socket.bind":
        if arguments[0].family == getattr(socket, "AF_CAN", None):
            raise OSError(errno.ENODEV, f"CAN bus {arguments[1]}: the simulated board has no CAN bus")
        return
    name = arguments[0]
    if not isinstance(name, str | bytes):
        return
    path = os.fsdecode(name)
    if event == "ctypes.dlopen":
        if _LIBRARY.search(path):
            raise OSError(errno.ENODEV, f"{path} reaches {_LINE_LIBRARIES}")
    elif path.startswith(ROOTS):
        for kind, reason in _NODES:
            if kind.match(path):
                raise FileNotFoundError(errno.ENOENT, reason(_boards[-1]), path)


class _Refusing(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in REFUSED:
            raise ImportError(f"{name} reaches {REFUSED[name]}", name=name)
        return None
