"""Schedules of faults: a seed for the order of tasks, and a list of faults with their times.

A schedule is one line of text, so that it can be given on a command line:

    seed=3; i2c-nack after=1.2 duration=0.5 bus=1 address=0x76; serial-unplug after=2.0 duration=1.0 port=/dev/ttyUSB0
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

_WORD = re.compile(r"[A-Za-z/][\w./:-]*")
_KEY = re.compile(r'\s*(\w+)=("(?:[^"\\]|\\.)*"|[^\s;"]+)')


class ScheduleError(ValueError):
    """A schedule that can't be read."""


class Injector(Protocol):
    """The faults of a board."""

    def inject(self, fault: str, *, after: float, duration: float | None, seed: int, **fields: Any) -> object:
        """Inject a fault by its name."""


@dataclass(frozen=True)
class PlannedFault:
    """A fault of a schedule."""

    name: str
    """Its name in `board.faults.names()`."""
    after: float
    """Seconds from the beginning of the run."""
    duration: float | None
    """Seconds; None for a fault that is over as soon as it has happened."""
    fields: tuple[tuple[str, Any], ...]
    """Its keys and their values."""

    def __str__(self) -> str:
        given = [("after", self.after), ("duration", self.duration), *self.fields]
        return " ".join([self.name, *(f"{key}={_written(key, value)}" for key, value in given if value is not None)])


@dataclass(frozen=True)
class Schedule:
    """A seed and the faults of a run."""

    seed: int = 0
    faults: tuple[PlannedFault, ...] = ()

    def __str__(self) -> str:
        return "; ".join([f"seed={self.seed}", *map(str, self.faults)])

    def inject(self, faults: Injector) -> None:
        """Inject the faults into a board. Raises `FaultError` for one that the board can't have."""
        for fault in self.faults:
            # The seed of each is that of the schedule, so that leaving out one does not change the others.
            faults.inject(fault.name, after=fault.after, duration=fault.duration, seed=self.seed, **dict(fault.fields))


def parse(text: str) -> Schedule:
    """Return the schedule that is written as `text`. Raises `ScheduleError`."""
    first, *others = text.split(";")
    match = re.fullmatch(r"\s*seed=(\d+)\s*", first)
    if match is None:
        raise ScheduleError(
            f"a schedule begins with its seed, as in 'seed=3; stuck-line after=1.0 line=17', not {text!r}"
        )
    return Schedule(int(match[1]), tuple(_fault(each) for each in others if each.strip()))


def _fault(text: str) -> PlannedFault:
    name, _, rest = text.strip().partition(" ")
    fields: dict[str, Any] = {}
    position = 0
    while position < len(rest.rstrip()):
        match = _KEY.match(rest, position)
        if match is None:
            raise ScheduleError(f"fault {name}: write key=value, separated by spaces, not {rest[position:].strip()!r}")
        fields[match[1]] = _read(match[2])
        position = match.end()
    times = {key: fields.pop(key, default) for key, default in (("after", 0.0), ("duration", None))}
    for key, value in times.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ScheduleError(f"fault {name}: {key} is a number of seconds, not {value!r}")
    return PlannedFault(name, fields=tuple(fields.items()), **times)


def _written(key: str, value: Any) -> str:
    if key == "address" and isinstance(value, int):
        return f"0x{value:02x}"
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in ("true", "false", "null"):
        return value
    return json.dumps(value)


def _read(text: str) -> Any:
    if re.fullmatch(r"0x[0-9a-f]+", text):
        return int(text, 16)
    try:
        return json.loads(text)
    except ValueError:
        return text
