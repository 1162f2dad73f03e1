"""The lines of an SPI bus, for programs that switch them themselves: SPI by software, as gpiozero has it.

The kernel's driver switches the same lines, but nobody looks at them then, so its transfers don't pass here.
"""

from __future__ import annotations

from typing import NamedTuple

from firmware_sim.pins import Line
from firmware_sim.spi_device import BitDevice, ByteDevice


class BusLines(NamedTuple):
    """The numbers of the lines of a bus."""

    clock: int
    mosi: int
    miso: int
    selects: tuple[int, ...]


LINES = {0: BusLines(11, 10, 9, (8, 7)), 1: BusLines(21, 20, 19, (18, 17, 16))}
"""The lines of the buses on a Pi's header, by the number of the bus."""


class _Bits:
    """The bits of a device that is known by its bytes, from one selection to its end."""

    def __init__(self, device: ByteDevice) -> None:
        self._device = device
        self._sending, self._taken, self._count = device.answer(), 0, 0

    @property
    def output(self) -> int | None:
        return None if self._sending is None else self._sending >> (7 - self._count) & 1

    def clock(self, bit: int) -> None:
        self._taken, self._count = self._taken << 1 | bit, self._count + 1
        if self._count == 8:
            self._device.take(self._taken)
            self._sending, self._taken, self._count = self._device.answer(), 0, 0


class SwitchedLines:
    """Clocks a device with what a program does to the lines of its bus.

    A device with mode 0 or 3 samples MOSI when the clock rises and changes MISO when it falls; one with the others does
    the opposite. The first bit is on MISO as soon as the device is selected. With `selects` false its bus selects it by
    the same line.
    """

    def __init__(
        self,
        device: BitDevice | ByteDevice,
        clock: Line,
        mosi: Line,
        miso: Line,
        select: Line,
        *,
        selects: bool = True,
    ) -> None:
        self._device = device
        self._selects = selects
        self._clock = clock
        self._mosi, self._miso = mosi, miso
        self._sample_level = 1 if {0, 3} & set(device.modes) else 0
        self._selected = False
        self._bits: BitDevice | _Bits | None = None
        self._sampled = False
        select.observe(self._on_select)
        clock.observe(self._on_clock)

    def _on_select(self, level: int, when_ns: int) -> None:
        device, selected = self._device, bool(level) == self._device.cs_high
        if selected == self._selected:
            return
        self._selected, self._sampled = selected, False
        if selected:
            if self._selects:
                device.begin()
            if self._clock.output is not None:  # else the kernel's driver has the clock
                self._bits = _Bits(device) if isinstance(device, ByteDevice) else device
                self._miso.drive(self._bits.output)
        else:
            if self._selects:
                device.end()
            if self._bits is not None:
                self._bits = None
                self._miso.drive(None)

    def _on_clock(self, level: int, when_ns: int) -> None:
        if self._bits is None:
            return
        if level == self._sample_level:
            self._bits.clock(self._mosi.level)
            self._sampled = True
        elif self._sampled:
            self._sampled = False
            self._miso.drive(self._bits.output)
