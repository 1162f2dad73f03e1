"""The lines of a simulated chip as hwloop's own sources claim them: through lgpio, or through gpiod as on most Pis.

Both are the code that reaches real lines, on the simulated library or on the package over the simulated kernel. A chip
that vanished and came back is opened again.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from functools import partial

from firmware_sim.chip_removal import ChipRemoval
from firmware_sim.descriptors import descriptors
from firmware_sim.gpio_device import GpioDevice
from firmware_sim.libraries.gpiod.bindings import load_copy
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.nodes import Nodes, os_error
from hwloop.boards.chip import OpenChip
from hwloop.boards.gpiod import edges as gpiod_edges
from hwloop.boards.gpiod.chip import GpiodChip
from hwloop.boards.gpiod.output import GpiodOutput
from hwloop.boards.kernel_output import KernelOutput, claim_output
from hwloop.boards.lgpio import edges as lgpio_edges
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.lgpio.output import LgpioOutput
from hwloop.errors import HardwareError
from hwloop.requests import OutputRequest


class ProgramLines:
    """The lines of a board.

    Parameters:
        device: the device of the chip.
        lgpio: the simulated lgpio on the chip.
        nodes: the board's device nodes.
        revision: the board's revision code, for positions on the header.

    HWLOOP_GPIO=gpiod in the environment selects gpiod, and lgpio is taken otherwise.
    """

    def __init__(self, device: GpioDevice, lgpio: Lgpio, nodes: Nodes, revision: int) -> None:
        self._device = device
        self._lgpio = lgpio
        self._nodes = nodes
        self._revision = revision
        self._timeline = device.chip.timeline
        self._opened: OpenChip | None = None  # until something needs it: a script has the library to itself

    def open(self, wanted: str | None) -> OpenChip:
        """Return the chip; `wanted` is the label or path that the program gives. Raises `HardwareError`."""
        label = self._device.chip.label
        if wanted not in (None, label, self._device.path):
            raise HardwareError(f"chip {wanted!r}", "no such chip on the simulated board", f"its chip is {label}")
        if self._opened is None or self._opened.chip.gone():
            through_gpiod = os.environ.get("HWLOOP_GPIO") == "gpiod"
            opened = self._through_gpiod() if through_gpiod else self._through_lgpio()
            self.close()
            self._opened = opened
        return self._opened

    def open_kept(self, request: OutputRequest) -> KernelOutput:
        """Claim a line by the kernel's own calls. Raises `HardwareError`.

        Its descriptor leads to this process, which only the file of the surviving lines outlives.
        """
        chip = self.open(request.chip).chip
        return claim_output(chip, self._device.path, request, NodeCalls(self._nodes), shareable=False)

    def resolved(self, request: OutputRequest) -> OutputRequest:
        """Return a request with the path of the chip and the number of the line. Raises `HardwareError`."""
        number = self.open(request.chip).chip.find(request.line)
        return dataclasses.replace(request, line=number, chip=self._device.path)

    def close(self) -> None:
        """Close the chip. Harmless when repeated."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.chip.close()

    def _through_lgpio(self) -> OpenChip:
        chip = LgpioChip(
            self._lgpio,
            number=0,
            workdir=self._lgpio.directory,
            time_ns=self._timeline.now_ns,
            level_of=self._level_of,
            revision=self._revision,
            watch_removal=self._watch_removal,
        )
        return OpenChip(chip, partial(lgpio_edges.watch_lines, chip), partial(LgpioOutput, chip))

    def _through_gpiod(self) -> OpenChip:
        try:
            package = load_copy(self._nodes)
        except ImportError as error:
            raise HardwareError("import gpiod (HWLOOP_GPIO)", str(error)) from error
        chip = GpiodChip(
            package,
            self._device.path,
            time_ns=self._timeline.now_ns,
            revision=self._revision,
            watch_removal=self._watch_removal,
        )
        return OpenChip(chip, partial(gpiod_edges.watch_lines, chip), partial(GpiodOutput, chip))

    def _watch_removal(self) -> ChipRemoval:
        return ChipRemoval(self._device.chip)

    def _level_of(self, number: int) -> int:
        with self._timeline.lock:
            self._timeline.catch_up()
            self._device.chip.line(number).find_kept()
            return self._device.chip.line(number).level


class NodeCalls:
    """System calls on the nodes of a board, for code that drives lines by the kernel's interface."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def open(self, path: str) -> int:
        node = self._nodes.get(self._nodes.resolve(path))
        if node is None:
            raise os_error(errno.ENOENT, path)
        return descriptors.open(node, os.O_RDWR | os.O_CLOEXEC)

    def ioctl(self, fd: int, request: int, argument: bytearray) -> object:
        handle = descriptors.handle(fd)
        if handle is None:
            raise os_error(errno.EBADF)
        return handle.ioctl(request, argument)

    def close(self, fd: int) -> None:
        if not descriptors.close(fd):
            raise os_error(errno.EBADF)
