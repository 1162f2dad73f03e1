"""What the parts of `hwloop.gpio` ask of their arguments, and the words in which they refuse them.

A wrong argument is told before any hardware is touched, and in the same words whichever of them it was given to.
"""

from __future__ import annotations

import operator
from typing import Literal, get_args

from hwloop.board import LineName
from hwloop.core.naming import short_name

Level = Literal[0, 1]


def check_line(line: object) -> LineName:
    """Return `line` as a number or a name: "17" and numpy's 17 are 17. Raises TypeError or ValueError."""
    wanted = f"a line is a BCM number such as 17, or a name such as 'GPIO17' or 'J8:11', not {short_name(line)}"
    if isinstance(line, str):
        name = str.__str__(line).strip()  # of an enum's member: its value
        if not name:
            raise ValueError(wanted)
        return int(name) if name.isdecimal() else name
    if isinstance(line, float) and line.is_integer():
        raise TypeError(f"{wanted}; write {line:.0f}")
    try:
        if isinstance(line, bool):
            raise TypeError
        number = operator.index(line)  # type: ignore[arg-type]  # whatever is no whole number raises
    except TypeError:
        raise TypeError(wanted) from None
    if number < 0:
        raise ValueError(wanted)
    return number


def check_chip(chip: object) -> None:
    if chip is None:
        return
    if not isinstance(chip, str):
        raise TypeError(f"a chip is told by its label or the path of its node, never by a number, not {chip!r}")
    if not chip:
        raise ValueError("a chip is told by its label or the path of its node, not by an empty text")


def check_choice(what: str, value: object, choices: object) -> None:
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}, not {value!r}")


def check_bool(what: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r}")


def check_level(what: str, value: object) -> None:
    if not isinstance(value, int) or value not in (0, 1):  # False and True are 0 and 1
        raise ValueError(f"{what} must be 0 or 1, not {value!r}")
