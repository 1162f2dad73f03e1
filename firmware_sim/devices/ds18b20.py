"""DS18B20: a thermometer on a 1-Wire bus.

A conversion takes up to 750 ms. Until the first one is over, the scratchpad has the value of power-on, 85 °C (Maxim
DS18B20 datasheet, "Memory"). Alarm limits and resolution survive in its EEPROM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.onewire import OneWireBus, OneWireDevice, crc8

_POWER_ON = 0x0550  # 85 °C
_CONVERT, _WRITE_SCRATCHPAD, _READ_SCRATCHPAD = 0x44, 0x4E, 0xBE
_COPY_SCRATCHPAD, _RECALL, _READ_POWER = 0x48, 0xB8, 0xB4
_FULL_CONVERSION = 0.750
"""Seconds for twelve bits; half of that for each bit less."""
_FIRST_SERIAL = 0x0316_0279_0001


@dataclass
class Ds18b20(Device, OneWireDevice):
    """A DS18B20 thermometer on a 1-Wire bus; several may be on one line.

    Parameters:
        line: the line of the bus.
        serial: its serial number, 48 bits: 0x0316a2794b1c is /sys/bus/w1/devices/28-0316a2794b1c; by default a new one.
        temperature: of the air around it. Assign new values at any time.
        resolution: bits of a measurement, as they stand in its EEPROM.
        parasite: whether it takes its supply from the data line.

    Attributes:
        bad_checksums: how many of the next answers are disturbed on the wire.
        conversions: measurements that it has made.
    """

    family: ClassVar[int] = 0x28

    line: int = 4
    serial: int | None = within(1, (1 << 48) - 1, "as a serial number", default=None)
    temperature: float = within(-55, 125, "°C", default=21.5)
    resolution: int = within(9, 12, "bits", default=12)
    parasite: bool = False
    bad_checksums: int = field(default=0, init=False)
    conversions: int = field(default=0, init=False)

    fixed = "serial, resolution"
    wiring = "DQ to the line (by default 4) with 4.7 kΩ to 3.3 V, VDD to 3.3 V (parasite: to GND), GND to GND"
    example = "sensor = w1thermsensor.W1ThermSensor(); sensor.get_temperature()"

    def __post_init__(self) -> None:
        self._saved = bytes([75, 70, self.resolution - 9 << 5 | 0x1F])  # TH, TL and configuration, in the EEPROM
        self._sent = 0
        self.reset()

    def reset(self) -> None:
        """Begin again as after power-on: 85 °C until the first conversion is over."""
        self._value = _POWER_ON
        self._settings = self._saved
        self._converting: tuple[int, int] | None = None

    def attach(self, board: Connections) -> None:
        self._timeline = board.timeline
        self._bus: OneWireBus = board.onewire(self.line)
        taken = {device.rom_serial for device in self._bus.devices()}
        self.rom_serial: int = self.serial or next(n for n in range(_FIRST_SERIAL, 1 << 48) if n not in taken)
        self._bus.attach(self)

    def unplug(self) -> None:
        """Take it off the bus, as when its wire comes loose."""
        self._bus.detach(self)

    def replug(self) -> None:
        """Put it on the bus again, after a power-on. Harmless if it is there."""
        if self not in self._bus.devices():
            self.reset()
            self._bus.attach(self)

    def write(self, data: bytes) -> None:
        self._finish()
        self._sent = command = data[0]
        if command == _CONVERT:
            step = 1 << 3 - (self._settings[2] >> 5)
            value = round(self.temperature * 16 / step) * step
            seconds = _FULL_CONVERSION / step
            self._converting = (self._timeline.moment_ns() + round(seconds * 1e9), value)
            self.conversions += 1
        elif command == _WRITE_SCRATCHPAD:
            self._settings = data[1:3] + bytes([data[3] & 0x60 | 0x1F])
        elif command == _COPY_SCRATCHPAD:
            self._saved = self._settings
        elif command == _RECALL:
            self._settings = self._saved

    def read(self, count: int) -> bytes:
        self._finish()
        if self._sent == _READ_SCRATCHPAD:
            return self._scratchpad()[:count]
        if self._sent == _READ_POWER:
            return bytes(count) if self.parasite else b""
        return bytes(count) if self._converting is not None else b""  # zeros as long as it is busy

    def _scratchpad(self) -> bytes:
        data = self._value.to_bytes(2, "little", signed=True) + self._settings + b"\xff\x0c\x10"
        data += bytes([crc8(data)])
        if self.bad_checksums > 0:
            self.bad_checksums -= 1
            data = bytes([data[0] ^ 0x04]) + data[1:]
        return data

    def _finish(self) -> None:
        """Take over the result of a conversion that is over by now."""
        if self._converting is not None and self._timeline.moment_ns() >= self._converting[0]:
            self._value = self._converting[1]
            self._converting = None
