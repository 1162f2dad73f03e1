"""What keeps a program on a simulated board from real devices, whatever library it uses.

`firmware_sim.imports` leads libraries that can be led. Others open a device node themselves, or do so in C. A node of a
port that the board has leads to that port; any other is refused where Python opens it (the audit event "open",
PEP 578), and libraries whose C code would open one are refused when they are imported. Each refusal is an ordinary
exception that names the simulated board.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib.abc
import importlib.machinery
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_sim.board import SimBoard

_PORT = re.compile(r"/dev/(tty(AMA|S|USB|ACM|THS|mxc|SC|O)\d|serial)")
_BUS = re.compile(r"/dev/i2c")
_SPI = re.compile(r"/dev/spidev")
_LINES = re.compile(r"/dev/(gpio|mem$|vcio)|/sys/class/(gpio|pwm)\b")
_LIBRARY = re.compile(r"lib(gpiod|lgpio|rgpio|pigpio|wiringPi|bcm2835|bcm_host)\b")

_LINE_LIBRARIES = (
    "real lines, and the program runs on the simulated board; gpiozero, lgpio and hwloop.gpio reach that one"
)
REFUSED = {
    "RPi._GPIO": _LINE_LIBRARIES + ", and RPi.GPIO does as rpi-lgpio has it",
    "_rpi_ws281x": _LINE_LIBRARIES,
    "bcm2835": _LINE_LIBRARIES,
    "gpiod": _LINE_LIBRARIES,
    "pigpio": _LINE_LIBRARIES,
    "rgpio": _LINE_LIBRARIES,
    "spidev": "real SPI devices, and the program runs on the simulated board, which has none; gpiozero needs no spidev",
    "wiringpi": _LINE_LIBRARIES,
}
"""Modules that would reach real devices by code that is not Python's, and why they are refused."""

_boards: list[SimBoard | None] = []
_hooked = False


@contextlib.contextmanager
def around(board: SimBoard | None) -> Iterator[None]:
    """In this block, nothing that Python opens or imports reaches a real device of the kinds that a board has.

    None: the board is still to be opened.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # which can't be taken back, and does nothing without a board
        _hooked = True
    finder = _Refusing()
    hidden = {name: sys.modules.pop(name) for name in REFUSED if name in sys.modules}
    os_open, builtin_open = os.open, builtins.open

    def led_os_open(path: Any, *arguments: Any, **options: Any) -> int:
        return os_open(_led(board, path), *arguments, **options)

    def led_open(file: Any, *arguments: Any, **options: Any) -> Any:
        return builtin_open(_led(board, file), *arguments, **options)

    sys.meta_path.insert(0, finder)
    os.open, builtins.open, io.open = led_os_open, led_open, led_open
    _boards.append(board)
    try:
        yield
    finally:
        _boards.remove(board)
        os.open, builtins.open, io.open = os_open, builtin_open, builtin_open
        sys.meta_path.remove(finder)
        sys.modules.update(hidden)


def _led(board: SimBoard | None, path: Any) -> Any:
    """The terminal of a port of the board, where that is named."""
    if board is None:
        return path
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    port = board.ports.get(name) if isinstance(name, str) else None
    return path if port is None else port.path


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
        ports = ", ".join(sorted(board.ports)) if board is not None and board.ports else "none"
        raise FileNotFoundError(errno.ENOENT, f"no such port on the simulated board; its ports are: {ports}", path)
    elif _BUS.match(path):
        message = "the program runs on the simulated board, whose buses smbus2, smbus and hwloop.i2c reach"
        raise FileNotFoundError(errno.ENOENT, message, path)
    elif _SPI.match(path):
        raise FileNotFoundError(errno.ENOENT, "the simulated board has no SPI devices", path)
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
