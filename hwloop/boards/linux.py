"""The real board: GPIO chips, serial ports, I2C and SPI buses of a Linux machine.

Its lines are reached through gpiod where that is installed, which is quicker and hides no loss, or else through lgpio.
Nothing is opened before a program asks for it, so a machine without GPIO can still use its serial ports. A chip that
vanished and came back is opened again.
"""

from __future__ import annotations

import dataclasses
import errno
import glob
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hwloop.board import Backend
from hwloop.board_interface import Board
from hwloop.boards import chip_discovery
from hwloop.boards.chip import GpioChip, OpenChip
from hwloop.boards.chip_discovery import ChipInfo
from hwloop.boards.gpiod import edges as gpiod_edges
from hwloop.boards.gpiod.chip import GpiodChip, load_gpiod
from hwloop.boards.gpiod.output import GpiodOutput
from hwloop.boards.lgpio import edges as lgpio_edges
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.lgpio.module import load_lgpio
from hwloop.boards.lgpio.output import LgpioOutput
from hwloop.boards.unclaimed_line import read_unclaimed
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream, OutputLine
from hwloop.onewire_files import OneWireFiles, SysfsFiles
from hwloop.requests import EdgeRequest, OutputRequest
from hwloop.spi_device import SpiDev, SpiRequest, set_up

if TYPE_CHECKING:
    from smbus2 import SMBus

    from hwloop.boards.pwm_output import PwmFiles
    from hwloop.serial_ports import PortInfo

_PWM = "/sys/class/pwm/pwmchip0"
_MODEL = "/proc/device-tree/model"
_SERIAL_PORTS = ("serial/by-id/*", "serial[0-9]*", "ttyAMA*", "ttyUSB*", "ttyACM*")


class LinuxBoard(Board):
    """This computer.

    `backend` selects the library that reaches its lines: see `hwloop.board.open_board`. Raises ValueError where that
    is unknown.
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
            self.label: str = Path(_MODEL).read_text(encoding="utf-8", errors="replace").rstrip("\0\n") or "Linux"
        except OSError:
            self.label = "Linux"
        self._lock = threading.Lock()
        self._chips: dict[str, OpenChip] = {}
        self._pwm_files: PwmFiles | None = None

    def load(self) -> None:
        self._library("/dev/gpiochip*")

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        opened = self._chip(request.chip)
        if self.tracer is None:
            return opened.watch(request)
        from hwloop.boards.traced_lines import TracedEdges

        numbers = {line: opened.chip.find(line) for line in request.lines}
        return TracedEdges(self, opened.watch(request), numbers, active_low=request.active_low)

    def open_output(self, request: OutputRequest) -> OutputLine:
        opened = self._chip(request.chip)
        if request.chip is None and request.drive == "push-pull" and os.path.exists(_PWM):
            from hwloop.boards.pwm_discovery import find_channel

            if (channel := find_channel(opened.chip.find(request.line))) is not None:
                from hwloop.boards.pwm_output import PwmOutput, SysfsPwmFiles

                self._pwm_files = self._pwm_files or SysfsPwmFiles()
                return PwmOutput(self._pwm_files, channel, request)
        drive = opened.drive
        if request.keep:
            from hwloop.boards.kernel_output import claim_output

            drive = partial(claim_output, opened.chip, opened.chip.node)
        if self.tracer is None:
            return drive(request)
        from hwloop.boards.traced_lines import TracedOutput

        number = opened.chip.find(request.line)
        before = _level_before(opened.chip.node, number)
        return TracedOutput(self, drive(request), number, request, before)

    def resolved(self, request: OutputRequest) -> OutputRequest:
        chip = self._chip(request.chip).chip
        return dataclasses.replace(request, line=chip.find(request.line), chip=chip.node)

    def adopt_output(self, request: OutputRequest, fd: int) -> OutputLine:
        from hwloop.boards.kernel_output import adopt_output

        try:
            chip = self._chip(request.chip).chip
        except BaseException:
            os.close(fd)
            raise
        adopted = adopt_output(chip, chip.node, request, fd)
        if self.tracer is None:
            return adopted
        from hwloop.boards.traced_lines import TracedOutput

        before = adopted.get() ^ request.active_low
        kept = dataclasses.replace(request, initial=None)
        return TracedOutput(self, adopted, chip.find(request.line), kept, before)

    def serial_port(self, port: str) -> str:
        path = os.path.join(chip_discovery.DEV, port)
        if os.path.exists(path):
            return path
        found = sorted(
            found for pattern in _SERIAL_PORTS for found in glob.glob(os.path.join(chip_discovery.DEV, pattern))
        )
        known = f"there are: {', '.join(found)}" if found else "there is none; is the UART enabled (raspi-config)?"
        raise HardwareError(path, "no such port", known, errno=errno.ENOENT)

    def serial_ports(self) -> list[PortInfo]:
        from hwloop.serial_ports import list_ports

        return list_ports(dev=chip_discovery.DEV)

    def open_bus(self, bus: int) -> SMBus:
        path = os.path.join(chip_discovery.DEV, f"i2c-{bus}")
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
            found = ", ".join(sorted(glob.glob(os.path.join(chip_discovery.DEV, "i2c-*"))))
            hint = "enable it with dtparam=i2c_arm=on in config.txt, or raspi-config"
            raise HardwareError(
                path, "no such bus", f"there are: {found}; {hint}" if found else hint, errno=errno.ENOENT
            ) from error
        except OSError as error:
            opened.close()
            raise chip_discovery.node_error(path, error) from error
        if self.tracer is not None:
            from hwloop.boards.traced_bus import trace_bus

            trace_bus(self, bus, opened)
        return opened

    def open_spi(self, request: SpiRequest) -> SpiDev:
        path = os.path.join(chip_discovery.DEV, f"spidev{request.bus}.{request.select}")
        try:
            import spidev
        except ModuleNotFoundError as error:
            raise HardwareError(
                path, "the package spidev is not installed", "pip install hwloop[spi], or apt install python3-spidev"
            ) from error
        device: SpiDev = spidev.SpiDev()
        try:
            device.open(request.bus, request.select)  # type: ignore[attr-defined]
        except FileNotFoundError as error:
            found = ", ".join(sorted(glob.glob(os.path.join(chip_discovery.DEV, "spidev*"))))
            hint = "enable it with dtparam=spi=on in config.txt, or raspi-config"
            if request.bus > 0:
                hint = f"enable it with dtoverlay=spi{request.bus}-{max(1, request.select + 1)}cs in config.txt"
            raise HardwareError(
                path, "no such device", f"there are: {found}; {hint}" if found else hint, errno=errno.ENOENT
            ) from error
        except OSError as error:
            raise chip_discovery.node_error(path, error) from error
        set_up(device, request)
        if self.tracer is None:
            return device
        from hwloop.boards.traced_spi import TracedSpi

        traced: Any = TracedSpi(self, device, request)
        return traced  # type: ignore[no-any-return]

    def open_onewire(self) -> OneWireFiles:
        files = SysfsFiles()
        try:
            if any(name.startswith("w1_bus_master") for name in files.names()):
                return files
        except OSError:
            pass
        hint = "enable one with dtoverlay=w1-gpio in config.txt, or raspi-config, and reboot"
        raise HardwareError("1-Wire", "the kernel has no 1-Wire bus", hint, errno=errno.ENODEV)

    def close(self) -> None:
        super().close()
        with self._lock:
            for opened in self._chips.values():
                opened.chip.close()
            self._chips.clear()

    def gpio(self, wanted: str | None = None) -> GpioChip:
        """Return the chip with the label or path `wanted`, or the header's; the first call opens it."""
        return self._chip(wanted).chip

    def _chip(self, wanted: str | None) -> OpenChip:
        with self._lock:
            for path, known in list(self._chips.items()):
                if known.chip.forked or known.chip.gone():
                    del self._chips[path]
                    known.chip.close()
            found = chip_discovery.choose_chip(chip_discovery.list_chips(), wanted)
            if found.path not in self._chips:
                self._chips[found.path] = self._open(found)
            return self._chips[found.path]

    def _open(self, found: ChipInfo) -> OpenChip:
        library, workdir = self._library(found.path)
        if workdir is None:
            by_gpiod = GpiodChip(library, found.path)
            return OpenChip(by_gpiod, partial(gpiod_edges.watch_lines, by_gpiod), partial(GpiodOutput, by_gpiod))
        by_lgpio = LgpioChip(library, number=found.number, workdir=workdir, node=found.path)
        return OpenChip(by_lgpio, partial(lgpio_edges.watch_lines, by_lgpio), partial(LgpioOutput, by_lgpio))

    def _library(self, path: str) -> tuple[Any, str | None]:
        """Import gpiod, or else lgpio, which has a directory for its FIFOs. Raises `HardwareError` for `path`."""
        missing: HardwareError | None = None
        if self._backend != "lgpio":
            try:
                return load_gpiod(), None
            except HardwareError as error:
                if self._backend == "gpiod":
                    raise
                missing = error
        try:
            return load_lgpio()
        except HardwareError as error:
            if missing is None:
                raise
            raise HardwareError(
                path,
                f"neither gpiod ({missing.reason}) nor lgpio ({error.reason}) can be used",
                missing.hint,
            ) from error


def _level_before(node: str, number: int) -> int | None:
    """Return the electrical level of a line that nobody has claimed; None if it can't be read."""
    try:
        return read_unclaimed(node, number)
    except OSError:
        return None
