"""The dates of programs: `datetime.now()` and `date.today()` in the time of the board.

A lamp that burns from dusk to midnight asks for the time of day with `datetime`. Its classes are those of Python, with
another present: whatever they make is an ordinary `datetime` or `date`. They are given to the modules of the project,
to gpiozero and to schedule, and not to libraries that compare types.
"""

from __future__ import annotations

import datetime
from types import ModuleType
from typing import Any

from hwloop.testing.places import is_of_project
from hwloop.testing.program_modules import ProgramModule
from hwloop.virtual.program_waits import waits_here

_LIBRARIES = frozenset({"gpiozero", "schedule"})
"""Libraries that ask for the time of day."""


class _Ordinary(type):
    """The class of classes whose instances are those of their base."""

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(_ordinary(cls), instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return type.__subclasscheck__(_ordinary(cls), subclass)


def _ordinary(cls: type) -> type:
    """Return Python's own class for one of these; another class as it is."""
    return _CLASSES.get(cls, cls)


def _present() -> float:
    waits = waits_here()
    if waits.is_virtual:
        waits.looked()
    return waits.date_ns() / 1e9


class _DateTime(datetime.datetime, metaclass=_Ordinary):
    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return datetime.datetime.__new__(datetime.datetime if cls is _DateTime else cls, *arguments, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(_present(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(_present(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


class _Date(datetime.date, metaclass=_Ordinary):
    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return datetime.date.__new__(datetime.date if cls is _Date else cls, *arguments, **named)

    @classmethod
    def today(cls) -> Any:
        return cls.fromtimestamp(_present())


_CLASSES: dict[type, type] = {_DateTime: datetime.datetime, _Date: datetime.date}
for _cls, _name in ((_DateTime, "datetime"), (_Date, "date")):
    _cls.__name__ = _cls.__qualname__ = _name
    _cls.__module__ = "datetime"

MODULES: dict[str, ModuleType] = {"datetime": ProgramModule(datetime, {"datetime": _DateTime, "date": _Date})}
"""By name, the modules that such a module finds."""


def asks_for_dates(module: str, path: str | None) -> bool:
    """Return whether a module, by its name and the path of its file, finds these classes."""
    return module.partition(".")[0] in _LIBRARIES or module == "__main__" or bool(path and is_of_project(path))
