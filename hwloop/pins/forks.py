"""Pins and forks: a forked child leaves the lines to its parent, which goes on driving and reading them."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from hwloop.errors import HardwareError


class Left(Protocol):
    """Lines, or their user, that a forked child leaves to its parent."""

    def leave_to_parent(self) -> None:
        """Forget all lines. Called in the child."""


LEFT: weakref.WeakSet[Left] = weakref.WeakSet()
"""Those whose `leave_to_parent()` each child calls that is forked from now on."""


def inherited(what: str) -> HardwareError:
    """Return the error for an object that a forked child found and its parent owns."""
    return HardwareError(
        what,
        "was opened before this process was forked and belongs to its parent",
        "make the pin factory and its devices in the process that uses them",
    )


def _leave_all() -> None:
    for left in list(LEFT):
        left.leave_to_parent()
    LEFT.clear()


os.register_at_fork(after_in_child=_leave_all)
