"""An MPU-6050: InvenSense's accelerometer and gyroscope with three axes each.

It sleeps after power-on, and its data registers are 0 until the program wakes it up. Source: InvenSense PS-MPU-6000A
rev. 3.4 and RM-MPU-6000A rev. 4.2. Not simulated: the FIFO, the motion
processor (DMP), motion detection, the self-test, the auxiliary I2C bus, and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_part import Cycle, RegisterPart, measured, measured_list

_SAMPLE_RATE, _CONFIG, _GYRO_CONFIG, _ACCEL_CONFIG, _INT_PIN, _INT_ENABLE = 0x19, 0x1A, 0x1B, 0x1C, 0x37, 0x38
_INT_STATUS, _DATA, _POWER, _WHO_AM_I = 0x3A, 0x3B, 0x6B, 0x75
_READ_ONLY = (range(_INT_STATUS, 0x61), range(_WHO_AM_I, _WHO_AM_I + 1))
_RESET, _SLEEP, _DATA_READY = 0x80, 0x40, 0x01
_ACTIVE_LOW, _OPEN_DRAIN, _LATCHED, _CLEARED_BY_ANY_READ = 0x80, 0x40, 0x20, 0x10
_PULSE = 50e-6


@dataclass(eq=False)
class Mpu6050(RegisterPart):
    """An MPU-6050 accelerometer and gyroscope.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x68 or 0x69 (pin AD0).
        acceleration: along x, y and z, in g; at rest on a table 0, 0 and 1.
        rotation: around x, y and z, in degrees a second.
        temperature: of the chip, in °C.
        interrupt: the line of pin INT.
    """

    wiring: ClassVar[str] = "VCC 3.3 V (GY-521: 5 V as well), GND; SDA to GPIO2, SCL to GPIO3; AD0 to GND is 0x68"
    example: ClassVar[str] = (
        "smbus.write_byte_data(0x68, 0x6B, 0)  # wake up\n"
        "x = int.from_bytes(smbus.read_i2c_block_data(0x68, 0x3B, 2), signed=True) / 16384  # g"
    )
    addresses: ClassVar[Sequence[int]] = (0x68, 0x69)
    address: int = 0x68
    acceleration: list[float] = measured_list(-100, 100, "g", default=[0.0, 0.0, 1.0])
    rotation: list[float] = measured_list(-20_000, 20_000, "degrees a second", default=[0.0, 0.0, 0.0])
    temperature: float = measured(-40, 85, "°C", default=25.0)
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._int = self.signal(board, self.interrupt, "INT")

    def power_on(self) -> None:
        self.registers[_POWER], self.registers[_WHO_AM_I] = _SLEEP, 0x68
        self._cycle = Cycle()
        self._active = False
        self._show()

    def write_register(self, register: int, value: int) -> None:
        if any(register in block for block in _READ_ONLY):
            return
        if register == _POWER and value & _RESET:
            self.reset()
            return
        self.registers[register] = value
        if register in (_POWER, _SAMPLE_RATE, _CONFIG):
            self._start()
        self._show()

    def read(self, count: int) -> bytes:
        start = self.pointer
        data = super().read(count)
        if start <= _INT_STATUS < start + count or self.registers[_INT_PIN] & _CLEARED_BY_ANY_READ:
            self.registers[_INT_STATUS] = 0
            self._active = False
            self._show()
        return data

    def _start(self) -> None:
        """Sample at the rate of the gyroscope, or a fraction of it (RM, register 25)."""
        if self.registers[_POWER] & _SLEEP:
            self._cycle.stop()
            return
        rate = 8000 if self.registers[_CONFIG] & 7 in (0, 7) else 1000
        self._cycle.start(self.now_ns(), (1 + self.registers[_SAMPLE_RATE]) / rate, repeats=True)

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is None:
            return
        per_g, per_degree = 16384 >> (self.registers[_ACCEL_CONFIG] >> 3 & 3), 131 / (1 << self._gyro_range())
        values = [value * per_g for value in self.acceleration]
        values += [(self.temperature - 36.53) * 340]  # RM, registers 65 and 66
        values += [value * per_degree for value in self.rotation]
        words = (min(max(round(value), -32768), 32767) for value in values)
        self.registers[_DATA : _DATA + 14] = b"".join(word.to_bytes(2, signed=True) for word in words)
        self.registers[_INT_STATUS] |= _DATA_READY
        if self._interrupts():
            self._active = True
            if not self.registers[_INT_PIN] & _LATCHED:
                self.timeline.after(_PULSE, self._end_pulse)
        self._show()

    def _gyro_range(self) -> int:
        return self.registers[_GYRO_CONFIG] >> 3 & 3

    def _interrupts(self) -> bool:
        return self._int.connected and bool(self.registers[_INT_ENABLE] & _DATA_READY)

    def _end_pulse(self) -> None:
        self._active = False
        self._show()

    def _show(self) -> None:
        config = self.registers[_INT_PIN]
        high = self._active != bool(config & _ACTIVE_LOW)
        self._int.drive(None if config & _OPEN_DRAIN and high else int(high))
        self.wake(self._cycle.ends_ns if self._interrupts() else None)
