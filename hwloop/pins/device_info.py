"""The pins of a device, whether it is closed, and its name for reports.

gpiozero's own `repr` of a device asks for its value, which reads lines and calls functions of the program; a report
that one of these failed must not call it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpiozero import CompositeDevice, Pin

from hwloop.core.naming import LONGEST, short_name


def pins_of(device: Any) -> Iterator[Any]:
    """Yield the pins of a device, or of the devices that it consists of."""
    pin = getattr(device, "pin", None)
    if isinstance(pin, Pin):
        yield pin
        return
    for part in device if isinstance(device, CompositeDevice) else getattr(device, "_leds", ()):
        yield from pins_of(part)


def is_closed(device: Any) -> bool:
    """Return whether a device is closed, or being closed by another thread.

    gpiozero's `close()` takes a device apart step by step, and `closed` is true only after the last step. Whatever
    fails between the first step and the last is a consequence of closing.
    """
    try:
        return (
            device.closed
            or getattr(device, "_queue", device) is None  # of samples: a smoothed input gives it up first
            or any(pin.closed for pin in pins_of(device))
        )
    except Exception:  # a part has just been taken away
        return True


def device_name(device: Any) -> str:
    """Return a name like gpiozero's, without the state: "<gpiozero.Button object on pin GPIO17>". Never raises."""
    try:
        pins = [pin.info.name for pin in pins_of(device)]
    except Exception:  # the device is closed
        pins = []
    if not pins:
        return short_name(device)
    on = f"pin {pins[0]}" if len(pins) == 1 else f"pins {', '.join(pins)}"
    name = f"<gpiozero.{type(device).__name__} object on {on}"
    return f"{name}>" if len(name) < LONGEST else f"{name[: LONGEST - 2]}…>"
