"""gpiozero on the loop: pin factories whose devices need no threads.

    from gpiozero import Button, Device
    from hwloop.pins import LoopFactory, wait_for

    Device.pin_factory = LoopFactory()  # or GPIOZERO_PIN_FACTORY=hwloop in the environment

    async def main():
        button = Button(17)
        button.when_pressed = print
        await wait_for(button, "press")

`LoopFactory` uses the lines of the board in use, `SimFactory` those of a simulated board that a test drives. While a
hwloop loop runs, `when_*` handlers run on it and may be coroutine functions, and hold, blink, pulse, `source` and
smoothing are its timers. Otherwise one thread delivers, so plain scripts run unchanged. See docs/gpiozero.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from hwloop.errors import HardwareError

try:
    import gpiozero
except ModuleNotFoundError as _missing:
    raise HardwareError(
        "hwloop.pins", f"the package {_missing.name} is not installed", "pip install gpiozero"
    ) from _missing

from hwloop.pins.gpiozero_patch import signal_of
from hwloop.pins.real import LoopFactory, LoopPin

if TYPE_CHECKING:
    import gpiozero

    from hwloop.pins.sim import SimFactory, SimPin

__all__ = ["LoopFactory", "LoopPin", "SimFactory", "SimPin", "wait_for"]


def __getattr__(name: str) -> Any:
    """Import the names that need the simulated board when they are first used."""
    if name in ("SimFactory", "SimPin"):
        return getattr(importlib.import_module("hwloop.pins.sim"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def wait_for(device: gpiozero.Device, what: str, timeout: float | None = None) -> bool:
    """Wait for an event of a device without blocking: `await wait_for(button, "press")` for `button.wait_for_press()`.

    Return True once the device is in that state, immediately if it is already, and False after `timeout` seconds, as
    gpiozero does. Works on any asyncio loop. Raises `ValueError` if the device has no `wait_for_<what>`.
    """
    signal = signal_of(device, what)
    loop = asyncio.get_running_loop()
    reached: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not reached.done():
            reached.set_result(None)

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed since
            loop.call_soon_threadsafe(wake)

    polled: Any = device
    polled._start_stop_events(True)  # for devices that gpiozero polls only while something waits
    signal.listeners.append(notify)
    try:
        if signal.is_set():
            return True
        async with asyncio.timeout(timeout):
            await reached
    except TimeoutError:
        return False
    finally:
        signal.listeners.remove(notify)
        polled._start_stop_events(bool(polled.when_activated or polled.when_deactivated))
    return True
