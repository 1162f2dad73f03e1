"""The checker of keys: whether a mapping gives a dataclass the fields that it has, with values of their types.

Devices, faults and steps of scenarios are dataclasses, and their fields are their keys in a file. TOML has `nan` and
`inf`, and a number that is far too large is a slip of the hand; both would be found late, by a planned action that
fails. So they are rejected here, with the name of the key, and everything that uses this module rejects them alike.
"""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from hwloop.core.naming import error_text

LARGEST = 1e12
"""The largest number that a key takes: as seconds, 30 000 years."""
SMALLEST = 1e-9
"""The smallest number above 0, and the largest below: as seconds, the resolution of a board's clock."""
_INTEGERS = range(-(1 << 63), 1 << 64)


class FieldError(ValueError):
    """A key that does not fit. The message names the key; whoever reads the file adds the place."""


def check_fields(kind: type[Any], given: Mapping[str, object], *, also: Collection[str] = ()) -> None:
    """Check that `kind(**given)` gets the fields that the dataclass `kind` has. Raises `FieldError`.

    `also` are further keys that may stand beside them, for the message only.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    if unknown := given.keys() - fields.keys():
        raise FieldError(f"unknown key {listed(unknown)}; known are {listed({*also, *fields}) or 'none'}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := required - given.keys():
        raise FieldError(f"missing key {listed(missing)}")
    hints = _hints(kind)
    for key, value in given.items():
        check_value(key, value, hints[key])


def check_value(key: str, value: object, hint: object) -> None:
    """Check that the value of a key is of an annotated type, and no number out of all measure. Raises `FieldError`."""
    if not _fits(value, hint):
        raise FieldError(f"{key} must be {named(hint)}, not {value!r}")
    if (number := _absurd(value, hint)) is not None:
        raise FieldError(
            f"{key} must be a number that a board can mean, not {number!r}: 0, or {SMALLEST:g} to {LARGEST:g} in size"
        )


def listed(names: Iterable[str]) -> str:
    """Return names in order, for a message."""
    return ", ".join(sorted(names))


_known_hints: weakref.WeakKeyDictionary[type[Any], dict[str, Any]] = weakref.WeakKeyDictionary()


def _hints(kind: type[Any]) -> dict[str, Any]:
    try:
        if kind not in _known_hints:
            _known_hints[kind] = typing.get_type_hints(kind)
        return _known_hints[kind]
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise FieldError(
            f"the annotations of {kind.__qualname__} can't be read: {error_text(error)}; "
            "a name that is imported for type checking only does not exist here"
        ) from error


def _absurd(value: object, hint: object) -> object | None:
    """Return the number in a value that nobody can mean; None if there is none."""
    if isinstance(value, list):
        item_hint = (*typing.get_args(hint), typing.Any)[0]
        return next((found for item in value if (found := _absurd(item, item_hint)) is not None), None)
    if isinstance(value, float):
        return None if value == 0 or SMALLEST <= abs(value) <= LARGEST else value  # NaN too
    # A whole number may also be an identity (a 64-bit ROM code), which is no measure of anything.
    if isinstance(value, int) and (value not in _INTEGERS or (float in _options(hint) and abs(value) > LARGEST)):
        return value
    return None


def _options(hint: object) -> tuple[object, ...]:
    """Return the types of a union, or the one type."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fits(value: object, hint: object) -> bool:
    """Return whether a TOML value is of an annotated type, of those that files use."""
    if hint in (typing.Any, object):
        return True
    if len(options := _options(hint)) > 1:
        return any(_fits(value, option) for option in options)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(hint, type) and isinstance(value, hint)


def named(hint: object) -> str:
    """Return the name of an annotated type for writers of files: "a whole number"."""
    names: dict[object, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    names[datetime.datetime] = "a date and time"
    if hint in names:
        return names[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f"a list, each {named(arguments[0])}"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if not arguments:
        return f"of type {getattr(hint, '__name__', hint)}"
    # A file has no functions, which a field may take from Python.
    taken = (argument for argument in arguments if typing.get_origin(argument) is not Callable)
    return " or ".join(named(argument) for argument in taken if argument is not type(None))
