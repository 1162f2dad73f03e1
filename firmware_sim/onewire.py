"""A simulated 1-Wire bus: one line, on which the master resets, addresses and reads its devices.

    board.onewire(4).attach(device)        # a OneWireDevice, such as the part ds18b20

Every device has a 64-bit ROM code: family, serial number and a CRC, by which the master finds and selects it
(Maxim application note 27). After the selection it gets a function command, and answers what is read.
"""

from __future__ import annotations

import errno

from firmware_sim.errors import WiringError
from firmware_sim.nodes import os_error
from firmware_sim.timeline import Timeline


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
        serial: the next 48 bits, unique to each device.
    """

    family: int = 0
    serial: int = 0

    @property
    def rom(self) -> bytes:
        """The ROM code, as it is sent."""
        code = bytes([self.family]) + self.serial.to_bytes(6, "little")
        return code + bytes([crc8(code)])

    def select(self) -> None:
        """Begin a command: the bus was reset, and this device was addressed."""

    def write(self, data: bytes) -> None:
        """Take bytes after the selection: a function command and its parameters."""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes. Missing ones read as 0xFF: nothing pulls the line down."""
        return b""

    def reset(self) -> None:
        """Begin again as after power-on: called when its supply fails for a moment. By default nothing changes."""


class OneWireBus:
    """One 1-Wire bus."""

    def __init__(self, line: int, timeline: Timeline) -> None:
        self.line: int = line
        self.timeline = timeline
        self._devices: dict[bytes, OneWireDevice] = {}

    def attach(self, device: OneWireDevice) -> None:
        """Put a device on the bus. Raises `WiringError` if there is one with its ROM code."""
        with self.timeline.lock:
            if device.rom in self._devices:
                raise WiringError(f"1-Wire bus on line {self.line}: serial {device.serial:012x} is used already")
            self._devices[device.rom] = device

    def detach(self, device: OneWireDevice) -> None:
        """Remove a device from the bus, as when its wire comes loose. Harmless if it is not there."""
        with self.timeline.lock:
            self._devices.pop(device.rom, None)

    def search(self) -> list[bytes]:
        """Return the ROM codes of all devices, in the order in which the search algorithm finds them."""
        with self.timeline.lock:
            return sorted(self._devices, key=lambda rom: f"{int.from_bytes(rom, 'little'):064b}"[::-1])

    def transfer(self, rom: bytes, sent: bytes, count: int = 0) -> bytes:
        """Reset the bus, select a device, write `sent` and return the next `count` bytes.

        Raises OSError (ENODEV) if the device does not answer the reset.
        """
        with self.timeline.lock:
            self.timeline.catch_up()
            device = self._devices.get(rom)
            if device is None:
                raise os_error(errno.ENODEV)
            device.select()
            device.write(sent)
            return device.read(count).ljust(count, b"\xff") if count else b""
