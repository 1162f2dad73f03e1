"""An SHT31: Sensirion's temperature and humidity sensor of the family SHT3x-DIS.

Source: Sensirion, data sheet SHT3x-DIS, version 6. Measurements take their
typical time. Not simulated: the interface reset, and the nRESET pin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_device import Nack
from firmware_sim.i2c_part import Cycle, measured
from firmware_sim.sensirion import CommandPart

_SECONDS = {"high": 0.0125, "medium": 0.0045, "low": 0.0025}
_SINGLE = {
    0x2400: ("high", False),
    0x240B: ("medium", False),
    0x2416: ("low", False),
    0x2C06: ("high", True),
    0x2C0D: ("medium", True),
    0x2C10: ("low", True),
}
"""Single measurements: their repeatability, and whether reading holds the clock."""
_PERIODIC = {
    0x2032: ("high", 2.0),
    0x2024: ("medium", 2.0),
    0x202F: ("low", 2.0),
    0x2130: ("high", 1.0),
    0x2126: ("medium", 1.0),
    0x212D: ("low", 1.0),
    0x2236: ("high", 0.5),
    0x2220: ("medium", 0.5),
    0x222B: ("low", 0.5),
    0x2334: ("high", 0.25),
    0x2322: ("medium", 0.25),
    0x2329: ("low", 0.25),
    0x2737: ("high", 0.1),
    0x2721: ("medium", 0.1),
    0x272A: ("low", 0.1),
    0x2B32: ("high", 0.25),
}
"""Periodic measurements: their repeatability and period, and the accelerated response time."""
_FETCH, _BREAK, _RESET, _HEATER_ON, _HEATER_OFF = 0xE000, 0x3093, 0x30A2, 0x306D, 0x3066
_STATUS, _CLEAR = 0xF32D, 0x3041
_SERIAL_NUMBER = (0x3780, 0x3682)
_LIMITS = {0xE11F: "high set", 0xE114: "high clear", 0xE109: "low clear", 0xE102: "low set"}
_NEW_LIMITS = {0x611D: "high set", 0x6116: "high clear", 0x610B: "low clear", 0x6100: "low set"}
_ALERT, _HEATER, _HUMIDITY_ALERT, _TEMPERATURE_ALERT, _WAS_RESET = 0x8000, 0x2000, 0x0800, 0x0400, 0x0010
_INVALID, _WRONG_CHECKSUM = 0x0002, 0x0001


@dataclass(eq=False)
class Sht31(CommandPart):
    """An SHT31 (or SHT30, SHT35) temperature and humidity sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x44 or 0x45 (pin ADDR).
        temperature, humidity: the air around it, in °C and %RH.
        serial_number: its serial number.
        interrupt: the line of pin ALERT, which is high while the air is beyond the limits of the alert mode.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; ADDR to GND is 0x44; ALERT is push-pull"
    example: ClassVar[str] = (
        "smbus.write_i2c_block_data(0x44, 0x24, [0x00]); time.sleep(0.015)\n"
        "data = bytes(smbus.read_i2c_block_data(0x44, 0, 6))  # temperature, CRC, humidity, CRC\n"
        "celsius = int.from_bytes(data[0:2]) * 175 / 65535 - 45"
    )
    reset_by_general_call: ClassVar[bool] = True
    holds_the_clock: ClassVar[bool] = True
    addresses: ClassVar[Sequence[int]] = (0x44, 0x45)
    address: int = 0x44
    temperature: float = measured(-40, 125, "°C", default=21.5)
    humidity: float = measured(0, 100, "%RH", default=45.0)
    serial_number: int = 0x1A2B3C4D
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._alert = self.signal(board, self.interrupt, "ALERT")

    def power_on(self) -> None:
        self._status = _ALERT | _WAS_RESET  # 0x8010
        self._limits = {"high set": 0xCD33, "high clear": 0xC92D, "low clear": 0x3869, "low set": 0x3466}
        self._alerts = 0
        self._end()
        self._show()

    def _end(self) -> None:
        """End measurements, and forget the last one."""
        self._cycle = Cycle()
        self._periodic = self._holds = False
        self._fresh: tuple[int, int] | None = None
        self.wake(None)

    def waits(self) -> bool:
        return self._holds

    def command(self, code: int, words: Sequence[int]) -> None:
        if code == _STATUS:
            self.answer(self._status)  # with the result of the command before
        self._status &= ~(_INVALID | _WRONG_CHECKSUM)
        if code in _SINGLE and not self._periodic:
            repeatability, self._holds = _SINGLE[code]
            self.busy(_SECONDS[repeatability])
            self._cycle.start(self.now_ns(), _SECONDS[repeatability])
        elif code in _PERIODIC and not self._periodic:
            repeatability, period = _PERIODIC[code]
            seconds = _SECONDS[repeatability]
            self._periodic, self._holds = True, False
            self._cycle.start(self.now_ns(), seconds, repeats=True, pause=period - seconds)
            self._plan()
        elif code == _FETCH and self._periodic:
            if self._fresh is None:
                raise Nack
            self.answer(*self._fresh)
            self._fresh = None
        elif code == _BREAK:
            self._end()
        elif code == _RESET and not self._periodic:
            self.reset()
            self.busy(0.0015)
        elif code in (_HEATER_ON, _HEATER_OFF):
            self._status = self._status & ~_HEATER | (_HEATER if code == _HEATER_ON else 0)
        elif code == _CLEAR:
            self._status &= ~(_ALERT | _HUMIDITY_ALERT | _TEMPERATURE_ALERT | _WAS_RESET)
        elif code in _SERIAL_NUMBER:
            self.answer(self.serial_number >> 16 & 0xFFFF, self.serial_number & 0xFFFF)
        elif code in _LIMITS:
            self.answer(self._limits[_LIMITS[code]])
        elif code in _NEW_LIMITS and words:
            self._limits[_NEW_LIMITS[code]] = words[0]
        elif code != _STATUS:
            self._status |= _INVALID

    def reject(self, code: int) -> None:
        self._status |= _INVALID | _WRONG_CHECKSUM

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is None:
            return
        raw = min(round((self.temperature + 45) / 175 * 65535), 65535), round(self.humidity / 100 * 65535)
        if self._periodic:
            self._fresh = raw
            self._compare(*raw)
            self._plan()
        else:
            self.answer(*raw)

    def _plan(self) -> None:
        self.wake(self._cycle.ends_ns if self._alert.connected else None)

    def _compare(self, temperature: int, humidity: int) -> None:
        """Begin or end the alerts; a limit has seven bits of humidity and nine of temperature."""
        for flag, value, shift, mask in (
            (_TEMPERATURE_ALERT, temperature >> 7, 0, 0x1FF),
            (_HUMIDITY_ALERT, humidity >> 9, 9, 0x7F),
        ):
            limits = {name: word >> shift & mask for name, word in self._limits.items()}
            if value > limits["high set"] or value < limits["low set"]:
                self._status |= flag | _ALERT
                self._alerts |= flag
            elif limits["low clear"] < value < limits["high clear"]:
                self._alerts &= ~flag
        self._show()

    def _show(self) -> None:
        self._alert.drive(1 if self._alerts else 0)
