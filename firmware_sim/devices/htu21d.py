"""An HTU21D: a temperature and humidity sensor. Sensirion's SHT20 and SHT21, and Silicon Labs' Si7021, are like it.

Source: Measurement Specialties HPC199_6. Measurements take their typical
time. Not simulated: the heater's effect on the readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.i2c_device import ClockHeld, Nack
from firmware_sim.i2c_part import I2cPart, measured
from firmware_sim.sensirion import crc8

_MEASURE = {
    0xE3: ("temperature", True),
    0xE5: ("humidity", True),
    0xF3: ("temperature", False),
    0xF5: ("humidity", False),
}
"""The quantity of each command, and whether it holds the clock until the value is there."""
_WRITE_USER, _READ_USER, _RESET = 0xE6, 0xE7, 0xFE
_BITS = {0x00: (12, 14), 0x01: (8, 12), 0x80: (10, 13), 0x81: (11, 11)}
"""Of humidity and temperature, by the two bits of the user register."""
_SECONDS = {
    "temperature": {14: 0.044, 13: 0.022, 12: 0.011, 11: 0.006},
    "humidity": {12: 0.014, 11: 0.007, 10: 0.004, 8: 0.002},
}


@dataclass(eq=False)
class Htu21d(I2cPart):
    """An HTU21D temperature and humidity sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x40.
        temperature, humidity: the air around it, in °C and %RH.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3"
    example: ClassVar[str] = (
        "data = bytes(smbus.read_i2c_block_data(0x40, 0xE3, 3))  # holds the clock for 44 ms\n"
        "celsius = (int.from_bytes(data[:2]) & 0xFFFC) * 175.72 / 65536 - 46.85"
    )
    holds_the_clock: ClassVar[bool] = True
    addresses: ClassVar[Sequence[int]] = (0x40,)
    address: int = 0x40
    temperature: float = measured(-40, 125, "°C", default=21.5)
    humidity: float = measured(0, 100, "%RH", default=45.0)

    def power_on(self) -> None:
        self._user = 0x02
        self._answer = b""
        self._quantity = ""
        self._holds = False
        self._busy_until_ns = 0

    def write(self, data: bytes) -> None:
        self.update(self.now_ns())
        if self.now_ns() < self._busy_until_ns:
            raise Nack
        match list(data[:2]):
            case [code, *_] if code in _MEASURE:
                self._quantity, self._holds = _MEASURE[code]
                self._answer = b""
                self._busy(_SECONDS[self._quantity][self._bits(self._quantity)])
            case [code, value] if code == _WRITE_USER:
                self._user = value & 0x87 | self._user & 0x78  # reserved bits must keep their values
            case [code] if code == _READ_USER:
                self._answer = bytes([self._user])
            case [code] if code == _RESET:
                self.reset()
                self._busy(0.005)  # the data sheet says less than 15 ms; drivers wait for 10 ms
            case []:
                pass
            case _:
                raise Nack

    def read(self, count: int) -> bytes:
        now_ns = self.now_ns()
        self.update(now_ns)
        if now_ns < self._busy_until_ns and self._holds:
            raise ClockHeld((self._busy_until_ns - now_ns) / 1e9)
        if now_ns < self._busy_until_ns or not self._answer:
            raise Nack
        answer, self._answer = self._answer, b""
        return answer[:count]

    def update(self, now_ns: int) -> None:
        if not self._quantity or now_ns < self._busy_until_ns:
            return
        if self._quantity == "temperature":
            raw = (self.temperature + 46.85) / 175.72 * 65536
        else:
            raw = (self.humidity + 6) / 125 * 65536
        step = 1 << 16 - self._bits(self._quantity)
        word = min(round(raw / step) * step, 0x10000 - step) & 0xFFFC | (0x02 if self._quantity == "humidity" else 0)
        pair = word.to_bytes(2)
        self._answer = pair + bytes([crc8(pair, initial=0)])
        self._quantity = ""

    def _bits(self, quantity: str) -> int:
        humidity, temperature = _BITS[self._user & 0x81]
        return temperature if quantity == "temperature" else humidity

    def _busy(self, seconds: float) -> None:
        self._busy_until_ns = self.now_ns() + round(seconds * 1e9)
