"""Statistics as plain data: results of `loop.statistics()` and a source's `statistics()`, and reports for handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwloop.core.realtime import Granted


@dataclass(frozen=True)
class Durations:
    """The number of recorded durations and their distribution, in seconds; quantiles are right to a sixteenth."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float
    total: float
    """Seconds, of all together."""
    cumulative: Mapping[float, int]
    """The number of durations up to each of some bounds, 1 µs to 10 s; a bound is right to a sixteenth."""


@dataclass(frozen=True)
class SourceStatistics:
    """Counts of a source since it was made."""

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
    """Seconds that it was off the loop for that reason, in total."""


@dataclass(frozen=True)
class WatchStatistics(SourceStatistics):
    """Counts of a watch of GPIO lines. `lost` is the sum of `lost_kernel`, `lost_fifo` and `merged`."""

    lost_kernel: int
    """Events that the kernel numbered and dropped because its buffer was full. Only gpiod reports them."""
    lost_fifo: int
    """Edges that are missing from a time when lgpio's FIFO was at its limit: the smallest possible number."""
    merged: int
    """Events of the level that the line had already: an edge is missing, or this level was read late. An estimate."""
    reconciled: int
    """Edges without an event, found by reading the line when it was quiet, and delivered then."""
    overflows: int
    """Times that lgpio's FIFO was found at its limit."""


@dataclass(frozen=True)
class SerialStatistics(SourceStatistics):
    """Counts of a serial port. Those of its UART are None where the driver does not count."""

    framing_errors: int | None
    """Characters without a stop bit: noise, or another baud rate."""
    overruns: int | None
    """Characters lost because the UART was not emptied in time."""
    parity_errors: int | None
    breaks: int | None
    """Breaks that the other end has sent; also an unplugged RS-232 line."""
    buffer_overruns: int | None
    """Characters lost because the kernel's buffer was full."""
    unsent: int
    """Bytes accepted by `write()` that were dropped when the port failed or was closed."""
    low_latency: bool
    """Whether the driver delivers bytes at once."""


@dataclass(frozen=True)
class BusStatistics(SourceStatistics):
    """Counts of an I2C bus, a device on an SPI bus, or a 1-Wire bus. Its events are jobs: transfers, mostly."""

    busy: float
    """Seconds that its jobs have been under way, in total."""
    longest_wait: float
    """Seconds that a job has waited for its turn, the longest one."""


@dataclass(frozen=True)
class AddressStatistics:
    """Counts of an address on an I2C bus. Only the transfers of `Device` are known by address, not those of drivers."""

    transfers: int
    errors: int
    """Transfers that failed, those without an answer included."""
    bytes: int
    """Bytes that were read and written, the numbers of registers included, but not the address."""
    busy: float
    """Seconds that its transfers took, in total."""
    longest: float
    """Seconds that one took, the longest one."""
    longest_wait: float
    """Seconds that one has waited for its turn, the longest one."""


@dataclass(frozen=True)
class I2cStatistics(BusStatistics):
    """Counts of an I2C bus."""

    addresses: Mapping[int, AddressStatistics]
    """Those of each device that `Bus.device` has returned."""
    recoveries: int
    """Times that the bus was freed by clock pulses."""


@dataclass(frozen=True)
class Occurrences:
    """The number of occurrences, and how long they took or how late they were."""

    count: int
    total: float
    """Seconds, in total."""
    worst: float
    """Seconds, the longest one."""


@dataclass(frozen=True)
class CollectorStatistics:
    """The garbage collections that the loop has run, if `schedule_gc("idle")` asks for that."""

    collections: tuple[int, int, int]
    """The number for each generation."""
    forced: int
    """Those for which there was no time, but which could not wait any longer."""
    longest: float
    """Seconds, the longest one."""


@dataclass(frozen=True)
class LoopStatistics:
    """The present state of a loop, and its counts since it was made."""

    ready: int
    """Callbacks that are ready to run."""
    timers: int
    """Timers that are set."""
    descriptors: int
    """Descriptors that are watched."""
    sources: tuple[SourceStatistics, ...]
    """Statistics of each registered source that keeps them."""
    deadline_misses: Mapping[str, Occurrences]
    """By name of the task, source or callback: how long after the deadline it ran."""
    overruns: Mapping[str, Occurrences]
    """By name of the task or callback: how long it ran, if `watch_slices` asks for that."""
    tasks: Mapping[str, Occurrences]
    """By name of the task: its steps and how long they ran, if `measure_tasks` asks for that."""
    lateness: Durations
    """How long after its time each timer ran."""
    latency: Durations
    """How long after the poll that found it ready each descriptor was served."""
    gc: CollectorStatistics | None
    """Garbage collections, if `schedule_gc("idle")` asks the loop for them."""
    realtime: Granted | None
    """The system's answer to `set_realtime`; None without such a call."""
    core: str = "pure"
    """How the loop runs: "compiled", or from its Python sources ("pure"). See docs/architecture.md."""


@dataclass(frozen=True)
class DeadlineMiss:
    """A missed deadline, for a deadline handler."""

    name: str
    lateness: float
    """Seconds from the deadline until the callback ran."""
    count: int
    """Misses under this name so far."""
    task: asyncio.Task[object] | None
    """The task, if the callback was a step of one."""
    source: object
    """The source that had become readable, or None."""
    shown: str = ""
    """The name with the place of its code in the program, for messages: "on_edge (door.py:12)"."""


@dataclass(frozen=True)
class Overrun:
    """A callback that blocked the loop, for an overrun handler."""

    name: str
    took: float
    """Seconds for which it blocked the loop, right to within a slice."""
    count: int
    """Overruns under this name so far."""
    where: str
    """File, line and function: where it ran if that was sampled, else where its task waits now; empty if unknown."""
    task: asyncio.Task[object] | None
    """The task, if the callback was a step of one."""
    shown: str = ""
    """The name with the place of its code in the program, for messages: "on_edge (door.py:12)"."""
