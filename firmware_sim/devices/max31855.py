"""A MAX31855: Maxim's converter for a thermocouple of type K, with its own temperature as the cold junction's.

Source: Maxim 19-5793 rev. 5, tables 2 to 5. The real one computes the thermocouple's temperature as if its voltage were
linear (41.276 µV/°C for type K), so that hot junctions read wrong; this one reports the temperature that is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from firmware_sim.limits import within
from firmware_sim.spi_device import ByteDevice
from firmware_sim.spi_part import SpiPart

_FAULTS = {"open": 1, "short-to-ground": 2, "short-to-supply": 4}
_CONVERSION_NS = 70_000_000
"""The typical time of a conversion, which begins when it is deselected ("Thermal characteristics")."""
_POWER_UP_NS = 200_000_000


@dataclass(eq=False)
class Max31855(ByteDevice, SpiPart):
    """A MAX31855 on an SPI bus, with a thermocouple of type K.

    Parameters:
        bus, select: its place.
        line: a line that selects it instead of the bus's own.
        temperature: the thermocouple's.
        internal: the chip's own.
        fault: a fault of the thermocouple: "open", "short-to-ground" or "short-to-supply"; None for none.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SCK to GPIO11, SO to GPIO9, CS to GPIO8 (CE0); thermocouple to T+ and T-"
    example: ClassVar[str] = (
        "word = int.from_bytes(await spi.open(0, 0, speed=5_000_000).open().read(4))\n"
        "celsius = (word >> 18) / 4  # positive ones"
    )
    temperature: float = within(-270, 1800, "°C", default=100.0)
    internal: float = within(-55, 127, "°C", default=25.0)
    fault: Literal["open", "short-to-ground", "short-to-supply"] | None = None

    def connected(self) -> None:
        self.max_speed: float = 5_000_000
        self._bytes: Iterator[int] = iter(())
        self._word, self._ready_ns = self.word(), 0  # it has had power for long

    def reset(self) -> None:
        """Begin again as after power-on: it sends zeros until the first conversion has ended."""
        self._word, self._ready_ns = 0, self.now_ns() + _POWER_UP_NS

    def begin(self) -> None:
        """Stop converting, and send the last result. One that is read too soon again and again is never a new one."""
        if self.now_ns() >= self._ready_ns:
            self._word = self.word()
        self._bytes = iter(self._word.to_bytes(4))

    def end(self) -> None:
        self._ready_ns = self.now_ns() + _CONVERSION_NS

    def word(self) -> int:
        """Return the 32 bits of a conversion that ends now."""
        celsius = min(max(self.temperature, -270.0), 1372.0)
        faults = 0 if self.fault is None else _FAULTS[self.fault]
        hot = round(celsius * 4) & 0x3FFF
        cold = round(self.internal * 16) & 0xFFF
        return hot << 18 | bool(faults) << 16 | cold << 4 | faults

    def answer(self) -> int | None:
        return next(self._bytes, None)
