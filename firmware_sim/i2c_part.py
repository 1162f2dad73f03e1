"""The base of parts on an I2C bus: their keys, their time, power-on, measured quantities, and signals to the program.

A part on a bus runs nothing by itself. When the program reads or writes it, or a test changes what it measures, it
first catches up: it completes the conversions that have ended by the timeline's clock. So a board with fifty sensors
costs nothing while nobody looks at them, and a reading is the one that a real part would have had at that time.

    @dataclass(eq=False)
    class Thermometer(WordPart):
        address: int = 0x48
        addresses: ClassVar[Sequence[int]] = range(0x48, 0x50)
        temperature: float = measured(-55, 125, "°C", default=21.5)

        def read_word(self, register: int) -> int:
            return round(self.temperature * 256) & 0xFFFF
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.i2c_device import I2cDevice, RegisterDevice
from firmware_sim.limits import Limited, Limits
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline


class _Measured(Limited):
    """A quantity that a part measures. Assigning a new value first ends the conversions that were due before."""

    def __set__(self, instance: Any, value: float | Limited | None) -> None:
        if self is not value:
            self.limits.check(self.name, value)
            instance.catch_up()
        super().__set__(instance, value)


def measured(low: float, high: float, unit: str, *, default: float) -> Any:
    """Return the default of a field that a part measures: numbers from `low` to `high`, assigned at any time."""
    return _Measured(Limits(low, high, unit), default)


class _MeasuredList(_Measured):
    """Several quantities of one kind, such as one for each axis."""

    def __set__(self, instance: Any, value: Any) -> None:
        values = self.default if value is self else value
        if not isinstance(values, list | tuple) or len(values) != len(self.default):
            raise ValueError(f"{self.name} must be a list of {len(self.default)} numbers, not {value!r}")
        for index, each in enumerate(values):
            self.limits.check(f"{self.name}[{index}]", each)
        instance.catch_up()
        vars(instance)[self.name] = [*values]


def measured_list(low: float, high: float, unit: str, *, default: list[float]) -> Any:
    """Return the default of a field of several numbers from `low` to `high`, assigned together at any time."""
    return _MeasuredList(Limits(low, high, unit), default)


def _alternatives(addresses: Sequence[int]) -> str:
    *most, last = (f"{address:#04x}" for address in addresses)
    return f"{', '.join(most)} or {last}" if most else last


def signed(value: int, bits: int = 16) -> int:
    """Return the lowest `bits` of a value as a two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


class Signal:
    """An output of a part on a line of the board, or on none.

    Parameters:
        line: the line; None if the output is not connected.
        user: the part, for messages.
    """

    def __init__(self, board: Connections, line: int | None, user: str) -> None:
        self._line: Line | None = None if line is None else board.use_line(line, f"{user} on line {line}")

    @property
    def connected(self) -> bool:
        """Whether the output is connected to a line."""
        return self._line is not None

    def drive(self, level: int | None) -> None:
        """Drive the line high or low, or let it go, as an open-drain output does for high."""
        if self._line is not None:
            self._line.drive(level)


class Cycle:
    """A conversion that a part makes once or again and again: when it ends, by the timeline's clock.

    Attributes:
        ends_ns: when the conversion under way ends; None if there is none.
    """

    def __init__(self) -> None:
        self.ends_ns: int | None = None
        self._period_ns = 0
        self._repeats = False

    def start(self, now_ns: int, seconds: float, *, repeats: bool = False, pause: float = 0.0) -> None:
        """Begin a conversion of `seconds`; one that repeats begins again `pause` seconds after its end."""
        self.ends_ns = now_ns + round(seconds * 1e9)
        self._period_ns = round((seconds + pause) * 1e9)
        self._repeats = repeats

    def stop(self) -> None:
        """Abandon the conversion under way."""
        self.ends_ns = None

    def ended(self, now_ns: int) -> int | None:
        """Return when the last conversion ended, if one has ended since the last call."""
        ends_ns = self.ends_ns
        if ends_ns is None or now_ns < ends_ns:
            return None
        if not self._repeats:
            self.ends_ns = None
            return ends_ns
        ends_ns += (now_ns - ends_ns) // self._period_ns * self._period_ns
        self.ends_ns = ends_ns + self._period_ns
        return ends_ns


@dataclass(eq=False)
class I2cPart(I2cDevice, Device):
    """A part on an I2C bus.

    Parameters:
        bus, address: its place.
    """

    addresses: ClassVar[Sequence[int]] = ()
    """The addresses that its pins or its order code can give it."""
    reset_by_general_call: ClassVar[bool] = False
    """Whether the byte 0x06 to address 0 resets it."""
    holds_the_clock: ClassVar[bool] = False
    """Whether it may hold the clock when it is read, until it can answer."""
    bus: int = 1
    address: int = 0
    _timeline: ClassVar[Timeline | None] = None

    def __post_init__(self) -> None:
        if self.address not in self.addresses:
            raise ValueError(f"address must be {_alternatives(self.addresses)}, not {self.address:#04x}")

    def attach(self, board: Connections) -> None:
        """Connect to the board's bus. Raises `WiringError`."""
        self.prepare(board)
        bus = board.bus(self.bus)
        if self.address in (used := bus.addresses):
            free = [address for address in self.addresses if address not in used]
            others = f"another address ({_alternatives(free)}), or another bus" if free else "another bus"
            raise WiringError(
                f"I2C bus {self.bus}: address {self.address:#04x} is used already, "
                f"by the part {type(bus[self.address]).__name__}; give one of them {others}"
            )
        bus.attach(self.address, self)

    def prepare(self, board: Connections) -> None:
        """Connect to all but the bus."""
        vars(self)["_timeline"] = board.timeline
        self._moment_ns = board.timeline.moment_ns
        self._began_ns = board.timeline.now_ns()
        self.passive: bool = not self.holds_the_clock
        self._wake: Event | None = None
        self._powered = False
        self._earlier_ns = 0
        self.connect(board)

    def connect(self, board: Connections) -> None:
        """Connect to lines by `signal()`. Raises `WiringError`. By default there are none."""

    def signal(self, board: Connections, line: int | None, name: str) -> Signal:
        """Return the signal of a pin, which is connected to a line or to nothing. Raises `WiringError`."""
        if line is not None:
            self.passive = False
        return Signal(board, line, f"{name} of the {type(self).__name__.upper()} at {self.address:#04x}")

    def connected(self) -> None:
        if self._powered:  # its wire was loose, no more
            return
        self._powered = True
        # The board was powered long before a program runs on it: the first conversions are over.
        self._earlier_ns = 60_000_000_000
        self.reset()
        self._earlier_ns = 0
        self.update(self.now_ns())

    def reset(self) -> None:
        """Begin again as after power-on."""
        with self.timeline.lock:
            self.wake(None)
            self.power_on()

    def power_on(self) -> None:
        """Set everything as after power-on."""

    def general_call(self, data: bytes) -> bool:
        if self.reset_by_general_call and data == b"\x06":
            self.reset()
            return True
        return False

    def update(self, now_ns: int) -> None:
        """End the conversions that are due by `now_ns`. The lock is held."""

    def catch_up(self) -> None:
        """End the conversions that are due by now."""
        if self._timeline is not None:
            with self._timeline.lock:
                self.update(self.now_ns())

    def wake(self, when_ns: int | None) -> None:
        """Have `catch_up()` called at a time, and no more at the one that was asked for before; None: at no time."""
        if self._wake is not None:
            self._wake.cancel()
        self._wake = None if when_ns is None else self.timeline.at(when_ns, self.catch_up)

    @property
    def timeline(self) -> Timeline:
        """The board's time."""
        assert self._timeline is not None, "the part is on no board yet"
        return self._timeline

    def now_ns(self) -> int:
        """Return the time (nanoseconds, the timeline's clock)."""
        return self._moment_ns() - self._earlier_ns

    def seconds(self, time_ns: int) -> float:
        """Return a time as seconds since the board began."""
        return (time_ns - self._began_ns) / 1e9


@dataclass(eq=False)
class RegisterPart(RegisterDevice, I2cPart):
    """A part with one-byte registers and a pointer."""

    def connected(self) -> None:
        I2cPart.connected(self)

    def reset(self) -> None:
        with self.timeline.lock:
            self.pointer = 0
            self.registers[:] = bytes(256)
            I2cPart.reset(self)

    def write(self, data: bytes) -> None:
        self.update(self.now_ns())
        super().write(data)

    def read(self, count: int) -> bytes:
        self.update(self.now_ns())
        return RegisterDevice.read(self, count)


@dataclass(eq=False)
class WordPart(I2cPart):
    """A part with 16-bit registers, the high byte first, and a pointer that stays where the program has set it."""

    byte_registers: ClassVar[Sequence[int]] = ()
    """Registers of one byte."""
    pointer_mask: ClassVar[int] = 0xFF
    """The bits of the pointer that count."""

    def reset(self) -> None:
        with self.timeline.lock:
            self.pointer: int = 0
            super().reset()

    def write(self, data: bytes) -> None:
        self.update(self.now_ns())
        if data:
            self.pointer = data[0] & self.pointer_mask
        width = self._width()
        if len(data) > width:  # what is incomplete has no effect
            self.write_word(self.pointer, int.from_bytes(data[1 : 1 + width]))

    def read(self, count: int) -> bytes:
        self.update(self.now_ns())
        width = self._width()
        word = self.read_word(self.pointer).to_bytes(width)
        return (word * (count // width + 1))[:count]

    def _width(self) -> int:
        return 1 if self.pointer in self.byte_registers else 2

    def read_word(self, register: int) -> int:
        """Return the value of a register."""
        return 0

    def write_word(self, register: int, value: int) -> None:
        """Take a new value of a register. By default it is read-only."""
