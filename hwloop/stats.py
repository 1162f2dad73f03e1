"""Counters and latency histograms, cheap enough to stay on in production.

A histogram has logarithmic buckets, eight to an octave, so a quantile is right to a sixteenth of itself, and there are
only so many of them however long it runs. The bucket of a value is its own bits: the exponent and the first three
of the mantissa of a double (IEEE 754), so that counting many values at once is cheap.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwloop.realtime import Granted

_BELOW_BUCKET = 52 - 3  # bits of the mantissa that a bucket does not tell apart


class Histogram:
    """Durations, in whatever unit they are recorded in."""

    __slots__ = ("_counts", "count", "max", "min", "total")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.total: float = 0
        self.min: float = 0
        self.max: float = 0

    def record(self, value: float) -> None:
        """Count one duration. A negative one (clocks that disagree) counts as zero."""
        self.record_all((value,))

    def record_all(self, values: Sequence[float]) -> None:
        """Count many durations, for less than a tenth of the price of one at a time."""
        if not values:
            return
        least = min(values)
        if least < 0:
            values, least = [max(value, 0) for value in values], 0
        self.min = min(self.min, least) if self.count else least
        self.max = max(self.max, max(values))
        self.count += len(values)
        self.total += sum(values)
        self._counts.update([bits >> _BELOW_BUCKET for bits in memoryview(array("d", values)).cast("B").cast("Q")])

    def quantile(self, fraction: float) -> float:
        """The duration below which `fraction` (0 to 1) of the recorded ones lie; 0 if empty."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be between 0 and 1, not {fraction!r}")
        if fraction == 1:
            return self.max
        wanted = fraction * self.count
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(max(_middle(bucket), self.min), self.max)
        return self.max

    @property
    def mean(self) -> float:
        """The mean duration; 0 if empty."""
        return self.total / self.count if self.count else 0.0

    def summary(self) -> Durations:
        """The histogram as plain data, if it is one of seconds."""
        p50, p90, p99 = map(self.quantile, (0.5, 0.9, 0.99))
        return Durations(self.count, self.mean, self.min, p50, p90, p99, self.max)


def _middle(bucket: int) -> float:
    """The middle of a bucket; the first is that of zero alone, for all that a clock can tell."""
    if not bucket:
        return 0.0
    (middle,) = struct.unpack("d", struct.pack("Q", (bucket << _BELOW_BUCKET) + (1 << _BELOW_BUCKET - 1)))
    return float(middle)


@dataclass(frozen=True)
class Durations:
    """How many durations were recorded, and how they are spread: in seconds, quantiles right to a sixteenth."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class SourceStatistics:
    """What a source has seen since it was made."""

    name: str
    wakeups: int
    """Times the loop found the descriptor readable."""
    received: int
    """Events decoded from the device."""
    delivered: int
    """Events that reached a callback or left the queue."""
    dropped: int
    """Events that the queue's policy dropped because it was full."""
    lost: int
    """Events known to have been lost before they could be read (device, kernel, framing)."""
    errors: int
    """Failures of the device and exceptions raised by callbacks."""
    reopened: int
    """Times the source came back after a failure."""
    queued: int
    """Events waiting in the queue now."""
    limited: int
    """Times that its rate limit took the source off the loop."""
    limited_seconds: float
    """How long it was off for that, in all."""


@dataclass(frozen=True)
class WatchStatistics(SourceStatistics):
    """What a watch of GPIO lines has seen. `lost` is the sum of `lost_kernel`, `lost_fifo` and `merged`."""

    lost_kernel: int
    """Events that the kernel numbered and dropped, its buffer being full. Only gpiod tells."""
    lost_fifo: int
    """Edges missing from a time when lgpio's FIFO was at its limit: at least so many."""
    merged: int
    """Events of the level that was known: an edge between left none, or this level was read late. An estimate."""
    reconciled: int
    """Edges that no event told of, found by reading the line when it was quiet, and delivered then."""
    overflows: int
    """Times that lgpio's FIFO was found at its limit."""


@dataclass(frozen=True)
class Occurrences:
    """How often something happened, and how long it took, or how late it was."""

    count: int
    total: float
    """Seconds, all of them together."""
    worst: float
    """Seconds, the longest one."""


@dataclass(frozen=True)
class CollectorStatistics:
    """The garbage collections that the loop has made room for, where `schedule_gc("idle")` asks for it."""

    collections: tuple[int, int, int]
    """Of each generation."""
    forced: int
    """Those among them for which there was no room, but which could not wait any longer."""
    longest: float
    """Seconds, the longest one."""


@dataclass(frozen=True)
class LoopStatistics:
    """A loop as it is now, and what it has counted since it was made."""

    ready: int
    """Callbacks that wait for their turn."""
    timers: int
    """Timers that are set."""
    descriptors: int
    """Descriptors that are watched."""
    sources: tuple[SourceStatistics, ...]
    """Of each registered source that keeps them."""
    deadline_misses: Mapping[str, Occurrences]
    """By name of the task, source or callback: how long after its deadline it ran."""
    overruns: Mapping[str, Occurrences]
    """By name of the task or callback: how long it ran, where `watch_slices` asks for it."""
    tasks: Mapping[str, Occurrences]
    """By name of the task: its steps and how long they ran, where `measure_tasks` asks for it."""
    lateness: Durations
    """Of each timer that ran: how long after its time."""
    latency: Durations
    """Of each descriptor that was served: how long after the look that found it ready."""
    gc: CollectorStatistics | None
    """Garbage collections in gaps, where `schedule_gc("idle")` asks for it."""
    realtime: Granted | None
    """What the system granted, where `set_realtime` asks for it."""


@dataclass(frozen=True)
class DeadlineMiss:
    """What a deadline handler is told."""

    name: str
    lateness: float
    """Seconds from the deadline until the callback ran."""
    count: int
    """Misses under this name so far."""
    task: asyncio.Task[object] | None
    """The task, if it was one's step."""
    source: object
    """The source that had become readable, or None."""


@dataclass(frozen=True)
class Overrun:
    """What an overrun handler is told."""

    name: str
    took: float
    """Seconds for which it let nobody else run, right to within a slice."""
    count: int
    """Overruns under this name so far."""
    where: str
    """File, line and function: while it ran if that was sampled, else where it went to wait; empty if not known."""
    task: asyncio.Task[object] | None
    """The task, if it was one's step."""
