"""The real board: GPIO chips, serial ports and I2C buses of a Linux machine.

Its lines are reached through gpiod where that is installed, which is quicker and hides no loss, or else through lgpio.
Nothing is opened before it is asked for, so a machine without GPIO can still use its serial ports; and a chip that
went away and came back is opened anew.
"""

from __future__ import annotations

import errno
import glob
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from hwloop.board import Backend, Board, EdgeRequest, EdgeStream, OutputLine, OutputRequest
from hwloop.boards import chips
from hwloop.boards.chip import GpioChip
from hwloop.boards.gpiod import GpiodChip, load_gpiod
from hwloop.boards.lgpio import LgpioChip
from hwloop.boards.lgpio_loader import load_lgpio
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from smbus2 import SMBus

_MODEL = "/proc/device-tree/model"
_SERIAL_PORTS = ("serial/by-id/*", "serial[0-9]*", "ttyAMA*", "ttyUSB*", "ttyACM*")


class LinuxBoard(Board):
    """This computer.

    `backend` says how its lines are reached: see `hwloop.board.open_board`. Raises ValueError where it is none.
    """

    shared = True
    address = "linux"
    choice = "linux"

    def __init__(self, backend: Backend | None = None) -> None:
        super().__init__()
        chosen = backend if backend is not None else os.environ.get("HWLOOP_GPIO", "") or "auto"
        if chosen not in get_args(Backend):
            origin = "" if backend is not None else " (HWLOOP_GPIO)"
            raise ValueError(f"unknown GPIO backend {chosen!r}{origin}: use {', '.join(get_args(Backend))}")
        self._backend = chosen
        try:
            self.label = Path(_MODEL).read_text(encoding="utf-8", errors="replace").rstrip("\0\n") or "Linux"
        except OSError:
            self.label = "Linux"
        self._lock = threading.Lock()
        self._chips: dict[str, GpioChip] = {}

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        return self.gpio(request.chip).open_edges(request)

    def open_output(self, request: OutputRequest) -> OutputLine:
        return self.gpio(request.chip).open_output(request)

    def serial_port(self, port: str) -> str:
        path = os.path.join(chips.DEV, port)
        if os.path.exists(path):
            return path
        found = sorted(found for pattern in _SERIAL_PORTS for found in glob.glob(os.path.join(chips.DEV, pattern)))
        known = f"there are: {', '.join(found)}" if found else "there is none; is the UART enabled (raspi-config)?"
        raise HardwareError(path, "no such port", known, errno=errno.ENOENT)

    def open_bus(self, bus: int) -> SMBus:
        path = os.path.join(chips.DEV, f"i2c-{bus}")
        try:
            from smbus2 import SMBus
        except ModuleNotFoundError as error:
            raise HardwareError(
                path, "the package smbus2 is not installed", "pip install smbus2, or apt install python3-smbus2"
            ) from error
        opened = SMBus()
        try:
            opened.open(path)
        except FileNotFoundError as error:
            found = ", ".join(sorted(glob.glob(os.path.join(chips.DEV, "i2c-*"))))
            hint = "enable it with dtparam=i2c_arm=on in config.txt, or raspi-config"
            raise HardwareError(
                path, "no such bus", f"there are: {found}; {hint}" if found else hint, errno=errno.ENOENT
            ) from error
        except OSError as error:
            opened.close()
            raise chips.node_refused(path, error) from error
        return opened

    def close(self) -> None:
        super().close()
        with self._lock:
            for chip in self._chips.values():
                chip.close()
            self._chips.clear()

    def gpio(self, wanted: str | None = None) -> GpioChip:
        """The chip with the label or path `wanted`, or that of the header; opened when first asked for."""
        with self._lock:
            for path, known in list(self._chips.items()):
                if known.forked or known.gone():
                    del self._chips[path]
                    known.close()
            found = chips.choose_chip(chips.list_chips(), wanted)
            if found.path not in self._chips:
                self._chips[found.path] = self._open(found)
            return self._chips[found.path]

    def _open(self, found: chips.ChipInfo) -> GpioChip:
        missing: HardwareError | None = None
        if self._backend != "lgpio":
            try:
                gpiod = load_gpiod()
            except HardwareError as error:
                if self._backend == "gpiod":
                    raise
                missing = error
            else:
                return GpiodChip(gpiod, found.path)
        try:
            lgpio, workdir = load_lgpio()
        except HardwareError as error:
            if missing is None:
                raise
            raise HardwareError(
                found.path,
                f"neither gpiod ({missing.reason}) nor lgpio ({error.reason}) can be used",
                missing.hint,
            ) from error
        return LgpioChip(lgpio, number=found.number, workdir=workdir, node=found.path)
