"""/dev/i2c-N for smbus2: its `os.open`, `os.close` and `ioctl`, led to a simulated bus.

smbus2 reaches the kernel through three names of its module. While a simulated bus is open they lead here: calls on
simulated descriptors get the answers of `firmware_sim.i2c_dev`, and all others are passed on. Closing the last one
restores the module. So `SMBus` is smbus2's own, ctypes included, and every driver on top of it runs unchanged.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from firmware_sim.descriptors import descriptors
from firmware_sim.i2c_dev import I2cNode, Wire

if TYPE_CHECKING:
    import smbus2


def open_on(wire: Wire, number: int) -> smbus2.SMBus:
    """Return smbus2's own `SMBus(number)`, led to `wire`. Raises ImportError where there is no smbus2."""
    import smbus2

    with redirection.opening(wire, number):
        return smbus2.SMBus(number)


class _Redirection:
    """Stands in for `os` and `ioctl` in smbus2's module while a simulated bus is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._users = 0
        self._replaced: dict[str, Any] = {}
        self._real_ioctl: Callable[..., Any] | None = None
        self._opening = threading.local()

    @contextlib.contextmanager
    def opening(self, wire: Wire, number: int) -> Iterator[None]:
        """Lead this thread's opening of bus `number` through smbus2 in this block to `wire`."""
        self._enter()
        self._opening.node = I2cNode(wire, number)
        try:
            yield
        finally:
            self._opening.node = None
            self._leave()

    def _enter(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users += 1
            if self._users == 1:
                names = vars(module)
                self._replaced = {"os": names["os"], "ioctl": names["ioctl"]}
                self._real_ioctl = names["ioctl"]
                names.update(os=self, ioctl=self.ioctl)

    def _leave(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users -= 1
            if self._users == 0:
                vars(module).update(self._replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int) -> int:
        node = getattr(self._opening, "node", None)
        if node is None:
            return os.open(path, flags)
        fd = descriptors.open(node, flags)
        self._enter()
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        if fd not in self._open:
            os.close(fd)
            return
        self._open.discard(fd)
        try:
            if not descriptors.close(fd):  # closed behind smbus2's back
                os.close(fd)
        finally:
            self._leave()

    def ioctl(self, fd: int, request: int, *arguments: Any) -> Any:
        handle = descriptors.handle(fd) if fd in self._open else None
        if handle is None:
            assert self._real_ioctl is not None
            return self._real_ioctl(fd, request, *arguments)
        return handle.ioctl(request, arguments[0])


redirection: _Redirection = _Redirection()
