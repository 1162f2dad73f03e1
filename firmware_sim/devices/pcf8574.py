"""A PCF8574: a port expander with eight pins, each low, or high through a weak current source, as an input needs it.

There is no direction to set: a pin that the program has written 1 to is an input as well, and a write of 0 to it shorts
whatever drives it high. Source: TI SCPS068J.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.expander import Expander


@dataclass(eq=False)
class Pcf8574(Expander):
    """A PCF8574 or PCF8574A port expander with eight pins.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x20 to 0x27, that of a PCF8574A 0x38 to 0x3f (pins A0 to A2).
        lines: the board's lines that pins P0, P1, … are; others are driven by `drive(pin, level)`.
        interrupt: the line of pin INT, which is open-drain: the program or a resistor pulls it up.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; A0 to A2 to GND is 0x20; INT needs a pull-up"
    example: ClassVar[str] = (
        "smbus.write_byte(0x20, 0xF0)  # P0 to P3 low, P4 to P7 inputs\npins = smbus.read_byte(0x20)"
    )
    addresses: ClassVar[Sequence[int]] = (*range(0x20, 0x28), *range(0x38, 0x40))
    pin_names: ClassVar[tuple[str, ...]] = tuple(f"P{pin}" for pin in range(8))
    address: int = 0x20
    interrupt: int | None = None

    def connect(self, board: Connections) -> None:
        super().connect(board)
        self._int = self.signal(board, self.interrupt, "INT")
        self._seen = 0xFF

    def power_on(self) -> None:
        self._set(0xFF)

    def write(self, data: bytes) -> None:
        for port in data:
            self._set(port)

    def read(self, count: int) -> bytes:
        self._seen = self.levels
        self.pins_changed()
        return bytes([self._seen] * count)

    def _set(self, port: int) -> None:
        for number, pin in enumerate(self.pins):
            high = bool(port >> number & 1)
            pin.set(None if high else 0, pulled_up=high)
        self._seen = self.levels
        self.pins_changed()

    def pins_changed(self) -> None:
        """Interrupt while the pins differ from those that were read or written last."""
        self._int.drive(0 if self.levels != self._seen else None)
