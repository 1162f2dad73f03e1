"""Durations in scenarios: seconds as numbers, or text with a unit ("100ms"), and the same in messages."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}

_TEXT = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-zµ]+)\s*")
_LONGEST = 1e9
"""Seconds: 31 years."""


class Unit:
    """Marks the fields of steps that are durations."""


Seconds = Annotated[float, Unit()]
"""Seconds. In a scenario file also text with a unit."""


def is_duration(hint: Any) -> bool:
    """Return whether an annotation is `Seconds`, or a union with it."""
    metadata = getattr(hint, "__metadata__", ())
    return any(isinstance(each, Unit) for each in metadata) or any(map(is_duration, getattr(hint, "__args__", ())))


def parse_duration(text: str) -> float:
    """Return the seconds that a text like "100ms" means. Raises ValueError."""
    match = _TEXT.fullmatch(text)
    if match is None or match[2] not in UNITS:
        written = "; write 'min' for minutes or 'ms' for milliseconds" if match is not None and match[2] == "m" else ""
        raise ValueError(f"must be seconds, or a text with a unit ({', '.join(UNITS)}), not {text!r}{written}")
    return check_duration(float(match[1]) * UNITS[match[2]])


def check_duration(value: float) -> float:
    """Return a number of seconds. Raises ValueError unless it is a duration."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number of seconds, not {value!r}")
    if not 0 <= value <= _LONGEST:
        raise ValueError(f"must be 0 to {_LONGEST:g} seconds, not {value!r}")
    return value


def duration_text(seconds: float) -> str:
    """Return a duration for messages: "100 ms", "1.5 s", "2 h"."""
    if seconds == 0 or not math.isfinite(seconds):
        return f"{seconds:g} s"
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{round(seconds / size, 6):g} {unit}"
    return f"{round(seconds * 1e9):g} ns"
