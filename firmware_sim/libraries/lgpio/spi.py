"""lgpio's SPI functions, on the simulated buses: one transfer of spidev for each call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from firmware_sim.libraries.lgpio.calls import Count, Data, called, to_bytes
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.handles import Process
from firmware_sim.spi import FASTEST, Segment, SpiBus

_COUNT_MAX = 65536
_BUFFER = 4096
"""Bytes of spidev's buffer (its parameter bufsiz); a longer transfer fails."""


class _Device(NamedTuple):
    bus: SpiBus
    select: int
    speed: int
    mode: int


class SpiFunctions:
    """The functions `spi_*`. `buses` are the board's, by number."""

    def __init__(self, process: Process, buses: Mapping[int, SpiBus]) -> None:
        self.process: Process = process
        self._buses = buses

    @called()
    def spi_open(self, spi_device: int, spi_channel: int, baud: int, spi_flags: int = 0) -> int:
        bus = self._buses.get(spi_device)
        if bus is None or spi_channel not in bus.selects:
            raise Refused(lg.SPI_OPEN_FAILED)
        # The kernel takes an unsigned number, and 0 as its own choice.
        speed = min(baud & 0xFFFFFFFF or FASTEST, FASTEST)
        return self.process.handles.add(_Device(bus, spi_channel, speed, spi_flags & 3))

    @called()
    def spi_close(self, handle: int) -> int:
        self.process.handles.take(handle, _Device)
        return lg.OKAY

    @called(bytearray())
    def spi_read(self, handle: int, count: Count) -> list[int | bytearray]:
        return _counted(self._transfer(handle, bytes(count)))

    @called()
    def spi_write(self, handle: int, data: Data) -> int:
        return len(self._transfer(handle, to_bytes(data)))

    @called(bytearray())
    def spi_xfer(self, handle: int, data: Data) -> list[int | bytearray]:
        return _counted(self._transfer(handle, to_bytes(data)))

    def _transfer(self, handle: int, sent: bytes) -> bytes:
        if not 0 < len(sent) <= _COUNT_MAX:
            raise Refused(lg.BAD_SPI_COUNT)
        device = self.process.handles.find(handle, _Device)
        if len(sent) > _BUFFER:
            raise Refused(lg.SPI_XFER_FAILED)
        try:
            return device.bus.transfer(device.select, [Segment(sent, device.speed)], device.mode)[0]
        except OSError:
            raise Refused(lg.SPI_XFER_FAILED) from None


def _counted(data: bytes) -> list[int | bytearray]:
    return [len(data), bytearray(data)]
