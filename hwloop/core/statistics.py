"""Statistics as plain data: what `loop.statistics()`, a source's `statistics()` and the handlers of reports return."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwloop.core.realtime import Granted


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
    """A missed deadline, as a deadline handler gets it."""

    name: str
    lateness: float
    """Seconds from the deadline until the callback ran."""
    count: int
    """Misses under this name so far."""
    task: asyncio.Task[object] | None
    """The task, if it was one's step."""
    source: object
    """The source that had become readable, or None."""
    shown: str = ""
    """The name with the place of its code in the program, for messages: "on_edge (door.py:12)"."""


@dataclass(frozen=True)
class Overrun:
    """A callback that blocked the loop, as an overrun handler gets it."""

    name: str
    took: float
    """Seconds for which it blocked the loop, right to within a slice."""
    count: int
    """Overruns under this name so far."""
    where: str
    """File, line and function: while it ran if that was sampled, else where it went to wait; empty if not known."""
    task: asyncio.Task[object] | None
    """The task, if it was one's step."""
    shown: str = ""
    """The name with the place of its code in the program, for messages: "on_edge (door.py:12)"."""
