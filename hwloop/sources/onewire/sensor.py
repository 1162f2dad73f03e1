"""A thermometer on a 1-Wire bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeVar, TypeVarTuple

from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.onewire_files import OneWireFiles
from hwloop.sources.intake import WhenFull
from hwloop.sources.onewire.reading import ChecksumError, parse
from hwloop.sources.poll import Poll

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TRIES = 3
"""Conversions for one reading, at most."""
_NEAR = 10.0
"""Degrees: a reading of 85 °C is believed if the one before was as near as this."""
_POWER_ON = 85.0


class SensorStatistics(NamedTuple):
    """The counters of a sensor."""

    readings: int
    """Readings that `read()` has returned."""
    checksum_errors: int
    """Answers with a wrong checksum, or none, each of them read again."""
    power_on_values: int
    """Answers with the 85 °C of power-on, each of them read again."""
    failed: int
    """Calls of `read()` that raised."""


class SensorBus(Protocol):
    """The part of `Bus` that a sensor uses."""

    @property
    def title(self) -> str:
        """The bus, for messages."""
        ...

    async def perform(
        self, what: str, function: Callable[[OneWireFiles, *Ts], T], args: tuple[*Ts], *, timeout: float | None = ...
    ) -> T:
        """Call `function(files, *args)` on the bus's thread and return what it returns; `what` is for messages."""
        ...

    def poll(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        every: float | None = ...,
        name: str | None = ...,
        priority: Priority = ...,
        queue_size: int = ...,
        when_full: WhenFull = ...,
    ) -> Poll[T]:
        """Return a stream of readings."""
        ...


class Sensor:
    """A thermometer on a 1-Wire bus; made by `Bus.sensors` and `Bus.sensor`.

    Attributes:
        name: its name below /sys/bus/w1/devices: "28-0316a2794b1c".
    """

    def __init__(self, bus: SensorBus, name: str) -> None:
        self.bus = bus
        self.name = name
        self._last: float | None = None
        self._readings = self._checksum_errors = self._power_on_values = self._failed = 0

    def __repr__(self) -> str:
        return f"<Sensor {self.name}>"

    async def read(self, *, timeout: float | None = None) -> float:
        """Measure, which takes 0.75 s with twelve bits, and return the temperature in °C.

        A wrong checksum and the value of power-on (85 °C) are read again, three times in all. Raises `HardwareError` if
        they stay, or if the sensor is gone.
        """
        try:
            celsius = await self.bus.perform(f"sensor {self.name}", self._measure, (), timeout=timeout)
        except BaseException:
            self._failed += 1
            raise
        self._readings += 1
        self._last = celsius
        return celsius

    def poll(
        self,
        *,
        every: float,
        name: str | None = None,
        priority: Priority = Priority.NORMAL,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
    ) -> Poll[float]:
        """Return a stream of readings, one every `every` seconds, as `Bus.poll` does.

        async for reading in sensor.poll(every=10): ...
        """
        return self.bus.poll(
            self.read,
            every=every,
            name=name or f"onewire {self.name}",
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
        )

    def statistics(self) -> SensorStatistics:
        """Return the counters so far."""
        return SensorStatistics(self._readings, self._checksum_errors, self._power_on_values, self._failed)

    def _measure(self, files: OneWireFiles) -> float:
        """Return a temperature. Runs on the bus's thread."""
        problem, hint = "", ""
        for _ in range(TRIES):
            try:
                celsius, power_on = parse(files.read(self.name, "w1_slave"))
            except ChecksumError as error:
                self._checksum_errors += 1
                problem = str(error)
                hint = "check the 4.7 kΩ pull-up, the length of the cable, and the supply"
                continue
            except ValueError as error:
                raise HardwareError(self._title, str(error), "is its driver w1_therm?") from error
            if power_on and (self._last is None or abs(self._last - _POWER_ON) > _NEAR):
                self._power_on_values += 1
                problem = "it has not converted: it answers with the 85 °C of power-on"
                hint = "its supply fails during the conversion; connect VDD, or a strong pull-up for parasite power"
                continue
            return celsius
        raise HardwareError(self._title, problem, hint)

    @property
    def _title(self) -> str:
        return f"{self.bus.title}, sensor {self.name}"
