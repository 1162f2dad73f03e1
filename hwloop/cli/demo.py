"""Run the weather station of examples/ on the simulated board, and compare what goes in with what comes out.

For about ten seconds a door opens and shuts with bouncing contacts, a BME280 is read ten times a second, a GPS receiver
speaks at 9600 baud, and a control loop ticks a thousand times a second. In the second half 200 busy callbacks show what
a loop is worth. Then it is counted: what the simulated board sent, what the program got, and how late.

`--loop asyncio` runs the same program on the stock loop.

The exit status is 0 only if what went in came out: every edge and sentence delivered or counted as lost, sentences as
the receiver sent them, and readings that agree with the simulated air.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.bme280 import Bme280
from firmware_sim.devices.gps import Gps
from firmware_sim.devices.pin_parts import Button
from hwloop.board import Edge
from hwloop.cli import Ended, Failure, UsageError, process, say
from hwloop.cli.run import load_program
from hwloop.cli.term import Colour, Terminal
from hwloop.core.counters import Histogram
from hwloop.scheduling.periodic import Tick
from hwloop.sources.i2c.poll import Reading
from hwloop.sources.serial.framing import Frame, nmea_checksum

D = TypeVar("D")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "hwloop": hwloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}
CALLBACKS, EACH = 200, 50e-6
"""The load: so many callbacks, busy for so many seconds each."""
TURN = 500e-6
"""Seconds after which a thread of the simulated board gets its turn."""
PERIOD = 0.001
"""Seconds between the control loop's ticks."""
SHOWN = 3
"""Wrong values told one by one."""
SHORTEST = 2.0
"""Seconds in which everything on the board happens at least once."""
PATIENCE = 2.0
"""Seconds for which, at the end, what is under way may take to arrive."""
BURST = 0.02
"""Seconds without an edge that end a burst of bounces."""
COLOURS: dict[str, Colour] = {
    "door": "yellow", "climate": "green", "position": "blue", "control": "cyan", "load": "magenta",
}  # fmt: skip
RESOLUTION = (0.005, 0.008, 0.027)
"""One step of the sensor's converter at one sample each (datasheet 1.2 to 1.4 and 3.4): °C, %RH, hPa."""
PHASES = ("before", "under load")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loop", choices=LOOPS, default="hwloop", help="the event loop to run it on (hwloop)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N", help="how long: 2 or more (10)")
    parser.add_argument("--json", action="store_true", help="no events, and the result as JSON")


def execute(arguments: argparse.Namespace) -> int:
    seconds = arguments.seconds
    if not SHORTEST <= seconds < math.inf:
        raise UsageError(
            f"--seconds must be {SHORTEST:g} or more, not {seconds:g}: it takes that long for each thing to happen once"
        )
    examples = examples_directory()
    station = load_program(str(examples / "weather_station.py"))
    terminal = None if arguments.json else Terminal(sys.stdout)
    ended = None
    with _quick_turns(), SimBoard(examples / "weather_station.toml") as board:
        demo = Demo(board, station, terminal, (examples / "weather_station.nmea").read_bytes().split())
        demo.say("board", f"{board.label}: {len(board.devices)} simulated devices, on the {arguments.loop} event loop")
        with process.hosted(board) as host:
            try:
                host.run(lambda: demo.play(seconds), loop_factory=LOOPS[arguments.loop], debug=arguments.debug)
            except Ended as signal:
                if signal.forced:
                    raise
                ended = signal
    if terminal is None:
        say(json.dumps(demo.result() | {"loop": arguments.loop}) + "\n")
    else:
        demo.print_result(terminal)
    if ended is not None:
        raise ended
    return 1 if demo.differences() else 0


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Give the simulated board its turns.

    Its threads stand for hardware, which does not wait for our interpreter. But a thread that wants the interpreter
    from one that computes waits for the switch interval, by default 5 ms.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def examples_directory() -> Path:
    """Where the examples are: in an installed package beside this one, in a clone of the project one up."""
    package = Path(__file__).parents[1]
    for directory in (package / "examples", package.parent / "examples"):
        if (directory / "weather_station.py").is_file():
            return directory
    raise Failure(
        f"{package / 'examples'}: the examples are not installed; install hwloop anew, or run it from a clone"
    )


class Account(NamedTuple):
    """What became of the events of one part of the station."""

    part: str
    unit: str
    came_in: int
    """What the board sent, by its own count; of readings and ticks, all that were due."""
    delivered: int
    lost: int
    """What the program knows to be lost."""
    skipped: int
    """Readings and ticks that were due and not begun, for want of time."""

    @property
    def balanced(self) -> bool:
        return self.came_in == self.delivered + self.lost + self.skipped


class Demo:
    """One performance, and what was seen of it.

    Parameters:
        board: the simulated board, with the station's devices.
        station: the example as a module.
        terminal: where events are told; None to tell nothing.
        log: the sentences that the GPS receiver says, in their order.
    """

    def __init__(self, board: SimBoard, station: ModuleType, terminal: Terminal | None, log: list[bytes]) -> None:
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
        self._accounts: list[Account] = []
        self._tasks: asyncio.TaskGroup | None = None

    # The performance.

    async def play(self, seconds: float) -> None:
        """The station for so many seconds, under load for the second half. Interrupted, it still counts properly."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            station = tasks.create_task(self._station.main(self.report))
            teller = tasks.create_task(self._tell())
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
                teller.cancel()
                station.cancel()

    async def _drain(self) -> None:
        """Have the board fall silent, and take the accounts when all that is under way has arrived."""
        self._button.stop()
        self._gps.stop()
        give_up = time.monotonic() + PATIENCE
        while True:
            self._accounts = self._take_accounts()
            # A reading that is under way must not pass for one that was lost.
            under_way = self._sensor.measurements > self._counts["climate"][0]
            if (all(account.balanced for account in self._accounts) and not under_way) or time.monotonic() >= give_up:
                return
            await asyncio.sleep(0.005)

    # What the station reports.

    def report(self, part: str, event: Any) -> None:
        """One event has reached the program."""
        counts = self._counts[part]
        counts[0] += 1
        counts[1] += event.missed if part == "control" else event.lost
        self._reporters[part](event)

    def _on_edge(self, edge: Edge) -> None:
        latency_ns = time.monotonic_ns() - edge.timestamp_ns
        self._record(self.edge_latency, edge.timestamp_ns, latency_ns)
        if not self._burst:
            assert self._tasks is not None
            self._tasks.create_task(self._tell_burst())
        self._burst.append((edge, latency_ns))

    def _on_reading(self, reading: Reading[Any]) -> None:
        self._climate = reading.value
        # The sensor measured at some moment between the question and the answer.
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
        """Count a latency in the phase in which its event happened, if it is one of the two."""
        if when_ns < self._load_ended_ns:
            histograms[when_ns >= self._load_began_ns].record(value_ns)

    def _take_accounts(self) -> list[Account]:
        edges, edges_lost = self._counts["door"]
        edges_in = self._line.reports + self._line.reports_lost
        readings, readings_lost = self._counts["climate"]
        measured = self._sensor.measurements
        # A poll counts as lost what it did not begin, too; of those the sensor knows nothing.
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

    # What is told of it.

    def say(self, part: str, text: str) -> None:
        """Tell of an event: when, of what part, what."""
        if self._terminal is not None:
            seconds = (time.monotonic_ns() - self._began_ns) / 1e9
            self._terminal.line((f"{seconds:7.3f}  ", "dim"), (f"{part:8}  ", COLOURS.get(part, "bold")), text)

    async def _tell_burst(self) -> None:
        await asyncio.sleep(BURST)
        first, latency_ns = self._burst[0]
        last, _ = self._burst[-1]
        took_ms = (last.timestamp_ns - first.timestamp_ns) / 1e6
        edges = "1 edge" if len(self._burst) == 1 else f"{len(self._burst)} edges in {took_ms:.1f} ms"
        state = "opens" if last.value else "shuts"
        self.say("door", f"{state}, {edges}, the first handled after {_ms(latency_ns)}")
        self._burst = []

    async def _tell(self) -> None:
        """Once a second, what happens too often to be told each time."""
        async for _ in hwloop.every(1.0):
            if self._climate is not None:
                temperature, humidity, pressure = self._climate
                self.say("climate", f"{temperature:.2f} °C  {humidity:.1f} %RH  {pressure:.2f} hPa")
            recent, self._recent = self._recent, Histogram()
            self.say("control", f"{recent.count} ticks, late by {_ms(recent.quantile(0.5))} in the median")

    def print_result(self, terminal: Terminal) -> None:
        """The tables, and whether all is well."""
        terminal.line()
        rows = [(part, unit, *map(str, numbers)) for part, unit, *numbers in self._accounts]
        terminal.table([("part", "events", "in", "delivered", "lost", "skipped"), *rows], left=2)
        terminal.line()
        figures = [
            (
                name if phase == PHASES[0] else "",
                phase,
                *(_ms(ns) if histogram.count else "-" for ns in _quantiles(histogram)),
            )
            for name, histograms in self._figures().items()
            for phase, histogram in zip(PHASES, histograms, strict=True)
        ]
        terminal.table([("", "", "p50", "p99", "max"), *figures], left=2)
        terminal.line()
        for difference in self.differences():
            terminal.line((difference, "red"))
        if not self.differences():
            terminal.line(("What went in came out.", "green"))

    def result(self) -> dict[str, object]:
        """The same as data. Times are in seconds."""
        return {
            "accounts": [account._asdict() for account in self._accounts],
            "latency": {
                name: {
                    phase: dict(zip(("p50", "p99", "max"), (ns / 1e9 for ns in _quantiles(histogram)), strict=True))
                    for phase, histogram in zip(PHASES, histograms, strict=True)
                }
                for name, histograms in self._figures().items()
            },
            "differences": self.differences(),
        }

    def differences(self) -> list[str]:
        """What went in and did not come out, or not as it was."""
        found = [
            f"{each.part}: {each.came_in} {each.unit} went in, {each.delivered} came out, "
            f"{each.lost} are counted as lost and {each.skipped} as skipped"
            for each in self._accounts
            if not each.balanced
        ]
        if self._complete:
            found += [f"{each.part}: no {each.unit} at all" for each in self._accounts if not each.delivered]
        found += self._wrong[:SHOWN]
        if len(self._wrong) > SHOWN:
            found.append(f"... and {len(self._wrong) - SHOWN} more of the kind")
        return found

    def _figures(self) -> dict[str, list[Histogram]]:
        return {"edge to handler": self.edge_latency, "tick lateness": self.tick_lateness}


def _device(board: SimBoard, kind: type[D]) -> D:
    return next(device for device in board.devices if isinstance(device, kind))


def _quantiles(histogram: Histogram) -> tuple[float, float, float]:
    return histogram.quantile(0.5), histogram.quantile(0.99), histogram.max


def _ms(nanoseconds: float) -> str:
    """A duration in milliseconds, to three digits."""
    milliseconds = nanoseconds / 1e6
    decimals = 3 if milliseconds < 1 else 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{decimals}f} ms"


def _place(fields: list[str]) -> str:
    """Where a GGA sentence (NMEA 0183) says we are."""
    _, _, latitude, north, longitude, east, _, satellites, _, altitude, *_ = fields
    degrees = [int(text[:-8]) + float(text[-8:]) / 60 for text in (latitude, longitude)]
    return f"{degrees[0]:.5f}° {north}  {degrees[1]:.5f}° {east}  {altitude} m, by {int(satellites)} satellites"
