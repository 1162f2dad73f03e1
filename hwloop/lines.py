"""What a board gives for its lines: edges with their stamps and losses, and outputs.

Part of the seam between sources and hardware; `hwloop.board` has the rest, and these names too.
"""

from __future__ import annotations

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
"""A line as the user names it: the BCM number (17), the kernel's name ("GPIO17"), or where on the header ("J8:11")."""


class Edge(NamedTuple):
    """One change of one line."""

    line: LineName
    """The line, as it was named when it was asked for."""
    value: int
    """Logical level after the edge: 1 is active (for an active-low line that is electrically low)."""
    timestamp_ns: int
    """When the kernel saw it: nanoseconds, CLOCK_MONOTONIC, the clock of `loop.time()`."""
    received_ns: int
    """When the loop read it; same clock."""
    lost: int
    """Edges of this line known to be lost between the previous delivered edge and this one."""


@dataclass
class Losses:
    """What a stream takes for missing. Each edge is in one of the first three."""

    kernel: int = 0
    """Events that the kernel numbered and dropped because its buffer was full. gpiod only."""
    fifo: int = 0
    """Edges missing at a time when lgpio's FIFO was at its limit: at least so many."""
    merged: int = 0
    """Events of the level that was known: an edge between left no event, or the kernel read this one's level late. With
    lgpio it may also have been lost, there is no telling. An estimate, which may be too low or too high."""
    reconciled: int = 0
    """Edges that no event told of and that reading the quiet line found."""
    overflows: int = 0
    """Times a backlog was found at the limit of lgpio's FIFO."""


class EdgeStream(ABC):
    """Edges of one or more lines: a file descriptor and its decoder.

    Attributes:
        losses: what is known to be missing so far.
    """

    losses: Losses
    disorder_ns: int = 0
    """For how long after its time stamp an edge may come behind a later one of another stream."""
    doubtful: bool = False
    """Whether the last `recheck` found a line in another state than the reports say: it is to be called again soon."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that is readable when edges wait."""

    @abstractmethod
    def read(self) -> list[Edge]:
        """Edges that wait now, oldest first; empty if there are none. A long backlog takes several reads. Never blocks.

        Raises `HardwareError` when the device is gone.
        """

    def recheck(self) -> list[Edge]:
        """Edges whose report was lost, found by reading the lines; for when they have been quiet.

        A report may be on its way, so an edge is told only when two calls, with no report between them, find a line
        at another level than the last one known. Empty where the stream can't lose reports, or can't tell.
        """
        return []

    @abstractmethod
    def level(self, line: LineName) -> int:
        """The line's logical level now: 0 or 1. With debounce the settled one. Raises `HardwareError`."""

    def alarm_fileno(self) -> int:
        """A descriptor that is readable when the device may be gone and `fileno()` need not show it; -1 for none."""
        return -1

    def check(self) -> None:
        """The alarm rang: raise `HardwareError` if the device is gone."""

    @abstractmethod
    def close(self) -> None:
        """Give the lines back. Harmless when repeated."""


class OutputLine(ABC):
    """One line driven by us."""

    @property
    def forked(self) -> bool:
        """Whether this is a forked child of the process that opened the line: then it is not this one's to drive."""
        return False

    @abstractmethod
    def set(self, value: int) -> None:
        """Drive the line to a logical level, 0 or 1."""

    @abstractmethod
    def get(self) -> int:
        """The line's logical level now."""

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        """Report the edges of the line while it is let go of: at 1 for open drain, at 0 for open source.

        `kept` is called when edges are to be read though the stream's descriptor need not be readable. Closing the
        stream ends the reports; the line stays driven. Raises `HardwareError` where the line drives both levels.
        """
        raise HardwareError(
            "edges",
            "an output that drives both levels never lets go of its line, and so has no edges but its own",
            "use drive='open-drain' or 'open-source'",
        )

    def pwm(self, frequency: float, duty: float) -> None:
        """Be at 1 for the part `duty` (0 to 1) of each cycle, `frequency` (Hz) times a second, until `set()`.

        Raises `HardwareError` where nothing but the loop could do it.
        """
        raise HardwareError(
            "PWM",
            "there is none on this line, which gpiod drives",
            "HWLOOP_GPIO=lgpio has it; or use blink(on, off), which the loop does itself",
        )

    @abstractmethod
    def close(self) -> None:
        """Give the line back; the level it keeps is the last one set where the chip allows. Repeatable."""
