"""Limits of a device's numbers, kept whenever one is set: in a board file, by the constructor, on the running board.

    @dataclass
    class Heater(Device):
        line: int
        watts: float = within(0, 3000, "watts", default=500.0)

A number that no part can have (NaN, a negative interval, a baud rate of 10¹⁸) would otherwise be found by a planned
action, on the board's thread, where nobody can correct it. An interval also has a least value: a part that moves every
nanosecond keeps any computer busy for good.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LONGEST = 1e9
"""Seconds: the longest period of a part, thirty years."""
LEAST_PERIOD = 0.001
"""Seconds from one action of a part to the next that it plans by itself."""
BAUD_RATES = (50, 12_000_000)
"""Bits a second: from the slowest rate of termios(3) to the fastest USB adapters."""


class Limits(NamedTuple):
    """The smallest and the largest value of a number, its unit, and whether it may be None instead."""

    low: float
    high: float
    unit: str
    optional: bool = False

    def clamp(self, value: float) -> float:
        """Return the number within the limits that is closest to `value`."""
        return self.low if value < self.low else self.high if value > self.high else value

    def check(self, name: str, value: object) -> None:
        """Raise ValueError unless `value` is a number within the limits. `name` is for the message."""
        if value is None and self.optional:
            return
        if not (isinstance(value, int | float) and self.low <= value <= self.high):
            raise ValueError(f"{name} must be {self.low:.10g} to {self.high:.10g} {self.unit}, not {value!r}")


class State:
    """An attribute that moves its part when it is set: a descriptor.

    The part's own methods set it too, so there is one way to move the part. While the part is on no board, setting it
    only keeps the value. If the move raises, the value stays as it was.
    """

    def __init__(self, default: Any, changed: str) -> None:
        self.default: Any = default
        self.changed: str = changed
        self.name: str = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Any:
        return self if instance is None else vars(instance).get(self.name, self.default)

    def __set__(self, instance: Any, value: Any) -> None:
        if value is self:  # the default of a dataclass's field
            value = self.default
        if not instance.attached:
            vars(instance)[self.name] = value
            return
        timeline = vars(instance)["_board_time"]
        with timeline.lock:
            timeline.catch_up()  # what was due before has moved the part
            before = self.__get__(instance)
            vars(instance)[self.name] = value
            if value != before:
                _move(instance, self.changed, self.name, before)

    def __repr__(self) -> str:
        return repr(self.default)


def state(default: Any, *, changed: str) -> Any:
    """Return the default of a field of a device; `changed` names the method that is called when a new value is set."""
    return State(default, changed)


def _move(instance: Any, method: str, name: str, before: object) -> None:
    try:
        getattr(instance, method)()
    except BaseException:
        vars(instance)[name] = before
        raise


class Limited:
    """An attribute that keeps to its limits: a descriptor for assignments only, so that reading costs nothing."""

    def __init__(self, limits: Limits, default: Any, changed: str = "") -> None:
        self.limits: Limits = limits
        self.default: Any = default
        self.name: str = ""
        self.changed: str = changed

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: float | Limited | None) -> None:
        if value is self:  # the default of a dataclass's field
            value = self.default
        self.limits.check(self.name, value)
        values = vars(instance)
        before = values.get(self.name)
        values[self.name] = value
        if self.changed and getattr(instance, "attached", False):
            _move(instance, self.changed, self.name, before)

    def __repr__(self) -> str:
        return repr(self.default)


def within(low: float, high: float, unit: str, *, default: float | None, changed: str = "") -> Any:
    """Return the default of a dataclass's field that takes numbers from `low` to `high`, and None if that is it.

    `changed` names a method that is called when the value is set on a running board. If it raises, the value stays.
    """
    return Limited(Limits(low, high, unit, default is None), default, changed)


def limits_of(kind: type[Any]) -> dict[str, Limits]:
    """Return the limits of a class's fields by name."""
    return {
        name: value.limits
        for base in reversed(kind.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, Limited)
    }
