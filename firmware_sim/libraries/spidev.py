"""`spidev`, the module that most programs use for SPI, on a simulated board.

The real one is written in C, so this is another implementation of the same class (spidev 3.8), with its errors. Below
it is the same node that programs reach which open /dev/spidevB.C themselves.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any, Self

from firmware_sim.descriptors import descriptors
from firmware_sim.nodes import Nodes, os_error
from firmware_sim.spi import Mode
from firmware_sim.spi_dev import BITS, BUFFER, SpiHandle, SpiNode
from hwloop.errors import HardwareError
from hwloop.spi_device import SpiRequest, set_up

_BLOCK_MAX = 4096


def spidev_module(nodes: Nodes) -> ModuleType:
    """Return the module `spidev`, whose `SpiDev` opens the nodes of a board."""
    module = ModuleType("spidev", SpiDev.__doc__)
    opened = type("SpiDev", (SpiDev,), {"nodes": nodes, "__module__": "spidev"})
    module.__dict__.update(SpiDev=opened, __version__="3.8")
    return module


@functools.cache
def program_module() -> ModuleType:
    """Return the module `spidev` of programs, the same one each time: they keep it from one board to the next.

    The attribute `nodes` of its `SpiDev` is that of the board in use.
    """
    return spidev_module(Nodes())


def opened_device(nodes: Nodes, request: SpiRequest) -> SpiDev:
    """Return a device of a board, set up as requested. Raises `HardwareError`."""
    device: SpiDev = spidev_module(nodes).SpiDev()
    try:
        device.open(request.bus, request.select)
    except FileNotFoundError as error:
        raise HardwareError(request.path, str(error.strerror), errno=error.errno) from error
    set_up(device, request)
    return device


class _Flag:
    """An attribute of `SpiDev` for one bit of the mode."""

    def __init__(self, bit: int) -> None:
        self._bit = bit
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = "3wire" if name == "threewire" else name

    def __get__(self, device: SpiDev | None, owner: type[Any]) -> Any:
        return self if device is None else bool(device.settings & self._bit)

    def __set__(self, device: SpiDev, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"The {self._name} attribute must be boolean")
        device.set_settings(device.settings | self._bit if value else device.settings & ~self._bit)


class SpiDev:
    """SpiDev([bus],[client]) -> SPI

    Return a new SPI object that is (optionally) connected to the specified SPI device interface.
    """

    nodes: Nodes
    """The board's files."""

    cshigh: _Flag = _Flag(Mode.CS_HIGH)
    threewire: _Flag = _Flag(Mode.THREE_WIRE)
    lsbfirst: _Flag = _Flag(Mode.LSB_FIRST)
    loop: _Flag = _Flag(Mode.LOOP)
    no_cs: _Flag = _Flag(Mode.NO_CS)

    def __init__(self, bus: int = -1, client: int = -1) -> None:
        self._fd = -1
        self._speed = self._bits = 0
        self._read0 = False
        self.settings: int = 0
        if bus >= 0:
            self.open(bus, client)

    def open(self, bus: int, device: int) -> None:
        """Connect to /dev/spidev<bus>.<device>."""
        self.open_path(f"/dev/spidev{bus}.{device}")

    def open_path(self, path: str | os.PathLike[str]) -> None:
        """Connect to the device with this path."""
        name = os.fspath(path)
        node = self.nodes.get(self.nodes.resolve(name))
        if not isinstance(node, SpiNode):
            known = (
                ", ".join(each for each in sorted(self.nodes.entries("/dev")) if each.startswith("spidev")) or "none"
            )
            raise FileNotFoundError(
                errno.ENOENT, f"no such device on the simulated board; its SPI devices are: {known}", name
            )
        self._fd = descriptors.open(node, os.O_RDWR)
        self.settings, self._speed, self._bits = node.settings, node.speed, BITS

    def close(self) -> None:
        """Disconnect from the device."""
        fd, self._fd = self._fd, -1
        self.settings = self._speed = self._bits = 0
        if fd >= 0 and not descriptors.close(fd):
            raise os_error(errno.EBADF)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._fd >= 0:
            descriptors.close(self._fd)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    # Settings.

    @property
    def mode(self) -> int:
        """SPI mode as two bit pattern of Clock Polarity and Phase [CPOL|CPHA], 0 to 3."""
        return self.settings & (Mode.CPHA | Mode.CPOL)

    @mode.setter
    def mode(self, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError("The mode attribute must be an integer")
        if value & 0xFF > 3:
            raise TypeError("The mode attribute must be an integerbetween 0 and 3.")
        self.set_settings(self.settings & ~(Mode.CPHA | Mode.CPOL) | value & 0xFF)

    @property
    def max_speed_hz(self) -> int:
        """Maximum speed in Hz."""
        return self._speed

    @max_speed_hz.setter
    def max_speed_hz(self, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError("The max_speed_hz attribute must be an integer")
        if self._speed != value & 0xFFFFFFFF:
            self._node().set_speed(value & 0xFFFFFFFF)
            self._speed = value & 0xFFFFFFFF

    @property
    def bits_per_word(self) -> int:
        """Bits of a word."""
        return self._bits

    @bits_per_word.setter
    def bits_per_word(self, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError("The bits_per_word attribute must be an integer")
        if not 8 <= value & 0xFF <= 32:
            raise TypeError("invalid bits_per_word (8 to 32)")
        if self._bits != value & 0xFF:
            self._node().set_bits(value & 0xFF)
            self._bits = value & 0xFF

    @property
    def read0(self) -> bool:
        """Read 0 bytes after transfer to lower CS if cshigh == True."""
        return self._read0

    @read0.setter
    def read0(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError("The read0 attribute must be boolean")
        self._read0 = value

    def set_settings(self, settings: int) -> None:
        """Set all bits of the mode. Raises OSError."""
        self._node().set_mode(settings)
        self.settings = settings

    # Transfers.

    def xfer(self, values: Any, speed_hz: int = 0, delay_usecs: int = 0, bits_per_word: int = 0, /) -> Any:
        """Exchange bytes, at most 4096. A list gets what was read, and is returned; a tuple gives a tuple."""
        data = _checked(values, limit=_BLOCK_MAX)
        answer = self._exchange(data, speed_hz, delay_usecs, bits_per_word)
        if isinstance(values, list):
            values[:] = answer
            return values
        return tuple(answer) if isinstance(values, tuple) else list(answer)

    xfer2 = xfer

    def xfer3(self, values: Any, speed_hz: int = 0, delay_usecs: int = 0, bits_per_word: int = 0, /) -> tuple[int, ...]:
        """Exchange any number of bytes, in several messages if they are more than 4096, and return a tuple."""
        data = _checked(values)
        return tuple(
            byte
            for start in range(0, len(data), BUFFER)
            for byte in self._exchange(data[start : start + BUFFER], speed_hz, delay_usecs, bits_per_word)
        )

    def readbytes(self, count: int, /) -> list[int]:
        """Read bytes, at least one and at most 4096, while zeros are sent."""
        return list(self._handle().read(min(max(count, 1), _BLOCK_MAX)))

    def writebytes(self, values: Sequence[int], /) -> None:
        """Send bytes, at most 4096."""
        self._handle().write(_checked(values, limit=_BLOCK_MAX))

    def writebytes2(self, values: Any, /) -> None:
        """Send any number of bytes, in several messages if they are more than 4096."""
        try:
            data = bytes(memoryview(values).cast("B"))
        except TypeError:
            data = _checked(values)
        handle = self._handle()
        for start in range(0, len(data), BUFFER):
            handle.write(data[start : start + BUFFER])

    def _exchange(self, data: bytes, speed: int, delay_usecs: int, bits: int) -> bytes:
        return self._node().exchange(data, speed or self._speed, delay_usecs / 1e6, bits or self._bits)

    def _handle(self) -> SpiHandle:
        handle = descriptors.handle(self._fd) if self._fd >= 0 else None
        if not isinstance(handle, SpiHandle):
            raise os_error(errno.EBADF)
        return handle

    def _node(self) -> SpiNode:
        return self._handle().node


def _checked(values: Any, limit: int | None = None) -> bytes:
    """Return the bytes of a sequence of whole numbers, the lowest 8 bits of each. Raises as spidev does."""
    try:
        listed = list(values)
    except TypeError:
        raise TypeError("expected a sequence") from None
    if not listed:
        raise TypeError("Empty argument list.")
    if limit is not None and len(listed) > limit:
        raise OverflowError(f"Argument list size exceeds {limit} bytes.")
    for value in listed:
        if not isinstance(value, int):
            raise TypeError(f"Non-Int/Long value in arguments: {id(value) & 0xFFFFFFFF:x}.")
    return bytes(value & 0xFF for value in listed)
