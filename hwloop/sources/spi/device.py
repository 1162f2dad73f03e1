"""A device on an SPI bus, whose transfers are awaited.

    async with spi.open(0, 0, speed=1_000_000) as adc:
        answer = await adc.transfer(b"\\x01\\x80\\x00")

In a transfer the controller sends a byte and reads one at the same time, so the answer to a command is in the bytes
behind it. The devices of a bus share its wires, and here its thread too: their transfers are made in the order in which
they were requested. `hwloop.sources.bus` says what a device guarantees, and `faults` explains the kernel's errors.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from hwloop.board import Board, SpiDev, SpiRequest, checked_call, current
from hwloop.core.naming import short_name
from hwloop.core.urgency import Priority
from hwloop.sources.bus import BusSource, sendable, whole
from hwloop.sources.bus_access import BusAccess
from hwloop.sources.bus_thread import BusThread
from hwloop.sources.intake import WhenFull
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.spi.faults import FAULTS

MESSAGE_MAX = 4096
"""Bytes in one message: as many as spidev's `SpiDev.xfer2` takes and, by default, the kernel."""

_NODE = re.compile(r"(?:/dev/)?spidev(\d+)\.(\d+)")
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class Device(BusSource[SpiDev]):
    """A device on an SPI bus of the board in use. `hwloop.spi.open` is this class.

    As a source it yields the `Transaction`s that it has done, to consumers that ask for them: a log of the device.

    Parameters:
        bus: 0 for the bus on the header of a Raspberry Pi; or "/dev/spidev0.1", which has the select line too.
        select: the number of the device's select line, 0 or 1 (CE0, CE1); 0 if not given.
        speed: the clock, Hz. The default is slow enough for almost every part; the datasheet has its maximum.
        mode: 0 to 3, of CPOL and CPHA; most parts have mode 0.
        bits: the bits of a word. The controller of the Pi 0 to 4 has 8 only.
        lsb_first: whether the device sends and expects the lowest bit of a byte first. hwloop turns the bytes itself,
            because the Pi's controllers can't.
        cs_high: whether a high level of the select line selects the device.
        timeout: seconds within which each operation has its answer or fails with a `BusTimeoutError`, time in the queue
            included.
        reopen: pauses between reopenings; the device is reopened when five jobs in a row have failed. None: 0.1 s,
            doubled each time, up to 30 s.
        on_reopen: a function or coroutine function, called with the device when it has been reopened and a job has
            succeeded since: to set it up again.
        queue_size, when_full: of the log.
        priority, name: as for every `Source`; the name is "spi:0.1" if not given.

    Attributes:
        request: bus, select line and settings.
        timeout: the parameter, in seconds.
        suspect: whether a transfer has outlasted its time and none has succeeded since.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    there is no such device node, the program may not use it, or the controller does not have the settings.

    Example:

        async with spi.open(0, 0, speed=1_000_000) as adc:
            answer = await adc.transfer(b"\\x01\\x80\\x00")

    Source: Documentation/spi/spidev.rst of the kernel.
    """

    hung_hint = "increase timeout=, or speed= if it is a long transfer; the kernel's log (dmesg) may say more"

    def __init__(
        self,
        bus: int | str | os.PathLike[str],
        select: int | None = None,
        *,
        speed: float = 500_000,
        mode: int = 0,
        bits: int = 8,
        lsb_first: bool = False,
        cs_high: bool = False,
        timeout: float = 1.0,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        priority: Priority = Priority.NORMAL,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
    ) -> None:
        number, line = _place(bus, select)
        self.request: SpiRequest = SpiRequest(number, line, speed=speed, mode=mode, bits=bits, cs_high=cs_high)
        if not isinstance(lsb_first, bool):
            raise TypeError(f"lsb_first must be True or False, not {lsb_first!r}")
        self._lsb_first = lsb_first
        super().__init__(
            f"SPI device {number}.{line}",
            timeout=timeout,
            queue_size=queue_size,
            when_full=when_full,
            priority=priority,
            name=name or f"spi:{number}.{line}",
            reopen=reopen,
            on_reopen=on_reopen,
        )

    # For programs.

    async def transfer(self, data: Iterable[int]) -> bytes:
        """Send bytes, and return as many that were read at the same time.

        More than 4096 are several messages: the device is deselected between them.
        """
        sent = _checked(data)
        return await self.perform(
            f"transfer of {len(sent)} bytes", self._exchange, (sent,), one_transfer=len(sent) <= MESSAGE_MAX
        )

    async def write(self, data: Iterable[int]) -> None:
        """Send bytes. More than 4096 are several messages: the device is deselected between them."""
        sent = _checked(data)
        await self.perform(
            f"write of {len(sent)} bytes", self._exchange, (sent,), one_transfer=len(sent) <= MESSAGE_MAX
        )

    async def read(self, count: int) -> bytes:
        """Return `count` bytes, read while zeros are sent. More than 4096 are several messages, as in `transfer`."""
        sent = bytes(_count(count))
        return await self.perform(f"read of {count} bytes", self._exchange, (sent,), one_transfer=count <= MESSAGE_MAX)

    async def write_read(self, data: Iterable[int], count: int) -> bytes:
        """Send bytes, and return the `count` bytes that follow, the device selected all the while: a command's answer.

        At most 4096 in all.
        """
        _, answer = await self.message(_checked(data), count)
        return answer

    async def message(self, *parts: Iterable[int] | int) -> list[bytes]:
        """Make one message of several parts, the device selected all the while. Return what was read in each.

        Bytes are sent; a number is a count of bytes to read, while zeros are sent. At most 4096 in all.

            _, status, _, data = await chip.message(b"\\x05", 1, b"\\x00\\x00", 2)
        """
        if not parts:
            raise ValueError("a message has at least one part: bytes to send, or a count of bytes to read")
        pieces = [bytes(_count(part)) if isinstance(part, int) else _checked(part) for part in parts]
        sent = b"".join(pieces)
        if len(sent) > MESSAGE_MAX:
            raise ValueError(f"a message has at most {MESSAGE_MAX} bytes, not {len(sent)}; make several of it")
        received = await self.perform(f"message of {len(sent)} bytes", self._exchange, (sent,), one_transfer=True)
        answers, start = [], 0
        for piece in pieces:
            answers.append(received[start : start + len(piece)])
            start += len(piece)
        return answers

    # For the base class.

    def reach(self) -> BusAccess[SpiDev]:
        board, request = current(), self.request

        def open_device() -> SpiDev:
            return checked_call(board.open_spi, request, SpiDev)

        return BusAccess(
            open_device, self.title, self._backoff, board.clock, lambda: _shared_thread(board, request.bus)
        )

    def fault(self, number: int) -> tuple[str, str] | None:
        return FAULTS.get(number)

    # On the bus's thread.

    def _exchange(self, device: SpiDev, data: bytes) -> bytes:
        if self._lsb_first:
            data = data.translate(_REVERSED)
        if len(data) <= MESSAGE_MAX:
            answer = bytes(device.xfer2(data))
        else:
            pieces = (data[start : start + MESSAGE_MAX] for start in range(0, len(data), MESSAGE_MAX))
            answer = b"".join(bytes(device.xfer2(piece)) for piece in pieces)
        return answer.translate(_REVERSED) if self._lsb_first else answer


open = Device

_threads: WeakKeyDictionary[Board, dict[int, BusThread]] = WeakKeyDictionary()
_guard = threading.Lock()


def _shared_thread(board: Board, bus: int) -> BusThread:
    """Return the thread of a bus, which its open devices share."""
    with _guard:
        threads = _threads.setdefault(board, {})
        thread = threads.get(bus)
        if thread is None or not thread.share():
            thread = threads[bus] = BusThread(f"SPI bus {bus}", board.clock)
        return thread


def _place(bus: int | str | os.PathLike[str], select: int | None) -> tuple[int, int]:
    """Return the numbers of bus and select line. Raises TypeError or ValueError."""
    if isinstance(bus, str | os.PathLike):
        name = os.fspath(bus).strip()
        found = _NODE.fullmatch(name)
        if found is not None:
            if select not in (None, int(found[2])):
                raise ValueError(f"{name} has the select line {found[2]}, not {select!r}")
            return int(found[1]), int(found[2])
        if not name.isdecimal():
            raise ValueError(f"an SPI bus is a number such as 0, or '/dev/spidev0.1', not {short_name(bus)}")
        bus = int(name)
    number, line = whole("an SPI bus", bus), whole("a select line", 0 if select is None else select)
    if number < 0 or line < 0:
        raise ValueError(f"an SPI bus and a select line have numbers from 0, not {number} and {line}")
    return number, line


def _checked(data: Iterable[int]) -> bytes:
    """Return bytes to send. Raises TypeError or ValueError."""
    sent = sendable(data)
    if not sent:
        raise ValueError("a transfer has at least one byte")
    return sent


def _count(count: int) -> int:
    if whole("a count of bytes", count) < 1:
        raise ValueError(f"a read has at least one byte, not {count}")
    return count
