"""The GPIO chips of a machine, and the choice of the one that a program means.

A chip is identified by its label, never by its number: on a Raspberry Pi 5 the chip with the header's lines was
gpiochip4, is gpiochip0 on newer kernels, and other numbers were seen.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hwloop.boards.chip import HEADER_CHIPS
from hwloop.errors import HardwareError, permission_hint

DEV = "/dev"

_GPIO_GET_CHIPINFO_IOCTL = 0x8044B401  # <linux/gpio.h>: _IOR(0xB4, 0x01, struct gpiochip_info)
_CHIP_INFO = struct.Struct("32s32sI")  # name, label, number of lines


class ChipInfo(NamedTuple):
    """A GPIO chip as the kernel describes it."""

    path: str
    number: int
    label: str
    lines: int


def list_chips() -> list[ChipInfo]:
    """Return the GPIO chips by number. Raises `HardwareError` where there are some and none can be opened."""
    chips = []
    refusal: HardwareError | None = None
    for path in glob.glob(os.path.join(DEV, "gpiochip[0-9]*")):
        try:
            chips.append(_chip_info(path, int(path.rpartition("gpiochip")[2])))
        except HardwareError as error:
            refusal = error
    if refusal is not None and not chips:
        raise refusal
    return sorted(chips, key=lambda chip: chip.number)


def choose_chip(chips: Sequence[ChipInfo], wanted: str | None = None) -> ChipInfo:
    """Return the chip with the label or path `wanted`; without it, the one with the lines of the header.

    That one has a known label, or else is the only one that has lines. Raises `HardwareError` where there is none, or
    where several could be meant.
    """
    where = f"{DEV}/gpiochip*"
    if wanted is not None:
        found = [chip for chip in chips if wanted in (chip.label, chip.path)]
        if len(found) == 1:
            return found[0]
        if found:
            raise HardwareError(f"chip {wanted!r}", f"several have that label: {_listed(found)}", "use a path")
        known = f"there are: {_listed(chips)}" if chips else "there is none on this machine"
        raise HardwareError(f"chip {wanted!r}", "no chip of that label or path", known, errno=errno.ENOENT)
    for label in HEADER_CHIPS:
        for chip in chips:
            if chip.label == label:
                return chip
    with_lines = [chip for chip in chips if chip.lines]
    if len(with_lines) == 1:
        return with_lines[0]
    if not with_lines:
        raise HardwareError(
            where, "no GPIO chip on this machine", "on a desktop use the simulated board: HWLOOP_BOARD=sim"
        )
    raise HardwareError(
        where,
        f"several GPIO chips, and none is known to be a Raspberry Pi's: {_listed(with_lines)}",
        f"known are {', '.join(HEADER_CHIPS)}; say which with chip=",
    )


def node_error(path: str, error: OSError) -> HardwareError:
    """Return the error to raise where a device node can't be opened."""
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = permission_hint(
            path, "a udev rule gives it to one, as Raspberry Pi OS has it (groups gpio, i2c and spi)"
        )
    return HardwareError(path, (error.strerror or str(error)).lower(), hint, errno=error.errno)


def _listed(chips: Sequence[ChipInfo]) -> str:
    return ", ".join(f"{chip.path} ({chip.label}, {chip.lines} lines)" for chip in chips)


def _chip_info(path: str, number: int) -> ChipInfo:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(fd, _GPIO_GET_CHIPINFO_IOCTL, bytes(_CHIP_INFO.size))
        finally:
            os.close(fd)
    except OSError as error:
        raise node_error(path, error) from error
    _, label, lines = _CHIP_INFO.unpack(answer)
    return ChipInfo(path, number, label.rstrip(b"\0").decode(errors="replace"), lines)
