"""Requests for GPIO lines: what a program asks of a board, in one frozen object.

`gpio.watch` and `gpio.output` build a request from their arguments, and it travels unchanged down to the library that
claims the lines. It checks itself when it is built, so each option is spelled and checked here only, before any
hardware is touched, and the caller of every board gets the same error message for the same mistake.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from hwloop.core.naming import short_name
from hwloop.lines import Drive, EdgeKind, Level, LineName, Pull

MAX_DEBOUNCE = 5.0
"""Seconds: lgpio's limit, which every board keeps so that a program runs on each of them."""


@dataclass(frozen=True, slots=True)
class EdgeRequest:
    """One or more input lines whose edges are to be reported, for `Board.open_edges`.

    Raises TypeError or ValueError for an argument that no board could accept.
    """

    lines: Sequence[LineName]
    """The lines, each of them once; kept as a tuple."""
    _: KW_ONLY
    consumer: str
    """The name under which the kernel lists the lines as used."""
    chip: str | None = None
    """The chip's label or the path of its device node; None for the chip with the lines of the header."""
    edges: EdgeKind | Literal["none"] = "both"
    """The edges to report, of the logical level; "none" for lines that are only read."""
    pull: Pull | None = None
    """The pull resistor; None leaves it as it is."""
    active_low: bool = False
    """Whether the logical level is the inverse of the electrical one."""
    debounce: float = 0.0
    """Seconds for which a level must be stable before it is reported; 0 reports every edge."""

    def __post_init__(self) -> None:
        lines = tuple(check_line(line) for line in self.lines)
        if not lines:
            raise ValueError("no line to watch; give a BCM number such as 17, or a name such as 'GPIO17'")
        if len(set(lines)) < len(lines):
            raise ValueError(f"the same line twice in {lines}")
        object.__setattr__(self, "lines", lines)
        _check_chip(self.chip)
        if self.edges != "none":
            check_choice("edges", self.edges, EdgeKind)
        if self.pull is not None:
            check_choice("pull", self.pull, Pull)
        _check_bool("active_low", self.active_low)
        if isinstance(self.debounce, bool) or not isinstance(self.debounce, int | float):
            raise TypeError(f"debounce must be a number of seconds, not {self.debounce!r}")
        if not 0 <= self.debounce <= MAX_DEBOUNCE:
            raise ValueError(f"debounce must be 0 to {MAX_DEBOUNCE:g} seconds, not {self.debounce!r}")


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """One line to be driven, for `Board.open_output`.

    Raises TypeError or ValueError for an argument that no board could accept.
    """

    line: LineName
    _: KW_ONLY
    consumer: str
    """The name under which the kernel lists the line as used."""
    chip: str | None = None
    """The chip's label or the path of its device node; None for the chip with the lines of the header."""
    initial: Level | None = 0
    """The logical level to begin with; None keeps the level that the line has."""
    drive: Drive = "push-pull"
    """Which levels the output drives: both, low only ("open-drain") or high only ("open-source")."""
    active_low: bool = False
    """Whether the logical level is the inverse of the electrical one."""
    keep: bool = False
    """Whether the line is to outlive the program: its `OutputLine.fileno()` can be held by another process."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", check_line(self.line))
        _check_chip(self.chip)
        if self.initial is not None:
            check_level("initial", self.initial)
        check_choice("drive", self.drive, Drive)
        _check_bool("active_low", self.active_low)
        _check_bool("keep", self.keep)

    @property
    def released_level(self) -> Level | None:
        """The logical level at which the output lets go of its line; None for one that drives both levels."""
        if self.drive == "push-pull":
            return None
        return 1 if (self.drive == "open-drain") != self.active_low else 0


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
        number = operator.index(line)  # type: ignore[arg-type]  # raises for anything but a whole number
    except TypeError:
        raise TypeError(wanted) from None
    if number < 0:
        raise ValueError(wanted)
    return number


def check_level(name: str, value: object) -> None:
    """Raise ValueError, naming the argument `name`, unless `value` is 0 or 1."""
    if not isinstance(value, int) or value not in (0, 1):  # False and True are 0 and 1
        raise ValueError(f"{name} must be 0 or 1, not {value!r}")


def _check_chip(chip: object) -> None:
    if chip is None:
        return
    if not isinstance(chip, str):
        raise TypeError(f"a chip is identified by its label or the path of its node, never by a number, not {chip!r}")
    if not chip:
        raise ValueError("a chip is identified by its label or the path of its node, not by an empty string")


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise ValueError unless `value` is one of the `choices`, a Literal."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
