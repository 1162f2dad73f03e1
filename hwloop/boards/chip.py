"""A GPIO chip, whichever library it is opened through: the names of its lines, their users, and the errors.

A line has three names: its number on the chip (for the chip of a Raspberry Pi's header the BCM number), the name that
the kernel's device tree gives it, and its position on the header. The one fact that shaped this: the kernel refuses a
line with a short reason or none. So this class records which lines the program uses, and builds the same error messages
for all libraries.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hwloop.boards.header import at_position, is_position
from hwloop.boards.removal_watch import Removal, RemovalWatch
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream, LineName, OutputLine
from hwloop.requests import EdgeRequest, OutputRequest

HEADER_CHIPS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
"""Labels of the chips with the lines of the header: Raspberry Pi 5, 4, and all earlier ones."""

_BCM_NAME = re.compile(r"GPIO(\d+)")


class LineInfo(NamedTuple):
    """A line as the kernel describes it."""

    name: str
    """Empty where the device tree gives it none."""
    used: bool
    consumer: str
    """The name that its user gave."""


class GpioChip(ABC):
    """One GPIO chip.

    Parameters:
        path: its device node.
        label: the name of its driver.
        lines: how many lines it has.
        node: the device node whose removal is noticed; empty for a simulated chip, which has none.
        revision: the board's revision code, as `hwloop.boards.header` takes it.
    """

    def __init__(self, path: str, *, node: str, label: str, lines: int, revision: int | None) -> None:
        self.path = path
        self.node = node
        self.label = label
        self.lines = lines
        self.users: dict[int, str] = {}
        """The users of the lines that were claimed through this object, by number."""
        self._revision = revision
        self._process = os.getpid()

    @abstractmethod
    def gone(self) -> bool:
        """Return whether this object's device has vanished, even if another one has its name now."""

    @abstractmethod
    def close(self) -> None:
        """Close the chip. Harmless when repeated."""

    @abstractmethod
    def line_info(self, number: int) -> LineInfo:
        """Return the kernel's description of a line."""

    def watch_removal(self) -> Removal:
        """Return a new notice of the removal of the device node."""
        return RemovalWatch(self.node)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that opened the chip."""
        return os.getpid() != self._process

    def check_process(self, tried: str) -> None:
        """Raise `HardwareError` in a child of the process that opened the chip: the lines belong to the parent."""
        if self.forked:
            raise HardwareError(
                tried,
                "was opened before this process was forked and belongs to its parent",
                "open it in the process that uses it",
            )

    def find(self, line: LineName) -> int:
        """Return the number of a line given by number, name or position. Raises `HardwareError`."""
        self.check_process(self.path)
        if isinstance(line, int):
            number = line
        elif is_position(line):
            number = at_position(line, self._revision)
        else:
            number = self._named(line)
        if not 0 <= number < self.lines:
            raise HardwareError(
                f"line {line!r}", f"no such line on {self.path}", f"its lines are 0 to {self.lines - 1}"
            )
        return number

    def find_all(self, request: EdgeRequest) -> dict[int, LineName]:
        """Return the lines of a watch by number, each of them free. Raises `HardwareError` or ValueError."""
        numbers = {self.find(line): line for line in request.lines}
        if len(numbers) < len(request.lines):
            raise ValueError(f"the same line twice in {request.lines}")
        self.check_free(numbers)
        return numbers

    def check_free(self, numbers: Mapping[int, LineName]) -> None:
        """Raise `HardwareError` where this program uses one of these lines already."""
        for number, line in numbers.items():
            if number in self.users:
                raise HardwareError(
                    f"line {line}",
                    f"in use by this program already, as {self.users[number]}",
                    "close that first",
                    errno=errno.EBUSY,
                )

    def refusal(self, numbers: Mapping[int, LineName], reason: str, code: int | None = None) -> HardwareError:
        """Return the error to raise where the kernel refused lines: one is in use, or can't do what was asked."""
        for number, line in numbers.items():
            info = self.line_info(number)
            if info.used and number not in self.users:
                by = f" (which calls itself {info.consumer!r})" if info.consumer else ""
                return HardwareError(
                    f"line {line}", f"in use by another process{by}", "stop it, or see 'gpioinfo'", errno=errno.EBUSY
                )
        return HardwareError(
            f"line {', '.join(map(str, numbers.values()))}",
            f"the kernel refused it ({reason})",
            "not every line has interrupts, pull resistors or every kind of drive",
            errno=code,
        )

    def vanished(self, tried: str) -> HardwareError:
        """Return the error to raise where the chip has vanished."""
        return HardwareError(
            tried,
            f"{self.path} ({self.label}) is gone: its driver was unbound, or it was unplugged",
            "once it is back, a source with reopen= is opened again by itself; open an output again",
            errno=errno.ENODEV,
        )

    def _named(self, name: str) -> int:
        for number in range(self.lines):
            if self.line_info(number).name == name:
                return number
        # Some kernels call GPIO 2 "SDA1": on the header's chip the BCM number is meant all the same.
        if self.label in HEADER_CHIPS and (match := _BCM_NAME.fullmatch(name)):
            return int(match[1])
        raise HardwareError(f"line {name!r}", f"no line of that name on {self.path}", "see 'gpioinfo'")


class OpenChip(NamedTuple):
    """A chip, and the two calls of its library's package that claim lines on it."""

    chip: GpioChip
    watch: Callable[[EdgeRequest], EdgeStream]
    drive: Callable[[OutputRequest], OutputLine]
