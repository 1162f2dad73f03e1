"""DHT22 (AM2302) and DHT11: humidity and temperature over one wire, with the pulses of the datasheets.

The program pulls the line low and lets it go. 30 µs later the sensor answers with 80 µs low and 80 µs high, then 40
bits of 50 µs low and 26 or 70 µs high, then 50 µs low. It sends what it measured at the previous reading if that is
less than two seconds old (AM2302 product manual; DHT11 datasheet of Aosong).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

_RESPONSE = ((30, None), (80, 0), (80, None))
"""Microseconds, and the level that the sensor drives for them."""


@dataclass
class Dht22(Device):
    """A DHT22 (AM2302) humidity and temperature sensor.

    Parameters:
        line: its data line.
        temperature, humidity: the air around it. Assign new values at any time.
        resistor: whether it has a pull-up of its own, as modules do.

    Attributes:
        bad_checksums: how many of the next answers get a wrong checksum.
        answers: answers that it has sent.
        too_early: answers with an old value, because the one before was less than the interval ago.
    """

    line: int
    temperature: float = within(-40, 80, "°C", default=21.5)
    humidity: float = within(0, 100, "%RH", default=45.0)
    resistor: bool = True
    bad_checksums: int = field(default=0, init=False)
    answers: int = field(default=0, init=False)
    too_early: int = field(default=0, init=False)

    fixed = "resistor"
    wiring = "DATA to the line with 10 kΩ to 3.3 V (resistor), VCC to 3.3 V, GND to GND"
    example = "wire.on_edge(edges.append); await wire.pulse(0.002, value=0)  # see examples/greenhouse.py"

    start: ClassVar[float] = 0.0008
    """The least seconds for which the program pulls the line low."""
    interval: ClassVar[float] = 2.0
    """The least seconds between two measurements."""

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._line: Line = board.use_line(self.line, f"the {type(self).__name__.upper()} on line {self.line}")
        self._line.pull("up" if self.resistor else "none")
        self._measured: tuple[int, bytes] | None = None
        self._fell_ns: int | None = None
        self._busy_until_ns = 0
        self._line.observe(self._on_level)

    def encode(self) -> bytes:
        """Return the four bytes of the present values, without the checksum."""
        humidity, temperature = round(self.humidity * 10), round(abs(self.temperature) * 10)
        return humidity.to_bytes(2, "big") + (temperature | (self.temperature < 0) << 15).to_bytes(2, "big")

    def _on_level(self, level: int, when_ns: int) -> None:
        if when_ns < self._busy_until_ns:
            return
        if level == 0:
            self._fell_ns = when_ns
        elif self._fell_ns is not None and when_ns - self._fell_ns >= self.start * 1e9:
            self._answer(when_ns)

    def _answer(self, when_ns: int) -> None:
        values = self.encode()
        if self._measured is not None and when_ns - self._measured[0] < self.interval * 1e9:
            self.too_early += 1
            values = self._measured[1]
        else:
            self._measured = when_ns, values
        checksum = sum(values) & 0xFF
        if self.bad_checksums:
            self.bad_checksums -= 1
            checksum ^= 0xFF
        self.answers += 1
        self._fell_ns = None
        for micros, level in (*_RESPONSE, *_bits(values + bytes([checksum])), (0, None)):
            self._timeline.at(when_ns, lambda level=level: self._line.drive(level))  # type: ignore[misc]
            when_ns += micros * 1000
        self._busy_until_ns = when_ns + 1


@dataclass
class Dht11(Dht22):
    """A DHT11 humidity and temperature sensor.

    Parameters:
        line: its data line.
        temperature, humidity: the air around it, sent in whole numbers. Assign new values at any time.
        resistor: whether it has a pull-up of its own, as modules do.

    Attributes:
        bad_checksums: how many of the next answers get a wrong checksum.
        answers: answers that it has sent.
        too_early: answers with an old value, because the one before was less than the interval ago.
    """

    temperature: float = within(0, 50, "°C", default=21.0)
    humidity: float = within(20, 90, "%RH", default=45.0)

    example = "result = dht11.DHT11(pin=17).read(); result.temperature"
    start: ClassVar[float] = 0.018
    interval: ClassVar[float] = 1.0

    def encode(self) -> bytes:
        return bytes([round(self.humidity), 0, round(self.temperature), 0])


def _bits(data: bytes) -> Iterator[tuple[int, int | None]]:
    for byte in data:
        for place in range(7, -1, -1):
            yield 50, 0
            yield (70 if byte >> place & 1 else 26), None
    yield 50, 0
