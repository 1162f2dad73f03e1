"""The waits that are not the usual one: through a selector, and beside other threads.

The usual one, an epoll set with an alarm in it, stands in the core. A selector that the user gave, or a clock that no
kernel alarm follows, needs the selector's own wait, which is as precise as the selector. And where other threads are
at work, a look that does not wait must not take their turn from them (see `hwloop.peek`).
"""

from __future__ import annotations

import collections
import math
import select
import selectors
from collections.abc import Callable
from typing import Any

from hwloop.core import EVENTS_PER_LOOK, LONGEST_WAIT
from hwloop.descriptors import IN, OUT, Descriptors


class Waits:
    """A mixin of `hwloop.EventLoop`: its cold half where waiting is concerned."""

    _selector: selectors.BaseSelector
    _descriptors: Descriptors
    _inbox: collections.deque[Any]
    _sleeping: bool
    _now: Callable[[], float]
    _peek: Callable[[], list[tuple[int, int]]] | None

    def _peek_beside_threads(self, epoll: select.epoll) -> list[tuple[int, int]]:
        """Look at once, without the turn for other threads that would not be one: see hwloop.peek."""
        if self._peek is None:
            try:
                from hwloop.peek import Peek
            except (ImportError, AttributeError):
                return epoll.poll(0, EVENTS_PER_LOOK)
            self._peek = Peek(epoll.fileno(), EVENTS_PER_LOOK)
        return self._peek()

    def _wait_in_selector(self, when: float | None) -> list[tuple[int, int]]:
        """Wait through a selector that the user gave, or on a clock that the kernel's alarm does not know."""
        timeout = when if when is None else max(0.0, min(when - self._now(), LONGEST_WAIT))
        epoll = self._descriptors.epoll
        self._sleeping = True
        try:
            if self._inbox:
                timeout = 0.0
            # As the selector does, but with the numbers it does not know. looptime puts another select() there.
            if epoll is not None and "select" not in vars(self._selector):
                return epoll.poll(timeout and math.ceil(timeout * 1e3) / 1e3, EVENTS_PER_LOOK)
            found = self._selector.select(timeout)
        finally:
            self._sleeping = False
        return [
            (key.fd, (IN if mask & selectors.EVENT_READ else 0) | (OUT if mask & selectors.EVENT_WRITE else 0))
            for key, mask in found
        ]
