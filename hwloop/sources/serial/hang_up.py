"""Noticing that a port is unplugged while nobody reads it: its queue is full, or its rate limit holds it back.

A reader learns of a hang-up because the port becomes readable. A port that is not read must stay out of the loop's
epoll set, or its bytes would wake the loop again and again. But an epoll set of its own that asks for no events still
gets EPOLLHUP (epoll_ctl(2)), and such a set is itself a descriptor that the loop can watch.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from hwloop.sources.serial.device import SerialDevice


class HangUpWatch:
    """Calls `hung_up()` once when a port hangs up while it is on.

    Parameters:
        loop: watches the port.
        device: the open port. It stays open until `close()`.
        hung_up: is called on the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, device: SerialDevice, hung_up: Callable[[], object]) -> None:
        self._loop = loop
        self._device = device
        self._hung_up = hung_up
        self._epoll: select.epoll | None = None
        self._on = False

    def turn_on(self) -> None:
        """Begin to watch. Harmless when repeated."""
        if self._on or self._loop.is_closed():
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._epoll.register(self._device.fileno(), 0)
            if self._device.board is not None:  # in virtual time only the simulated board unplugs its ports
                self._device.board.clock.claim(self._epoll.fileno(), announced=True)
        self._on = True
        self._loop.add_reader(self._epoll.fileno(), self._notice)

    def turn_off(self) -> None:
        """Stop watching. Harmless when repeated."""
        if self._on and self._epoll is not None:
            self._on = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._epoll.fileno())

    def close(self) -> None:
        """Stop for good, before the port is closed. Harmless when repeated."""
        self.turn_off()
        if self._epoll is not None:
            if self._device.board is not None:
                self._device.board.clock.disclaim(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _notice(self) -> None:
        self.turn_off()
        self._hung_up()
