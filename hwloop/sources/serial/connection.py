"""A serial port between its opening and its end: the open device, the bytes on their way to it, its hang-up.

A port that is unplugged and opened again gets another connection, so a task that waits on the first one finds out that
its bytes are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hwloop.errors import HardwareError
from hwloop.sources.serial.device import SerialDevice, logger
from hwloop.sources.serial.hang_up import HangUpWatch
from hwloop.sources.serial.write_buffer import LONGEST_STALL, WriteBuffer


class Connection:
    """An open port.

    Parameters:
        loop: the port's.
        device: the open device. The connection closes it.
        failed: called with the error when writing has failed; the owner closes the connection then.
        hung_up: called when the port hangs up while `hang_up` is on.

    Attributes:
        device: the parameter.
        output: the bytes that the kernel has not taken yet.
        hang_up: the watch for a hang-up while the port is not read.
        has_low_latency: whether the driver delivers bytes at once.
        closed: whether `close()` was called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        device: SerialDevice,
        failed: Callable[[HardwareError], object],
        hung_up: Callable[[], object],
    ) -> None:
        self.device: SerialDevice = device
        self.output: WriteBuffer = WriteBuffer(loop, device, failed)
        self.hang_up: HangUpWatch = HangUpWatch(loop, device, hung_up)
        self.has_low_latency: bool = device.has_low_latency()
        self.closed: bool = False

    def seconds_to_send(self) -> float:
        """Return the seconds until all written bytes are on the wire."""
        return self.output.unsent() * self.device.character_time

    async def drain(self) -> None:
        """Wait until there is room for more bytes, or the port is closed."""
        while self.output.full and not self.closed:
            await self.output.progress()

    async def flush(self) -> None:
        """Wait until all written bytes are on the wire, or the port is closed."""
        while self.output and not self.closed:
            await self.output.progress()
        while not self.closed and (waiting := self.device.out_waiting()):
            await asyncio.sleep(waiting * self.device.character_time)

    async def flush_last(self) -> None:
        """Wait as `flush()` does, but for no device that takes no byte any more: log how many bytes it leaves."""
        left = self.output.unsent()
        while True:
            try:
                async with asyncio.timeout(LONGEST_STALL):
                    return await self.flush()
            except TimeoutError:
                before, left = left, self.output.unsent()
                if left >= before:
                    logger.warning("%s", self.output.stall(left))
                    return None

    async def send_break(self, seconds: float) -> None:
        """Hold the line in its active state for `seconds`."""
        self.device.serial.break_condition = True
        try:
            await asyncio.sleep(seconds)
        finally:
            if not self.closed:
                self.device.serial.break_condition = False

    def close(self) -> int:
        """Close the port, and return how many written bytes were dropped. Raises OSError when all else is done."""
        self.closed = True
        self.hang_up.close()
        unsent = self.output.close()
        return unsent + self.device.close()
