"""An SCD40: Sensirion's sensor of carbon dioxide, temperature and humidity.

It must be started before it can be read, has a new reading every five seconds, and until it is stopped takes few other
commands. Source: Sensirion, data sheet SCD4x, version 1.7. Not simulated: the
pressure dependence of the reading, the automatic self-calibration (its settings are kept), and the SCD41's commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.i2c_device import Nack
from firmware_sim.i2c_part import Cycle, measured
from firmware_sim.sensirion import CommandPart

_START, _START_LOW_POWER, _READ, _STOP, _READY = 0x21B1, 0x21AC, 0xEC05, 0x3F86, 0xE4B8
_PRESSURE, _SERIAL_NUMBER, _VARIANT, _CALIBRATE = 0xE000, 0x3682, 0x202F, 0x362F
_PERSIST, _SELF_TEST, _FACTORY_RESET, _REINIT = 0x3615, 0x3639, 0x3632, 0x3646
_SETTINGS = {"temperature offset": 0x2318, "altitude": 0x2322, "self-calibration": 0x2313}
_NEW_SETTINGS = {0x241D: "temperature offset", 0x2427: "altitude", 0x2416: "self-calibration"}
_FACTORY = {"temperature offset": round(4 * 65535 / 175), "altitude": 0, "self-calibration": 1}
_WHILE_MEASURING = (_READ, _STOP, _READY, _PRESSURE)
_SELF_HEATING = 4.0
"""°C: its temperature above that of the air, which the offset is for."""


@dataclass(eq=False)
class Scd40(CommandPart):
    """An SCD40 sensor of carbon dioxide, temperature and humidity.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x62.
        co2, temperature, humidity: the air around it, in ppm, °C and %RH.
        serial_number: its serial number, 48 bits.
    """

    wiring: ClassVar[str] = "VDD 3.3 V (205 mA for moments), GND; SDA to GPIO2, SCL to GPIO3"
    example: ClassVar[str] = (
        "smbus.write_i2c_block_data(0x62, 0x21, [0xB1]); time.sleep(5)  # start, and wait for the first reading\n"
        "smbus.write_i2c_block_data(0x62, 0xEC, [0x05]); time.sleep(0.001)\n"
        "answer = i2c_msg.read(0x62, 9); smbus.i2c_rdwr(answer)  # CO₂ in ppm, CRC, ..."
    )
    addresses: ClassVar[Sequence[int]] = (0x62,)
    address: int = 0x62
    co2: float = measured(0, 40_000, "ppm", default=420.0)
    temperature: float = measured(-10, 60, "°C", default=21.5)
    humidity: float = measured(0, 100, "%RH", default=45.0)
    serial_number: int = 0xF8969F073BBE

    def __post_init__(self) -> None:
        super().__post_init__()
        self._memory = dict(_FACTORY)
        self._correction = 0

    def power_on(self) -> None:
        self._settings = dict(self._memory)
        self._pressure = 1013
        self._cycle = Cycle()
        self._fresh: tuple[int, int, int] | None = None

    def command(self, code: int, words: Sequence[int]) -> None:
        measuring = self._cycle.ends_ns is not None
        if measuring and code not in _WHILE_MEASURING:
            raise Nack
        if code in (_START, _START_LOW_POWER):
            seconds = 5.0 if code == _START else 30.0
            self._cycle.start(self.now_ns(), seconds, repeats=True)
        elif code == _READ:
            self.busy(0.001)
            if self._fresh is not None:
                self.answer(*self._fresh)
            self._fresh = None
        elif code == _STOP:
            self._cycle.stop()
            self.busy(0.5)
        elif code == _READY:
            self.busy(0.001)
            self.answer(0x8000 | (6 if self._fresh is not None else 0))
        elif code == _PRESSURE and words:
            self._pressure = words[0]
        elif code == _PRESSURE:
            self.answer(self._pressure)
        elif code in _NEW_SETTINGS and words:
            self._settings[_NEW_SETTINGS[code]] = words[0]
        elif code in _SETTINGS.values():
            self.answer(next(self._settings[name] for name, read in _SETTINGS.items() if read == code))
        else:
            self._maintain(code, words)

    def _maintain(self, code: int, words: Sequence[int]) -> None:
        if code == _SERIAL_NUMBER:
            self.answer(*(self.serial_number >> shift & 0xFFFF for shift in (32, 16, 0)))
        elif code == _VARIANT:
            self.answer(0x0440)  # an SCD40; 1 in the highest four bits is an SCD41
        elif code == _CALIBRATE and words:
            correction = words[0] - round(self.co2)
            self._correction = correction
            self.busy(0.4)
            self.answer(min(max(0x8000 + correction, 0), 0xFFFE))
        elif code == _PERSIST:
            self._memory = dict(self._settings)
            self.busy(0.8)
        elif code == _SELF_TEST:
            self.busy(10)
            self.answer(0)
        elif code in (_FACTORY_RESET, _REINIT):
            if code == _FACTORY_RESET:
                self._memory, self._correction = dict(_FACTORY), 0
            self.power_on()
            self.busy(1.2 if code == _FACTORY_RESET else 0.03)
        else:
            raise Nack

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is None:
            return
        offset = self._settings["temperature offset"] * 175 / 65535
        temperature = self.temperature + _SELF_HEATING - offset
        self._fresh = (
            min(max(round(self.co2) + self._correction, 0), 0xFFFF),
            min(max(round((temperature + 45) / 175 * 65535), 0), 0xFFFF),
            round(self.humidity / 100 * 65535),
        )
