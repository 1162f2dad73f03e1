"""A VL53L0X: ST's distance sensor, which measures how long light takes to come back, up to 2 m.

ST publishes no register map; this model answers what ST's driver (STSW-IMG005) and those derived from it ask. A
measurement takes 33 ms, the driver's default. Without a target within reach it reads 8190 mm.

Several sensors share a bus: all but one are held in shutdown by their pin XSHUT, and each gets another address when it
is let go. Source: ST DS11555, rev. 1, and UM2039. Not simulated: other timing budgets, and signal and ambient rates.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.errors import WiringError
from firmware_sim.i2c_part import Cycle, RegisterPart, measured

logger: logging.Logger = logging.getLogger("firmware_sim")

_START, _PERIOD, _INTERRUPT_CONFIG, _INTERRUPT_CLEAR, _INTERRUPT_STATUS, _RESULT, _DISTANCE = (
    0x00,
    0x04,
    0x0A,
    0x0B,
    0x13,
    0x14,
    0x1E,
)
_SPAD_READ, _POLARITY, _ADDRESS, _SPAD_INFO, _MODEL, _PAGE = 0x83, 0x84, 0x8A, 0x92, 0xC0, 0xFF
_SECONDS = 0.033
_READY = 0x04
_AT_POWER_ON = {_MODEL: 0xEE, 0xC1: 0xAA, 0xC2: 0x10, _ADDRESS: 0x29, _POLARITY: 0x10, _SPAD_INFO: 0x85}
_FURTHEST, _NOTHING = 2000, 8190
_VALID, _PHASE_FAIL = 11 << 3, 4 << 3


@dataclass(eq=False)
class Vl53l0x(RegisterPart):
    """A VL53L0X distance sensor.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x29, until the program gives it another.
        distance: to the target, in millimetres; beyond 2000 it sees nothing.
        shutdown: the line of pin XSHUT: low holds the sensor in reset.
        interrupt: the line of pin GPIO1, which is open-drain: the program or a resistor pulls it up.
    """

    fixed: ClassVar[str] = "shutdown"
    wiring: ClassVar[str] = "VIN 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; XSHUT to a line where several share the bus"
    example: ClassVar[str] = "sensor = adafruit_vl53l0x.VL53L0X(board.I2C()); sensor.range  # mm"
    addresses: ClassVar[Sequence[int]] = (0x29,)
    address: int = 0x29
    distance: float = measured(0, 100_000, "mm", default=500.0)
    shutdown: int | None = None
    interrupt: int | None = None

    def attach(self, board: Connections) -> None:
        self._wire, self._home, self._on_bus = board.bus(self.bus), self.address, False
        if self.shutdown is None:
            super().attach(board)
            self._on_bus = True
            return
        self.prepare(board)
        line = board.use_line(self.shutdown, f"XSHUT of the VL53L0X on line {self.shutdown}")
        line.pull("up")  # the modules have this resistor
        line.observe(self._switch)
        if line.level and self._home not in self._wire.addresses:
            self._switch_on()

    def _switch(self, level: int, when_ns: int) -> None:
        """Leave the bus, or come back to it with the address of power-on."""
        if not level and self._on_bus:
            self._wire.detach(self.address)
            self._on_bus = False
            self.wake(None)
        elif level and not self._on_bus:
            try:
                self._switch_on()
            except WiringError as error:
                logger.error("a VL53L0X left shutdown: %s; give that one another address first", error)

    def _switch_on(self) -> None:
        vars(self)["address"] = self._home  # its own move, and no wiring
        self._wire.attach(self.address, self)
        self.reset()
        self._on_bus = True

    def connect(self, board: Connections) -> None:
        self.passive = False  # it may move on the bus
        self._int = self.signal(board, self.interrupt, "GPIO1")

    def power_on(self) -> None:
        for register, value in _AT_POWER_ON.items():
            self.registers[register] = value
        self._other_pages: dict[int, bytearray] = {}
        self._cycle = Cycle()
        self._show()

    def read_register(self, register: int) -> int:
        page = self.registers[_PAGE]
        memory = self._memory(page) if register != _PAGE else self.registers
        if register == _SPAD_READ and page:
            return memory[register] or 0x10  # what was asked for is there
        return _AT_POWER_ON[_SPAD_INFO] if register == _SPAD_INFO else memory[register]

    def write_register(self, register: int, value: int) -> None:
        page = self.registers[_PAGE]
        if page or register == _PAGE:
            (self.registers if register == _PAGE else self._memory(page))[register] = value
            return
        if _INTERRUPT_STATUS <= register < _DISTANCE + 2 or _MODEL <= register <= _MODEL + 2:
            return
        self.registers[register] = value
        if register == _START:
            self.registers[_START] &= ~1  # the measurement has begun
            self._measure(value)
        elif register == _INTERRUPT_CLEAR and value & 1:
            self.registers[_INTERRUPT_STATUS] = 0
        elif register == _ADDRESS:
            self._move(value & 0x7F)
        self._show()

    def _memory(self, page: int) -> bytearray:
        return self._other_pages.setdefault(page, bytearray(256)) if page else self.registers

    def _measure(self, mode: int) -> None:
        """Measure once, back to back, or with pauses between, as bits 1 and 2 say; 0 ends the calibration."""
        if mode & 0x06:
            pause = int.from_bytes(self.registers[_PERIOD : _PERIOD + 4]) / 1e3 - _SECONDS if mode & 0x04 else 0.0
            self._cycle.start(self.now_ns(), _SECONDS, repeats=True, pause=max(pause, 0.0))
        elif mode & 0x01:
            self._cycle.start(self.now_ns(), _SECONDS)
        else:
            self._cycle.stop()

    def _move(self, address: int) -> None:
        """Answer to another address, until power-on."""
        if address == self.address:
            return
        before = self.address
        self._wire.attach(address, self)
        self._wire.detach(before)
        vars(self)["address"] = address

    def update(self, now_ns: int) -> None:
        if self._cycle.ended(now_ns) is not None:
            seen = self.distance <= _FURTHEST
            self.registers[_RESULT] = _VALID if seen else _PHASE_FAIL
            self.registers[_DISTANCE : _DISTANCE + 2] = (round(self.distance) if seen else _NOTHING).to_bytes(2)
            self.registers[_INTERRUPT_STATUS] = _READY
            self._show()

    def _show(self) -> None:
        active = self.registers[_INTERRUPT_STATUS] and self.registers[_INTERRUPT_CONFIG] & 7 == _READY
        high = bool(active) == bool(self.registers[_POLARITY] & 0x10)
        self._int.drive(None if high else 0)
        self.wake(self._cycle.ends_ns if self._int.connected else None)
