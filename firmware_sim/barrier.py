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
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from firmware_sim.node_calls import calls

if TYPE_CHECKING:
    from firmware_sim.board import SimBoard

_PORT = re.compile(r"/dev/(tty(AMA|S|USB|ACM|THS|mxc|SC|O)\d|serial)")
_BUS = re.compile(r"/dev/i2c")
_SPI = re.compile(r"/dev/spidev")
_LINES = re.compile(r"/dev/(gpio|mem$|vcio)|/sys/class/(gpio|pwm)\b")
_ONE_WIRE = re.compile(r"/sys/bus/w1\b|/sys/devices/w1_bus_master")
_LIBRARY = re.compile(r"lib(gpiod|lgpio|rgpio|pigpio|wiringPi|bcm2835|bcm_host)\b")

_LINE_LIBRARIES = (
    "real lines, and the program runs on the simulated board; gpiozero, lgpio and hwloop.gpio reach that one"
)
REFUSED = {
    "RPi._GPIO": _LINE_LIBRARIES + ", and RPi.GPIO does as rpi-lgpio has it",
    "_rpi_ws281x": _LINE_LIBRARIES,
    "bcm2835": _LINE_LIBRARIES,
    "pigpio": _LINE_LIBRARIES,
    "rgpio": _LINE_LIBRARIES,
    "spidev": "real SPI devices, and the program runs on the simulated board",
    "wiringpi": _LINE_LIBRARIES,
}
"""Modules that reach real devices in C, and the reason that their import gives for raising."""

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
    return any(kind.match(path) for kind in (_PORT, _BUS, _SPI, _LINES, _ONE_WIRE))


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _boards or event not in ("open", "ctypes.dlopen"):
        return
    name = arguments[0]
    if not isinstance(name, str | bytes):
        return
    path = os.fsdecode(name)
    board = _boards[-1]
    if event == "ctypes.dlopen":
        if _LIBRARY.search(path):
            raise OSError(errno.ENODEV, f"{path} reaches {_LINE_LIBRARIES}")
    elif _PORT.match(path):
        plugged = [] if board is None else sorted(name for name, port in board.ports.items() if port.plugged)
        ports = ", ".join(plugged) or "none"
        raise FileNotFoundError(errno.ENOENT, f"no such port on the simulated board; its ports are: {ports}", path)
    elif _BUS.match(path):
        buses = ", ".join(map(str, sorted(board.buses))) if board is not None else "none"
        raise FileNotFoundError(errno.ENOENT, f"no such bus on the simulated board; its buses are: {buses}", path)
    elif _SPI.match(path):
        raise FileNotFoundError(errno.ENOENT, "no such SPI device on the simulated board", path)
    elif _ONE_WIRE.match(path):
        raise FileNotFoundError(errno.ENOENT, "the simulated board has no such 1-Wire device", path)
    elif _LINES.match(path):
        message = "the program runs on the simulated board, whose lines gpiozero, lgpio and hwloop.gpio reach"
        raise FileNotFoundError(errno.ENOENT, message, path)


class _Refusing(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in REFUSED:
            raise ImportError(f"{name} reaches {REFUSED[name]}", name=name)
        return None
