"""A GPIO chip opened through libgpiod's Python bindings, and the lines that the kernel has granted on it.

A request for lines is a descriptor of its own, which lives as long as some process has it open. The fact that shaped
this: a forked child has it open too, and would keep the lines from everybody after its parent has ended. So a child
closes the requests that it inherits, and leaves the lines to its parent.

The bindings are those of libgpiod 2 (PyPI's gpiod, python3-libgpiod of Debian 13 and later). Debian 12 has the older
ones under the same name, which can't do what is needed here.
"""

from __future__ import annotations

import errno
import importlib
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from hwloop.boards.chip import GpioChip, LineInfo
from hwloop.boards.chip_discovery import node_error
from hwloop.boards.removal_watch import Removal
from hwloop.errors import HardwareError
from hwloop.lines import LineName

if TYPE_CHECKING:
    import gpiod

MAX_LINES = 64
"""Lines of one request: GPIO_V2_LINES_MAX of <linux/gpio.h>."""
EVENT_BUFFER = 1024
"""Events that the kernel keeps for a request: the most it allows (16 for each of `MAX_LINES`)."""

_HOW_TO_GET = "pip install 'gpiod>=2.2', or on Debian 13 and later apt install python3-libgpiod"

_requests: weakref.WeakSet[gpiod.LineRequest] = weakref.WeakSet()
"""The requests that this process has open."""


def _leave_to_parent() -> None:
    for request in _requests:
        request.release()
    _requests.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def load_gpiod() -> ModuleType:
    """Import gpiod. Raises `HardwareError` where it is not installed, or too old."""
    try:
        module = importlib.import_module("gpiod")
    except ModuleNotFoundError as error:
        raise HardwareError("import gpiod", "the package is not installed", _HOW_TO_GET) from error
    except ImportError as error:
        raise HardwareError("import gpiod", str(error), _HOW_TO_GET) from error
    if not hasattr(module, "LineSettings"):
        raise HardwareError("import gpiod", f"{module.__file__} is of libgpiod 1; 2 is needed", _HOW_TO_GET)
    return module


class GpiodChip(GpioChip):
    """One GPIO chip, opened through gpiod.

    Parameters:
        gpiod: the module (`load_gpiod()`), or `firmware_sim`'s copy.
        path: the chip's device node.
        time_ns: the clock of its events, in nanoseconds.
        revision: see `GpioChip`.
        watch_removal: notices of the chip's removal; by default that of `path`.

    Raises `HardwareError` where the chip can't be opened.
    """

    def __init__(
        self,
        gpiod: ModuleType,
        path: str,
        *,
        time_ns: Callable[[], int] = time.monotonic_ns,
        revision: int | None = None,
        watch_removal: Callable[[], Removal] | None = None,
    ) -> None:
        self.gpiod = gpiod
        self.time_ns = time_ns
        self._watch_removal = watch_removal
        try:
            self._chip = gpiod.Chip(path)
        except OSError as error:
            raise node_error(path, error) from error
        info = self._chip.get_info()
        super().__init__(path, node=path, label=info.label, lines=info.num_lines, revision=revision)

    def close(self) -> None:
        self._chip.close()

    def gone(self) -> bool:
        try:
            self._chip.get_line_info(0)
        except OSError:
            return True
        return False

    def watch_removal(self) -> Removal:
        return super().watch_removal() if self._watch_removal is None else self._watch_removal()

    def line_info(self, number: int) -> LineInfo:
        info = self._chip.get_line_info(number)
        return LineInfo(info.name or "", info.used, info.consumer or "")

    def request(self, numbers: Mapping[int, LineName], consumer: str, **settings: object) -> gpiod.LineRequest:
        """Request lines from the kernel, with settings by gpiod's names. Raises `HardwareError`."""
        try:
            granted: gpiod.LineRequest = self._chip.request_lines(
                {tuple(numbers): self.gpiod.LineSettings(**settings)}, consumer, EVENT_BUFFER
            )
        except OSError as error:
            raise self.refusal(numbers, text_of(error), error.errno) from error
        _requests.add(granted)
        self.users.update(dict.fromkeys(numbers, consumer))
        return granted

    def release(self, granted: gpiod.LineRequest, numbers: Iterable[int]) -> None:
        """Give a request's lines back."""
        for number in numbers:
            del self.users[number]
        if not self.forked:  # a child has released it when it began
            granted.release()
            _requests.discard(granted)

    def failure(self, tried: str, what: str, error: OSError) -> HardwareError:
        """Return the error to raise where a call on a request's descriptor failed."""
        if error.errno == errno.ENODEV:
            return self.vanished(tried)
        return HardwareError(tried, f"{what}: {text_of(error)}", errno=error.errno)


def text_of(error: OSError) -> str:
    """Return the system's text, in lower case."""
    return (error.strerror or str(error)).lower()
