"""The bytes on their way to a serial port: written at once as far as the kernel takes them, and the rest when it can.

A serial line is slow (960 bytes a second at 9600 baud) and may stop altogether (flow control), so a program that writes
must neither block nor fill the memory: the buffer says when it is full, and wakes those that wait for it to drain.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

from hwloop.errors import HardwareError
from hwloop.sources.serial.device import SerialDevice

LONGEST_STALL = 30.0
"""Seconds for which closing waits for a device that takes no byte: as long as the kernel waits (setserial(8))."""


class WriteBuffer:
    """The bytes that wait to be written to one port.

    Parameters:
        loop: watches the port while bytes are waiting.
        device: the open port.
        on_error: called with the `HardwareError` when writing failed; the owner closes the port then.
        on_progress: called after waiting bytes were written.

    Attributes:
        full: whether the writer should pause: set above `high` waiting bytes, cleared at `low`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        device: SerialDevice,
        on_error: Callable[[HardwareError], object],
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._loop = loop
        self._device = device
        self._on_progress = on_progress
        self._on_error = on_error
        self._buffer = bytearray()
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self.full: bool = False
        self.set_limits(None, None)

    def set_limits(self, high: int | None, low: int | None) -> None:
        """Set the limits of `full`, in bytes; None stands for asyncio's defaults. Raises ValueError."""
        if high is None:
            high = 65536 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high: int = high
        self.low: int = low

    def __len__(self) -> int:
        return len(self._buffer)

    def unsent(self) -> int:
        """Return how many written bytes are not on the wire yet, those in the kernel included."""
        return len(self._buffer) + self._device.out_waiting()

    def stall(self, unsent: int) -> HardwareError:
        """Return the error for a port that is closed with `unsent` bytes unsent, because the device takes none."""
        return HardwareError(
            self._device.name,
            f"the device took no byte for {LONGEST_STALL:g} s while the port was closed, and {unsent} are dropped",
            "look at its flow control; to wait for longer, await flush() or drain() before",
        )

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write as many bytes as the kernel takes now, and keep the rest until it takes more."""
        data = bytes(data)
        if not self._buffer and data:
            try:
                taken = self._device.write(data)
            except HardwareError as error:
                self._buffer += data
                self._on_error(error)
                return
            if taken == len(data):
                return
            data = data[taken:]
            self._loop.add_writer(self._device.fileno(), self._on_writable)
        self._buffer += data
        self.full = self.full or len(self._buffer) > self.high

    def close(self) -> int:
        """Drop the waiting bytes, wake those that wait for progress, and return how many bytes were dropped."""
        self._wake()
        unsent = len(self._buffer)
        if unsent:
            self._buffer.clear()
            self._stop()
        return unsent

    async def progress(self) -> None:
        """Wait until waiting bytes were written, or dropped because the port is gone."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _on_writable(self) -> None:
        try:
            taken = self._device.write(self._buffer)
        except HardwareError as error:
            self._on_error(error)
            return
        del self._buffer[:taken]
        if len(self._buffer) <= self.low:
            self.full = False
        if not self._buffer:
            self._stop()
        self._wake()
        self._on_progress()

    def _stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_writer(self._device.fileno())
