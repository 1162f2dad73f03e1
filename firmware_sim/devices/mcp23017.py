"""An MCP23017: Microchip's port expander with sixteen pins in two ports, and an interrupt output for each.

Source: Microchip DS20001952D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.expander import Expander

# Registers by their address while IOCON.BANK is 0; each is that of port A, and the next one that of port B.
_IODIR, _IPOL, _GPINTEN, _DEFVAL, _INTCON, _IOCON = 0x00, 0x02, 0x04, 0x06, 0x08, 0x0A
_GPPU, _INTF, _INTCAP, _GPIO, _OLAT = 0x0C, 0x0E, 0x10, 0x12, 0x14
_COUNT = 22
_BANK, _MIRROR, _SEQOP, _ODR, _INTPOL = 0x80, 0x40, 0x20, 0x04, 0x02


@dataclass(eq=False)
class Mcp23017(Expander):
    """An MCP23017 port expander with sixteen pins.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x20 to 0x27 (pins A0 to A2).
        lines: the board's lines that pins GPA0, …, GPA7, GPB0, … are; others are driven by `drive(pin, level)`.
        interrupt: the line of pin INTA.
        interrupt_b: the line of pin INTB.
    """

    fixed: ClassVar[str] = "interrupt_b"
    wiring: ClassVar[str] = "VDD and RESET 3.3 V, VSS to GND; SDA to GPIO2, SCL to GPIO3; A0 to A2 to GND is 0x20"
    example: ClassVar[str] = (
        "smbus.write_byte_data(0x20, 0x00, 0xFE)  # GPA0 an output\nsmbus.write_byte_data(0x20, 0x12, 0x01)  # high"
    )
    addresses: ClassVar[Sequence[int]] = range(0x20, 0x28)
    pin_names: ClassVar[tuple[str, ...]] = tuple(f"GP{port}{pin}" for port in "AB" for pin in range(8))
    address: int = 0x20
    interrupt: int | None = None
    interrupt_b: int | None = None

    def connect(self, board: Connections) -> None:
        super().connect(board)
        self._outputs = self.signal(board, self.interrupt, "INTA"), self.signal(board, self.interrupt_b, "INTB")
        self._registers = bytearray(_COUNT)
        self._before = 0

    def power_on(self) -> None:
        self._registers[:] = bytes(_COUNT)
        self._registers[_IODIR] = self._registers[_IODIR + 1] = 0xFF
        self._pointer = 0
        self._drive_pins()
        self._before = self.levels
        self._show()

    def write(self, data: bytes) -> None:
        if data:
            self._pointer = data[0]
        for value in data[1:]:
            self._write_register(value)

    def read(self, count: int) -> bytes:
        return bytes(self._read_register() for _ in range(count))

    def _register(self) -> int | None:
        """Return the register that the pointer names, if there is one, and move the pointer."""
        pointer, config = self._pointer, self._registers[_IOCON]
        banked = bool(config & _BANK)
        register = (pointer & 0x0F) << 1 | pointer >> 4 if banked else pointer
        if not config & _SEQOP:
            self._pointer = (pointer + 1) % (0x1B if banked else _COUNT)
        elif not banked:
            self._pointer ^= 1  # between the two ports
        return register if register < _COUNT and (pointer < 0x1B or not banked) else None

    def _write_register(self, value: int) -> None:
        register = self._register()
        if register is None or register & ~1 in (_INTF, _INTCAP):
            return
        if register & ~1 == _IOCON:
            self._registers[_IOCON] = self._registers[_IOCON + 1] = value & 0xFE
        elif register & ~1 == _GPIO:
            self._registers[_OLAT + (register & 1)] = value
        else:
            self._registers[register] = value
        self._drive_pins()
        self.pins_changed()

    def _read_register(self) -> int:
        register = self._register()
        if register is None:
            return 0
        port, kind = register & 1, register & ~1
        value = self._registers[register]
        if kind == _GPIO:
            value = (self.levels >> 8 * port & 0xFF) ^ self._registers[_IPOL + port]
        if kind in (_GPIO, _INTCAP):
            self._registers[_INTF + port] = 0
            self.pins_changed()  # a pin that differs from DEFVAL interrupts again at once
        return value

    def _drive_pins(self) -> None:
        for number, pin in enumerate(self.pins):
            port, bit = number >> 3, number & 7
            is_input = self._registers[_IODIR + port] >> bit & 1
            pull_up = bool(is_input and self._registers[_GPPU + port] >> bit & 1)
            pin.set(None if is_input else self._registers[_OLAT + port] >> bit & 1, pulled_up=pull_up)

    def pins_changed(self) -> None:
        """Interrupt on changes, and while pins differ from their default; one port, one interrupt at a time."""
        levels, registers = self.levels, self._registers
        for port in (0, 1):
            now = levels >> 8 * port & 0xFF
            changed = now ^ self._before >> 8 * port & 0xFF
            against_default = registers[_INTCON + port]
            differing = (now ^ registers[_DEFVAL + port]) & against_default | changed & ~against_default
            flags = differing & registers[_GPINTEN + port]
            if flags and not registers[_INTF + port]:
                registers[_INTF + port] = flags
                registers[_INTCAP + port] = now
        self._before = levels
        self._show()

    def _show(self) -> None:
        config = self._registers[_IOCON]
        active = [bool(self._registers[_INTF + port]) for port in (0, 1)]
        if config & _MIRROR:
            active = [any(active)] * 2
        for output, is_active in zip(self._outputs, active, strict=True):
            if config & _ODR:
                output.drive(0 if is_active else None)
            else:
                output.drive(int(is_active == bool(config & _INTPOL)))
