"""The real board: GPIO chips, serial ports and I2C buses of a Linux machine.

Which chip has the lines of the header is told by its label, never by its number: on a Raspberry Pi 5 it has been
gpiochip4, is gpiochip0 on newer kernels, and other numbers were seen. Nothing is opened before it is asked for, so a
machine without GPIO can still use its serial ports.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hwloop.board import Bias, Board, Drive, EdgeKind, EdgeStream, LineName, OutputLine
from hwloop.boards.lgpio import LgpioChip
from hwloop.boards.lgpio_loader import load_lgpio
from hwloop.errors import HardwareError, permission_hint

if TYPE_CHECKING:
    from smbus2 import SMBus

HEADER_CHIPS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
"""Labels of the chips that have the header's lines: Raspberry Pi 5, 4, and all before."""

_DEV = "/dev"
_MODEL = "/proc/device-tree/model"
_GPIO_GET_CHIPINFO_IOCTL = 0x8044B401  # <linux/gpio.h>: _IOR(0xB4, 0x01, struct gpiochip_info)
_CHIP_INFO = struct.Struct("32s32sI")  # name, label, number of lines
_SERIAL_PORTS = ("serial/by-id/*", "serial[0-9]*", "ttyAMA*", "ttyUSB*", "ttyACM*")


class ChipInfo(NamedTuple):
    """What the kernel says of a GPIO chip."""

    path: str
    number: int
    label: str
    lines: int


class LinuxBoard(Board):
    """This computer."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        try:
            self.label = Path(_MODEL).read_text(encoding="utf-8", errors="replace").rstrip("\0\n") or "Linux"
        except OSError:
            self.label = "Linux"
        self._lock = threading.Lock()
        self._chip: LgpioChip | None = None

    def open_edges(
        self,
        lines: Sequence[LineName],
        *,
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
    ) -> EdgeStream:
        return self._gpio().open_edges(
            lines, edges=edges, bias=bias, active_low=active_low, debounce=debounce, consumer=consumer
        )

    def open_output(self, line: LineName, *, initial: int, drive: Drive, active_low: bool, consumer: str) -> OutputLine:
        return self._gpio().open_output(line, initial=initial, drive=drive, active_low=active_low, consumer=consumer)

    def serial_port(self, port: str) -> str:
        path = os.path.join(_DEV, port)
        if os.path.exists(path):
            return path
        found = sorted(found for pattern in _SERIAL_PORTS for found in glob.glob(os.path.join(_DEV, pattern)))
        known = f"there are: {', '.join(found)}" if found else "there is none; is the UART enabled (raspi-config)?"
        raise HardwareError(path, "no such port", known, errno=errno.ENOENT)

    def open_bus(self, bus: int) -> SMBus:
        path = os.path.join(_DEV, f"i2c-{bus}")
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
            found = ", ".join(sorted(glob.glob(os.path.join(_DEV, "i2c-*"))))
            hint = "enable it with dtparam=i2c_arm=on in config.txt, or raspi-config"
            raise HardwareError(
                path, "no such bus", f"there are: {found}; {hint}" if found else hint, errno=errno.ENOENT
            ) from error
        except OSError as error:
            opened.close()
            raise _refused(path, error) from error
        return opened

    def close(self) -> None:
        super().close()
        with self._lock:
            if self._chip is not None:
                self._chip.close()
                self._chip = None

    def _gpio(self) -> LgpioChip:
        """The chip of the header, opened when first asked for."""
        with self._lock:
            if self._chip is None:
                chosen = choose_chip(list_chips())
                lgpio, workdir = load_lgpio()
                self._chip = LgpioChip(lgpio, number=chosen.number, workdir=workdir)
            return self._chip


def list_chips() -> list[ChipInfo]:
    """The GPIO chips of this machine, by number. Raises `HardwareError` where there are some and none may be opened."""
    chips = []
    refusal: HardwareError | None = None
    for path in glob.glob(os.path.join(_DEV, "gpiochip[0-9]*")):
        try:
            chips.append(_chip_info(path, int(path.rpartition("gpiochip")[2])))
        except HardwareError as error:
            refusal = error
    if refusal is not None and not chips:
        raise refusal
    return sorted(chips, key=lambda chip: chip.number)


def choose_chip(chips: Sequence[ChipInfo]) -> ChipInfo:
    """The chip with the header's lines: the one known by its label, else the only one that has lines.

    Raises `HardwareError` where there is none, or no telling which.
    """
    for label in HEADER_CHIPS:
        for chip in chips:
            if chip.label == label:
                return chip
    with_lines = [chip for chip in chips if chip.lines]
    if len(with_lines) == 1:
        return with_lines[0]
    if not with_lines:
        raise HardwareError(
            f"{_DEV}/gpiochip*",
            "no GPIO chip on this machine",
            "on a desktop use the simulated board: HWLOOP_BOARD=sim",
        )
    listed = ", ".join(f"{chip.path} ({chip.label}, {chip.lines} lines)" for chip in with_lines)
    raise HardwareError(
        f"{_DEV}/gpiochip*",
        f"several GPIO chips, and none is known to be a Raspberry Pi's: {listed}",
        f"known are {', '.join(HEADER_CHIPS)}",
    )


def _chip_info(path: str, number: int) -> ChipInfo:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(fd, _GPIO_GET_CHIPINFO_IOCTL, bytes(_CHIP_INFO.size))
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(path, error) from error
    _, label, lines = _CHIP_INFO.unpack(answer)
    return ChipInfo(path, number, label.rstrip(b"\0").decode(errors="replace"), lines)


def _refused(path: str, error: OSError) -> HardwareError:
    """What it means that a device node can't be opened."""
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = permission_hint(path, "a udev rule gives it to one, as Raspberry Pi OS has it (groups gpio and i2c)")
    return HardwareError(path, (error.strerror or str(error)).lower(), hint, errno=error.errno)
