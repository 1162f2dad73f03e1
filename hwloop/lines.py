"""GPIO lines as boards offer them: edges with their time stamps and losses, and outputs.

Part of the interface of boards (`hwloop.board_interface`), which programs import from `hwloop.board`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hwloop.errors import HardwareError

EdgeKind = Literal["rising", "falling", "both"]
Pull = Literal["up", "down", "none"]
Drive = Literal["push-pull", "open-drain", "open-source"]
Level = Literal[0, 1]
LineName = int | str
"""A line as the user names it: its BCM number (17), the kernel's name ("GPIO17"), or its header position ("J8:11")."""

RECHECK_AFTER = 0.02
"""Seconds without a report after which lines are read, and between two readings that must agree."""
RECHECKS = 9
"""Readings after the last report. The pauses double, so the last one comes some 10 s (500 times the first) after it."""


def recheck_pause(
    done: int, *, doubtful: bool, shortest: float = RECHECK_AFTER, longest: float = float("inf")
) -> float:
    """Return the seconds until the next `EdgeStream.recheck`, after `done` of them without a report or a doubt.

    lgpio holds reports back for about 1 ms, so readings `shortest` apart, with no report between them, are independent.
    """
    return shortest if doubtful else min(shortest * 2.0**done, longest)


class Edge(NamedTuple):
    """One change of one line."""

    line: LineName
    """The line, as the request named it."""
    value: int
    """Logical level after the edge: 1 is active (for an active-low line that is electrically low)."""
    timestamp_ns: int
    """When the kernel saw it: nanoseconds, CLOCK_MONOTONIC, the clock of `loop.time()`."""
    received_ns: int
    """When the loop read it, on the same clock."""
    lost: int
    """Edges of this line known to be lost between the previous delivered edge and this one."""


new_edge: Callable[[tuple[LineName, int, int, int, int]], Edge] = functools.partial(tuple.__new__, Edge)
"""Make an edge of its fields, for decoders: it takes half the time of a call of the class."""


@dataclass
class Losses:
    """The edges that a stream knows or infers to be missing. Each is counted in one of the first three fields."""

    kernel: int = 0
    """Events that the kernel numbered and dropped because its buffer was full. gpiod only."""
    fifo: int = 0
    """Edges missing at a time when lgpio's FIFO was at its limit. At least this many were lost."""
    merged: int = 0
    """Events of the known level: an edge in between left no event, or the kernel read this event's level late. With
    lgpio the edge may also have been lost; nothing distinguishes the two. An estimate, which may be too low or too
    high."""
    reconciled: int = 0
    """Edges without an event, found by reading the quiet line."""
    overflows: int = 0
    """Times a backlog was found at the limit of lgpio's FIFO."""


class EdgeStream(ABC):
    """Edges of one or more lines: a file descriptor and its decoder.

    Attributes:
        losses: the edges missing so far.
    """

    losses: Losses
    disorder_ns: int = 0
    """For how long after its time stamp an edge may still follow a later one of another stream."""
    doubtful: bool = False
    """Whether the last `recheck` found a line at another level than the reports say, and should be repeated soon."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that is readable when edges wait."""

    @abstractmethod
    def read(self) -> list[Edge]:
        """Return the edges that wait now, oldest first. A long backlog takes several reads. Never blocks.

        Raises `HardwareError` when the device is gone.
        """

    def recheck(self) -> list[Edge]:
        """Return edges whose report was lost, found by reading the lines, which should have been quiet for a while.

        A report may be on its way, so an edge is returned only when two calls, with no report between them, find a line
        at another level than the last known one. Empty where the stream can't lose reports, or can't detect it.
        """
        return []

    @abstractmethod
    def level(self, line: LineName) -> int:
        """Return the line's logical level now; with debounce the settled one. Raises `HardwareError`."""

    def alarm_fileno(self) -> int:
        """Return a descriptor that is readable when the device may be gone and `fileno()` stays silent; -1 for none."""
        return -1

    def check(self) -> None:
        """Raise `HardwareError` if the device is gone. Called when the alarm's descriptor is readable."""

    @abstractmethod
    def close(self) -> None:
        """Give the lines back. Harmless when repeated."""


class OutputLine(ABC):
    """One line that the program drives."""

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened the line, which alone may drive it."""
        return False

    def fileno(self) -> int:
        """Return the descriptor of the line, by which another process can hold it; -1 if there is none."""
        return -1

    @abstractmethod
    def set(self, value: int) -> None:
        """Drive the line to a logical level, 0 or 1."""

    @abstractmethod
    def get(self) -> int:
        """Return the line's logical level now."""

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        """Report the edges of the line while it is released: at 1 for open drain, at 0 for open source.

        `kept` is called when edges wait although the stream's descriptor need not be readable. Closing the stream ends
        the reports; the line stays driven. Raises `HardwareError` where the line drives both levels.
        """
        raise HardwareError(
            "edges",
            "an output that drives both levels never releases its line, and so has no edges but its own",
            "use drive='open-drain' or 'open-source'",
        )

    def pwm(self, frequency: float, duty: float) -> None:
        """Drive the line to 1 for the part `duty` (0 to 1) of each cycle, at `frequency` (Hz), until `set()` is called.

        Raises `HardwareError` where only the loop could do it.
        """
        raise HardwareError(
            "PWM",
            "this line has none, because gpiod drives it",
            "use HWLOOP_GPIO=lgpio, or blink(on, off), which the loop does itself",
        )

    @abstractmethod
    def close(self) -> None:
        """Give the line back, at the last level where the chip allows. Harmless when repeated."""
