"""Making a gpiozero device, during which no edge is delivered to it.

A device's constructor has its pin report changes, reads the line, and stores what it has read; the thread for holds
comes last. Where another thread delivers an edge in between, the older level overwrites the newer one, and a release
that follows is no change. So edges wait in the kernel until the outermost constructor has returned.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class _Making(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.later: list[Callable[[], object]] = []


_making = _Making()


@contextlib.contextmanager
def making() -> Iterator[None]:
    """Make a device in this block, by the calling thread. Blocks may be nested."""
    _making.depth += 1
    try:
        yield
    finally:
        _making.depth -= 1
        if not _making.depth:
            later, _making.later = _making.later, []
            for action in later:
                action()


def once_made(action: Callable[[], object]) -> None:
    """Call `action` once the device that the calling thread makes is complete; now if it makes none."""
    if _making.depth:
        _making.later.append(action)
    else:
        action()
