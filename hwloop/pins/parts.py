"""The pins of a device, and its name for reports.

gpiozero's own `repr` of a device asks for its value, which reads lines and calls functions of the program's; a report
that one of these failed must not call it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpiozero import CompositeDevice, Pin

from hwloop.core.naming import LONGEST, short_name


def pins_of(device: Any) -> Iterator[Any]:
    """The pins of a device, or of the devices that it consists of."""
    pin = getattr(device, "pin", None)
    if isinstance(pin, Pin):
        yield pin
    elif isinstance(device, CompositeDevice):
        for part in device:
            yield from pins_of(part)


def device_name(device: Any) -> str:
    """Return a name as gpiozero's, without the state: "<gpiozero.Button object on pin GPIO17>". Never raises."""
    try:
        pins = [pin.info.name for pin in pins_of(device)]
    except Exception:  # it is closed
        pins = []
    if not pins:
        return short_name(device)
    on = f"pin {pins[0]}" if len(pins) == 1 else f"pins {', '.join(pins)}"
    name = f"<gpiozero.{type(device).__name__} object on {on}"
    return f"{name}>" if len(name) < LONGEST else f"{name[: LONGEST - 2]}…>"
