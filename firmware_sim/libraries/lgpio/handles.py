"""lgpio's table of handles: chips, notifications, I2C and SPI devices and serial ports share its numbers."""

from __future__ import annotations

import threading
from typing import Protocol, TypeVar

from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused

T = TypeVar("T")

MOST = 1024
"""Handles that can be open at the same time."""


class Handles(dict[int, object]):
    """Everything that is open, by handle."""

    def __init__(self) -> None:
        # Handle 0 belongs to lgpio's callback thread; here it is made when the first callback wants it.
        super().__init__({0: None})
        self._lock = threading.Lock()

    def add(self, opened: object) -> int:
        """Return a new handle for `opened`: the lowest free one."""
        with self._lock:
            handle = next((number for number in range(MOST) if number not in self), None)
            if handle is None:
                raise Refused(lg.NO_HANDLE)
            self[handle] = opened
            return handle

    def find(self, handle: int, kind: type[T]) -> T:
        """Return what is open at `handle`, of this kind."""
        found = self.get(handle)
        if not isinstance(found, kind):
            raise Refused(lg.BAD_HANDLE)
        return found

    def take(self, handle: int, kind: type[T]) -> T:
        """Return what is open at `handle`, and free the handle."""
        with self._lock:
            found = self.find(handle, kind)
            del self[handle]
            return found


class Process(Protocol):
    """An lgpio: its handles, and whether its functions raise errors or return them."""

    exceptions: bool
    handles: Handles
