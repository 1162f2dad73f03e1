"""The outputs that are open in this process, for every way out that has to make them safe.

An output is listed from its claim until its line is at the safe level and released. The closing of a run or a board, an
emergency stop, and the end of the process find here the outputs that are left. The last of these, at exit, begins again
whenever a signal's exception interrupts it.
"""

from __future__ import annotations

import atexit
import logging
from typing import Protocol

from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.naming import error_text
from hwloop.sources.gpio.pulses import as_failure

logger: logging.Logger = logging.getLogger("hwloop")

EXIT_ATTEMPTS = 100
"""How often closing at exit begins again: once for each signal that interrupts it."""


class OpenOutput(Protocol):
    """An output, as far as the ways out need it."""

    name: str

    @property
    def opened_elsewhere(self) -> bool:
        """Whether its loop still runs, in another thread."""

    def make_safe(self) -> None:
        """Set the safe level, if there is one."""

    def close(self) -> None:
        """Set the safe level, if there is one, and release the line."""


listed: list[OpenOutput] = []
"""In the order in which they were opened."""


def make_safe() -> None:
    """Set every open output that has a safe level to it, for an emergency stop or the end of a program.

    One that fails does not keep the others from their safe levels. Raises an ExceptionGroup of the failures.
    """
    failures: list[Exception] = []
    with DeferredSignals():
        for each in tuple(listed):
            try:
                each.make_safe()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                failures.append(as_failure(each.name, error))
    if failures:
        raise ExceptionGroup("outputs that could not be set to their safe level", failures)


def close_at_exit() -> None:
    """Close every open output at the end of the process. One that fails is logged."""
    for _ in range(EXIT_ATTEMPTS):
        try:
            for each in tuple(listed):
                try:
                    each.close()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    logger.error("%s could not be set to its safe level: %s", each.name, error_text(error))
            return
        except (SystemExit, KeyboardInterrupt):
            continue


atexit.register(close_at_exit)
