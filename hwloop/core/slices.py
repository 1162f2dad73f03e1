"""The end of a slice, for callbacks that may have much to do: the events of one read must not be one long callback.

On hwloop's loop a slice begins with a poll. On another loop it begins with the callback, and is as long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hwloop.core.dispatch import SLICE


def slice_end(loop: asyncio.AbstractEventLoop | None) -> Callable[[], bool]:
    """Return a function that returns whether the slice of the running callback is used up."""
    if (dispatcher := getattr(loop, "dispatcher", None)) is not None:
        used_up: Callable[[], bool] = dispatcher.slice_used_up
        return used_up
    until = time.monotonic() + SLICE
    return lambda: time.monotonic() >= until
