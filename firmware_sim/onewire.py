"""A simulated 1-Wire bus: one line, on which the master resets, addresses and reads its devices.

    board.onewire(4).attach(device)        # a OneWireDevice, such as the part ds18b20

Every device has a 64-bit ROM code: family, serial number and a CRC, by which the master finds and selects it
(Maxim application note 27). After the selection it gets a function command, and answers the read slots. A device that
does not pull the line down sends ones; so a bus without a device reads 0xFF, and one whose line is shorted to ground
reads 0x00, which is a valid CRC over zeros.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import ClassVar

from firmware_sim.errors import WiringError
from firmware_sim.nodes import os_error
from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

_RESET = 0.00096
"""Seconds of a reset pulse and the presence pulse after it (DS18B20 datasheet)."""
_BYTE = 8 * 0.00007
"""Seconds for a byte: eight time slots of 60 µs and more."""
_MATCH_ROM, _SKIP_ROM = 9, 1
"""Bytes of the commands that select one device, or all."""


def crc8(data: bytes) -> int:
    """Return the CRC of a ROM code or a scratchpad: x^8 + x^5 + x^4 + 1, the lowest bit first (application note 27)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


class OneWireDevice:
    """A device on the bus. Its methods run with the timeline's lock held.

    Attributes:
        family: the lowest byte of its ROM code: the kind of device.
        rom_serial: the next 48 bits, unique to each device.
    """

    family: ClassVar[int] = 0
    rom_serial: int = 0

    @property
    def rom(self) -> bytes:
        """The ROM code, as it is sent."""
        code = bytes([self.family]) + self.rom_serial.to_bytes(6, "little")
        return code + bytes([crc8(code)])

    def write(self, data: bytes) -> None:
        """Take a function command and its parameters: the bus was reset, and this device was selected."""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes. Missing ones read as 0xFF: nothing pulls the line down."""
        return b""


class OneWireBus:
    """A 1-Wire bus, driven by the kernel as w1-gpio drives it.

    Attributes:
        line: its line.
        transfers: commands on the bus so far.
        shows_bad_checksums: whether `w1_slave` shows a reading whose checksum is wrong, with the word NO, as kernels
            before Linux 5.8 do; later ones try again, and then show an empty file.
        at_change: callables for each device that is attached or detached, called with the device and whether it is
            there now, with the timeline's lock held.
    """

    def __init__(self, line: Line, timeline: Timeline) -> None:
        self.line = line
        self.timeline = timeline
        self.transfers: int = 0
        self.shows_bad_checksums: bool = False
        self.at_change: list[Callable[[OneWireDevice, bool], object]] = []
        self._devices: dict[bytes, OneWireDevice] = {}
        self._wire = timeline.clock.condition()
        self._busy = False
        line.pull("up")
        line.claim(f"onewire@{line.number:x}", output=1, drive="open-drain")

    def attach(self, device: OneWireDevice) -> None:
        """Put a device on the bus. Raises `WiringError` if there is one with its ROM code."""
        with self.timeline.lock:
            if device.rom in self._devices:
                raise WiringError(
                    f"1-Wire bus on line {self.line.number}: serial 0x{device.rom_serial:012x} is used already"
                )
            self._devices[device.rom] = device
            for callback in self.at_change:
                callback(device, True)

    def detach(self, device: OneWireDevice) -> None:
        """Remove a device from the bus, as when its wire comes loose. Harmless if it is not there."""
        with self.timeline.lock:
            if self._devices.pop(device.rom, None) is not None:
                for callback in self.at_change:
                    callback(device, False)

    def devices(self) -> list[OneWireDevice]:
        """Return its devices, in the order of their ROM codes."""
        return [self._devices[rom] for rom in sorted(self._devices)]

    def transfer(self, rom: bytes | None, sent: bytes, count: int = 0) -> bytes:
        """Reset the bus, select the device with this ROM code (all with None), write `sent`, and return `count` bytes.

        Blocks for as long as the wire would take. Raises OSError (ENODEV) if no device answers the reset.
        """
        with self._wire:
            self._wire.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            self.timeline.clock.sleep(_RESET)
            self.transfers += 1
            selecting = _SKIP_ROM if rom is None else _MATCH_ROM
            with self.timeline.lock:
                self.timeline.catch_up()
                shorted = self.line.level == 0
                if not shorted and (self._driven_high() or not self._devices):
                    raise os_error(errno.ENODEV)
            self.timeline.clock.sleep((selecting + len(sent)) * _BYTE)
            with self.timeline.lock:
                self.timeline.catch_up()
                selected = self.devices() if rom is None else [each for each in (self._devices.get(rom),) if each]
                answer = b"\0" * count if shorted else b"\xff" * count
                for device in () if shorted else selected:
                    device.write(sent)
                    if count:
                        read = device.read(count).ljust(count, b"\xff")
                        answer = bytes(one & other for one, other in zip(answer, read, strict=True))
            if count:
                self.timeline.clock.sleep(count * _BYTE)
            return answer
        finally:
            with self._wire:
                self._busy = False
                self._wire.notify_all()

    def _driven_high(self) -> bool:
        """Return whether something other than the pull-up keeps the line high, so that no device can pull it down."""
        lines = self.line.net.lines
        held = any(hold.level == 1 for line in lines for hold in line.holds)
        return held or any(1 in line.drivers() for line in lines)
