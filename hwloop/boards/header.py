"""Lines by their position on the header: "J8:11" is GPIO 17.

The positions differ from board to board, and gpiozero has tables of them, which are used here. Loading the tables takes
a good part of a second, so that happens when the first position is looked up.
"""

from __future__ import annotations

import functools
import re

from hwloop.errors import HardwareError

_POSITION = re.compile(r"[A-Z]+\d*:\d+")
_GPIO = re.compile(r"GPIO(\d+)")


def is_position(name: str) -> bool:
    """Return whether a line's name is a position on a header, such as "J8:11" (or "P1:11" on the first boards)."""
    return _POSITION.fullmatch(name) is not None


@functools.cache
def at_position(position: str, revision: int | None) -> int:
    """Return the BCM number of the line at `position`.

    `revision` is a Raspberry Pi's revision code ("Raspberry Pi revision codes" in its documentation); None means this
    machine's. Raises `HardwareError` where the board is unknown, or has no line there.
    """
    tried = f"line {position!r}"
    try:
        from gpiozero import PinUnknownPi
        from gpiozero.pins.local import get_pi_revision
        from gpiozero.pins.pi import PiBoardInfo
    except ImportError as error:
        raise HardwareError(
            tried,
            f"positions are looked up in the package gpiozero: {error}",
            "pip install gpiozero, or apt install python3-gpiozero; or use the BCM number",
        ) from error
    try:
        info = PiBoardInfo.from_revision(get_pi_revision() if revision is None else revision)
    except (PinUnknownPi, OSError) as error:
        raise HardwareError(
            tried, f"positions are known on a Raspberry Pi only: {error}", "use the number or the name of the line"
        ) from error
    for _, pin in info.find_pin(position):
        if match := _GPIO.fullmatch(pin.name):
            return int(match[1])
        raise HardwareError(tried, f"that pin is {pin.name}, not a GPIO line", "see 'pinout'")
    headers = ", ".join(f"{name} with {len(header.pins)}" for name, header in info.headers.items())
    raise HardwareError(
        tried, f"no such pin on a Raspberry Pi {info.model}", f"its headers are {headers}; see 'pinout'"
    )
