"""An AHT20: ASAIR's temperature and humidity sensor, which measures when it is asked to, in 80 ms.

Source: ASAIR, AHT20 product manual, version 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.i2c_device import Nack
from firmware_sim.i2c_part import Cycle, I2cPart, measured
from firmware_sim.sensirion import crc8

_TRIGGER, _RESET = 0xAC, 0xBA
_BUSY, _IDLE = 0x98, 0x18
"""The status; bit 3 shows that its calibration is loaded, so that the command 0xBE is not needed."""


@dataclass(eq=False)
class Aht20(I2cPart):
    """An AHT20 temperature and humidity sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x38.
        temperature, humidity: the air around it, in °C and %RH.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3"
    example: ClassVar[str] = (
        "smbus.write_i2c_block_data(0x38, 0xAC, [0x33, 0x00]); time.sleep(0.08)\n"
        "data = bytes(smbus.read_i2c_block_data(0x38, 0, 7))  # status, 20 bits of humidity, 20 of temperature, CRC"
    )
    addresses: ClassVar[Sequence[int]] = (0x38,)
    address: int = 0x38
    temperature: float = measured(-40, 85, "°C", default=21.5)
    humidity: float = measured(0, 100, "%RH", default=45.0)

    def power_on(self) -> None:
        self._cycle = Cycle()
        self._raw = 0
        self._deaf_until_ns = 0

    def reset(self) -> None:
        super().reset()
        self._deaf_until_ns = self.now_ns() + 20_000_000

    def write(self, data: bytes) -> None:
        self._listen()
        match list(data[:3]):
            case [code] if code == _RESET:
                self.reset()
            case [code, 0x33, 0x00] if code == _TRIGGER:
                self._cycle.start(self.now_ns(), 0.08)

    def read(self, count: int) -> bytes:
        self._listen()
        data = bytes([_IDLE if self._cycle.ends_ns is None else _BUSY]) + self._raw.to_bytes(5)
        return (data + bytes([crc8(data)]))[:count]

    def _listen(self) -> None:
        now_ns = self.now_ns()
        if now_ns < self._deaf_until_ns:
            raise Nack
        self.update(now_ns)

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is not None:
            humidity = min(round(self.humidity / 100 * (1 << 20)), 0xFFFFF)
            temperature = min(round((self.temperature + 50) / 200 * (1 << 20)), 0xFFFFF)
            self._raw = humidity << 20 | temperature  # (5.4 and 6)
