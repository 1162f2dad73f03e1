"""A TCS34725: ams' colour sensor, four photodiodes with filters for red, green and blue and without one.

It counts light for the integration time, up to 1024 counts every 2.4 ms. Source: ams TCS3472, v1-04 (TAOS135).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_part import Cycle, RegisterPart, measured

_ENABLE, _TIME, _WAIT, _LOW, _HIGH, _PERSISTENCE, _CONFIG, _CONTROL = 0x00, 0x01, 0x03, 0x04, 0x06, 0x0C, 0x0D, 0x0F
_ID, _STATUS, _DATA = 0x12, 0x13, 0x14
_POWER, _CONVERT, _WAITS, _INTERRUPTS = 0x01, 0x02, 0x08, 0x10
_VALID, _INTERRUPT = 0x01, 0x10
_CLEAR_INTERRUPT = 0xE6
_STEP = 2.4e-3
_GAINS = (1, 4, 16, 60)
_FILTER = (0, 1, 2, 3, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60)
"""How many values in a row must be beyond the limits, by the register PERS; 0: an interrupt after each conversion."""


@dataclass(eq=False)
class Tcs34725(RegisterPart):
    """A TCS34725 colour sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x29.
        red, green, blue, clear: the light on each photodiode, as the counts a millisecond that it gives with gain 1.
        interrupt: the line of pin INT, which is open-drain: the program or a resistor pulls it up.
    """

    wiring: ClassVar[str] = "VIN 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; INT needs a pull-up"
    example: ClassVar[str] = (
        "smbus.write_byte_data(0x29, 0x80, 0x03); time.sleep(0.005)  # on; the first 2.4 ms of light\n"
        "clear, red, green, blue = struct.unpack('<4H', bytes(smbus.read_i2c_block_data(0x29, 0xB4, 8)))"
    )
    addresses: ClassVar[Sequence[int]] = (0x29,)
    address: int = 0x29
    red: float = measured(0, 1e6, "counts a millisecond", default=2.0)
    green: float = measured(0, 1e6, "counts a millisecond", default=3.0)
    blue: float = measured(0, 1e6, "counts a millisecond", default=1.5)
    clear: float = measured(0, 1e6, "counts a millisecond", default=7.0)
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        self._int = self.signal(board, self.interrupt, "INT")

    def power_on(self) -> None:
        self.registers[_TIME] = self.registers[_WAIT] = 0xFF
        self.registers[_ID] = 0x44
        self._beyond = 0
        self._cycle = Cycle()
        self._show()

    def write(self, data: bytes) -> None:
        """Take a command: a register, or a special function.

        The pointer moves on without the auto-increment bit too: drivers read words so, on real parts as well.
        """
        self.update(self.now_ns())
        if not data or not data[0] & 0x80:
            return
        if data[0] & 0x60 == 0x60:
            if data[0] == _CLEAR_INTERRUPT:
                self.registers[_STATUS] &= ~_INTERRUPT
                self._show()
            return
        self.pointer: int = data[0] & 0x1F
        for value in data[1:]:
            if self.pointer <= _CONTROL:
                self.registers[self.pointer] = value
                if self.pointer in (_ENABLE, _TIME, _WAIT, _CONFIG):
                    self._start()
            self.pointer = (self.pointer + 1) & 0x1F
        self._show()

    def read(self, count: int) -> bytes:
        self.update(self.now_ns())
        start = self.pointer
        self.pointer = (start + count) & 0x1F
        return bytes(self.registers[(start + index) & 0x1F] for index in range(count))

    def _start(self) -> None:
        """Warm up for 2.4 ms, then integrate, then wait, if that is enabled; again and again."""
        enabled = self.registers[_ENABLE]
        self.registers[_STATUS] &= ~_VALID
        if enabled & (_POWER | _CONVERT) != _POWER | _CONVERT:
            self._cycle.stop()
            return
        wait = (256 - self.registers[_WAIT]) * _STEP * (12 if self.registers[_CONFIG] & 2 else 1)
        seconds = _STEP + self._integration()
        self._cycle.start(self.now_ns(), seconds, repeats=True, pause=wait if enabled & _WAITS else 0.0)

    def _integration(self) -> float:
        return (256 - self.registers[_TIME]) * _STEP

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is None:
            return
        scale = self._integration() * 1e3 * _GAINS[self.registers[_CONTROL] & 3]
        most = min(1024 * (256 - self.registers[_TIME]), 0xFFFF)
        counts = [min(round(light * scale), most) for light in (self.clear, self.red, self.green, self.blue)]
        self.registers[_DATA : _DATA + 8] = b"".join(count.to_bytes(2, "little") for count in counts)
        self.registers[_STATUS] |= _VALID
        low, high = (int.from_bytes(self.registers[at : at + 2], "little") for at in (_LOW, _HIGH))
        self._beyond = 0 if low <= counts[0] <= high else self._beyond + 1
        needed = _FILTER[self.registers[_PERSISTENCE] & 0x0F]
        if needed == 0 or self._beyond >= needed:
            self.registers[_STATUS] |= _INTERRUPT
        self._show()

    def _show(self) -> None:
        enabled = bool(self.registers[_ENABLE] & _INTERRUPTS)
        self._int.drive(0 if enabled and self.registers[_STATUS] & _INTERRUPT else None)
        self.wake(self._cycle.ends_ns if self._int.connected and enabled else None)
