"""One performance of the weather station on the simulated board, watched and counted.

The board counts what it sends, the program reports what arrives, and both are compared: every edge and sentence must be
delivered or counted as lost, the sentences as the receiver sent them, and the readings must agree with the simulated
air. Latencies are recorded before and under a load of busy callbacks.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.bme280 import Bme280
from firmware_sim.devices.gps import Gps
from firmware_sim.devices.pin_parts import Button
from hwloop.board import Edge
from hwloop.cli.term import Colour, Terminal
from hwloop.core.counters import Histogram
from hwloop.core.periodic_timer import Tick
from hwloop.sources.poll import Reading
from hwloop.sources.serial.framing import Frame, nmea_checksum

D = TypeVar("D")

CALLBACKS, EACH = 200, 50e-6
"""The load: the number of callbacks, and the seconds for which each computes."""
PERIOD = 0.001
"""Seconds between the control loop's ticks."""
SHOWN = 3
"""Wrong values that are listed one by one."""
PATIENCE = 2.0
"""Seconds to wait at the end for events on their way."""
BURST = 0.02
"""Seconds without an edge that end a burst of bounces."""
COLOURS: dict[str, Colour] = {
    "door": "yellow", "climate": "green", "position": "blue", "control": "cyan", "load": "magenta",
}  # fmt: skip
RESOLUTION = (0.005, 0.008, 0.027)
"""One step of the sensor's converter at one sample each (datasheet 1.2 to 1.4 and 3.4): °C, %RH, hPa."""
PHASES = ("before", "under load")


class Account(NamedTuple):
    """The events of one part of the station, on both sides."""

    part: str
    unit: str
    came_in: int
    """Events that the board sent, by its own count; readings and ticks that were due."""
    delivered: int
    lost: int
    """Events that the program knows to be lost."""
    skipped: int
    """Readings and ticks that were due and not begun, because there was no time."""

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for."""
        return self.came_in == self.delivered + self.lost + self.skipped


class Performance:
    """One performance of the station on a loop, and its figures.

    Parameters:
        loop: the name of the loop, for reports.
        board: the simulated board, with the station's devices.
        station: the example as a module.
        terminal: where events are printed; None for nowhere.
        log: the sentences that the GPS receiver sends, in order.
    """

    def __init__(
        self, loop: str, board: SimBoard, station: ModuleType, terminal: Terminal | None, log: list[bytes]
    ) -> None:
        self.loop = loop
        self._station = station
        self._terminal = terminal
        self._log = log
        self._button = _device(board, Button)
        self._gps = _device(board, Gps)
        self._sensor = _device(board, Bme280)
        self._line = board.chip.line(self._button.line)
        self._began_ns = time.monotonic_ns()
        self._load_began_ns = self._load_ended_ns = sys.maxsize
        self._reporters: dict[str, Callable[[Any], None]] = {
            "door": self._on_edge,
            "climate": self._on_reading,
            "position": self._on_sentence,
            "control": self._on_tick,
        }
        self.edge_latency = [Histogram() for _ in PHASES]
        self.tick_lateness = [Histogram() for _ in PHASES]
        self._counts = {part: [0, 0] for part in self._reporters}  # delivered, lost
        self._burst: list[tuple[Edge, int]] = []
        self._wrong: list[str] = []
        self._complete = False
        self._climate: Any = None
        self._first_due: float | None = None
        self._last_due = 0.0
        self._recent = Histogram()
        self.accounts: list[Account] = []
        self._tasks: asyncio.TaskGroup | None = None

    async def play(self, seconds: float) -> None:
        """Run the station for `seconds`, the second half under load. Counts are complete even if it is interrupted."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            station = tasks.create_task(self._station.main(self.report))
            narrator = tasks.create_task(self._narrate())
            try:
                await asyncio.sleep(seconds / 2)
                self.say("load", f"{CALLBACKS} callbacks that are always ready, each busy for {EACH * 1e3:g} ms")
                load = tasks.create_task(self._station.load(CALLBACKS, EACH))
                self._load_began_ns = time.monotonic_ns()
                try:
                    await asyncio.sleep(seconds / 2)
                finally:
                    self._load_ended_ns = time.monotonic_ns()
                    load.cancel()
                self._complete = True
            finally:
                await self._drain()
                narrator.cancel()
                station.cancel()

    async def _drain(self) -> None:
        """Stop the board's devices, and take the accounts when everything on its way has arrived."""
        self._button.stop()
        self._gps.stop()
        give_up = time.monotonic() + PATIENCE
        while True:
            self.accounts = self._take_accounts()
            # A reading in progress must not count as lost.
            under_way = self._sensor.measurements > self._counts["climate"][0]
            if (all(account.balanced for account in self.accounts) and not under_way) or time.monotonic() >= give_up:
                return
            await asyncio.sleep(0.005)

    # Reports of the station.

    def report(self, part: str, event: Any) -> None:
        """Count one event that has reached the program."""
        counts = self._counts[part]
        counts[0] += 1
        counts[1] += event.missed if part == "control" else event.lost
        self._reporters[part](event)

    def _on_edge(self, edge: Edge) -> None:
        latency_ns = time.monotonic_ns() - edge.timestamp_ns
        self._record(self.edge_latency, edge.timestamp_ns, latency_ns)
        if not self._burst:
            assert self._tasks is not None
            self._tasks.create_task(self._print_burst())
        self._burst.append((edge, latency_ns))

    def _on_reading(self, reading: Reading[Any]) -> None:
        self._climate = reading.value
        # The sensor measured at some moment between request and answer.
        step_ns = max(1, (reading.received_ns - reading.timestamp_ns) // 16)
        moments = range(reading.timestamp_ns, reading.received_ns + step_ns, step_ns)
        truths = zip(*map(self._sensor.conditions, moments), strict=True)
        for value, truth, resolution in zip(reading.value, truths, RESOLUTION, strict=True):
            if not min(truth) - resolution <= value <= max(truth) + resolution:
                self._wrong.append(f"climate: {value:.3f} was read where the air had {truth[0]:.3f}")

    def _on_sentence(self, frame: Frame) -> None:
        sent = self._log[(sum(self._counts["position"]) - 1) % len(self._log)]
        if frame.data != sent or not nmea_checksum(frame.data):
            self._wrong.append(f"position: {frame.data!r} was read where {sent!r} was sent")
        if frame.data[3:6] == b"GGA":
            self.say("position", _place(frame.data.decode("ascii", "replace").split(",")))

    def _on_tick(self, tick: Tick) -> None:
        if self._first_due is None:
            self._first_due = tick.scheduled - tick.missed * PERIOD
        self._last_due = tick.scheduled
        lateness_ns = round(tick.lateness * 1e9)
        self._record(self.tick_lateness, round(tick.scheduled * 1e9), lateness_ns)
        self._recent.record(lateness_ns)

    def _record(self, histograms: list[Histogram], when_ns: int, value_ns: int) -> None:
        """Record a latency in the phase in which its event happened, if it happened in one of the two."""
        if when_ns < self._load_ended_ns:
            histograms[when_ns >= self._load_began_ns].record(value_ns)

    def _take_accounts(self) -> list[Account]:
        edges, edges_lost = self._counts["door"]
        edges_in = self._line.reports + self._line.reports_lost
        readings, readings_lost = self._counts["climate"]
        measured = self._sensor.measurements
        # A poll also counts readings as lost that it did not begin, which the sensor has not seen.
        discarded = min(max(measured - readings, 0), readings_lost)
        unasked = readings_lost - discarded
        sentences, sentences_lost = self._counts["position"]
        ticks, ticks_missed = self._counts["control"]
        due = 0 if self._first_due is None else round((self._last_due - self._first_due) / PERIOD) + 1
        return [
            Account("door", "edges", edges_in, edges, edges_lost, 0),
            Account("climate", "readings", measured + unasked, readings, discarded, unasked),
            Account("position", "sentences", self._gps.sentences_sent, sentences, sentences_lost, 0),
            Account("control", "ticks", due, ticks, 0, ticks_missed),
        ]

    # The log on the terminal.

    def say(self, part: str, text: str) -> None:
        """Print an event with its time and part."""
        if self._terminal is not None:
            seconds = (time.monotonic_ns() - self._began_ns) / 1e9
            self._terminal.line((f"{seconds:7.3f}  ", "dim"), (f"{part:8}  ", COLOURS.get(part, "bold")), text)

    async def _print_burst(self) -> None:
        await asyncio.sleep(BURST)
        first, latency_ns = self._burst[0]
        last, _ = self._burst[-1]
        took_ms = (last.timestamp_ns - first.timestamp_ns) / 1e6
        edges = "1 edge" if len(self._burst) == 1 else f"{len(self._burst)} edges in {took_ms:.1f} ms"
        state = "opens" if last.value else "shuts"
        self.say("door", f"{state}, {edges}, the first handled after {milliseconds(latency_ns)}")
        self._burst = []

    async def _narrate(self) -> None:
        """Print once a second the events that are too frequent to be printed each time."""
        async for _ in hwloop.every(1.0):
            if self._climate is not None:
                temperature, humidity, pressure = self._climate
                self.say("climate", f"{temperature:.2f} °C  {humidity:.1f} %RH  {pressure:.2f} hPa")
            recent, self._recent = self._recent, Histogram()
            self.say("control", f"{recent.count} ticks, late by {milliseconds(recent.quantile(0.5))} in the median")

    def differences(self) -> list[str]:
        """Return the events that went in and did not come out, or not unchanged."""
        found = [
            f"{each.part}: {each.came_in} {each.unit} went in, {each.delivered} came out, "
            f"{each.lost} are counted as lost and {each.skipped} as skipped"
            for each in self.accounts
            if not each.balanced
        ]
        if self._complete:
            found += [f"{each.part}: no {each.unit} at all" for each in self.accounts if not each.delivered]
        found += self._wrong[:SHOWN]
        if len(self._wrong) > SHOWN:
            found.append(f"... and {len(self._wrong) - SHOWN} more of the kind")
        return found

    def figures(self) -> dict[str, list[Histogram]]:
        """Return latency and lateness, each before and under load."""
        return {"edge to handler": self.edge_latency, "tick lateness": self.tick_lateness}

    def result(self) -> dict[str, object]:
        """Return accounts, figures and differences as plain data. Times are in seconds."""
        return {
            "loop": self.loop,
            "accounts": [account._asdict() for account in self.accounts],
            "latency": {
                name: {
                    phase: dict(zip(("p50", "p99", "max"), (ns / 1e9 for ns in quantiles(histogram)), strict=True))
                    for phase, histogram in zip(PHASES, histograms, strict=True)
                }
                for name, histograms in self.figures().items()
            },
            "differences": self.differences(),
        }


def _device(board: SimBoard, kind: type[D]) -> D:
    return next(device for device in board.devices if isinstance(device, kind))


def quantiles(histogram: Histogram) -> tuple[float, float, float]:
    """Return p50, p99 and the maximum in nanoseconds."""
    return histogram.quantile(0.5), histogram.quantile(0.99), histogram.max


def milliseconds(nanoseconds: float) -> str:
    """Format a duration in milliseconds with three digits."""
    value = nanoseconds / 1e6
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f} ms"


def _place(fields: list[str]) -> str:
    """Return the position of a GGA sentence (NMEA 0183)."""
    _, _, latitude, north, longitude, east, _, satellites, _, altitude, *_ = fields
    degrees = [int(text[:-8]) + float(text[-8:]) / 60 for text in (latitude, longitude)]
    return f"{degrees[0]:.5f}° {north}  {degrees[1]:.5f}° {east}  {altitude} m, by {int(satellites)} satellites"
