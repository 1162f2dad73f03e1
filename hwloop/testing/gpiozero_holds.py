"""gpiozero's threads for held buttons, which on a virtual clock wait without polling.

Each Button and each other device that may be held has a thread that looks ten times a second whether it shall end. In
virtual time that would be nearly all that a program with a few buttons does: a day of one button has 864,000 looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


def wait_without_polling(mixins: Any) -> Callable[[], None]:
    """Let these threads wait until something happens. Return a function that undoes it."""
    cls = _hold_thread_class(mixins)
    before = cls.held
    cls.held = _without_polling(mixins)

    def undo() -> None:
        cls.held = before

    return undo


def _hold_thread_class(mixins: Any) -> Any:
    """Return gpiozero's class of these threads; hwloop's pin factories replace its name, not the class."""
    for cls in mixins.GPIOQueue.__mro__[1].__subclasses__():  # of GPIOThread
        if cls.__name__ == "HoldThread" and cls.__module__ == mixins.__name__:
            return cls
    raise LookupError(f"{mixins.__name__} has no HoldThread")


def _without_polling(mixins: Any) -> Callable[..., None]:
    """Return the method `held` of such a thread that does as gpiozero's, and waits until something happens."""

    def held(self: Any, parent: Any) -> None:
        stopping, holding = mixins.Event(), self.holding
        stop = stopping.set

        def stop_and_wake() -> None:
            stop()
            holding.set()

        if self.stopping.is_set():
            return
        stopping.set = stop_and_wake
        self.stopping = stopping
        with contextlib.suppress(ReferenceError):  # the device is gone
            while holding.wait() and not stopping.is_set():
                holding.clear()
                while not (stopping.is_set() or parent._inactive_event.wait(parent.hold_time)):
                    if parent._held_from is None:
                        parent._held_from = parent.pin_factory.ticks()
                    parent._fire_held()
                    if not parent.hold_repeat:
                        break

    return held
