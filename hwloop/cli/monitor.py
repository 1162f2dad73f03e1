"""Print the events of GPIO lines, serial ports and I2C devices, one line each, until interrupted.

    hwloop monitor gpio:17,up serial:/dev/ttyUSB0,115200 i2c:1:0x76:0xF7,8@0.5

    gpio:LINE[,PULL]             edges; LINE is a BCM number or a name, PULL is up, down or none (unchanged)
    serial:PORT[,BAUD]           lines of text, and data before a silence (9600 baud); PORT may be the two numbers of
                                 lsusb, as in serial:0403:6001, and a serial number, as in serial:0403:6001:A50285BI
    i2c:BUS:ADDRESS:REG[,LEN]    LEN bytes (1) from a register on, read every second
    i2c:BUS:ADDRESS              changes of whether the device answers
    i2c:...@SECONDS              ... read every SECONDS

Fields for --format, in braces as in Python's str.format ("{time:%H:%M:%S} {source} {value}"):

    time       date and time of day, local        timestamp  seconds, CLOCK_MONOTONIC (the kernel's, for an edge)
    source     as it was given above              event      rising, falling, data, reading, asleep, answers, no-answer
    value      the level, the text or the bytes   lost       events lost before this one
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import math
import re
import string
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, get_args

from hwloop.cli import UsageError, process, say
from hwloop.cli.asleep import asleep
from hwloop.cli.run import BOARD_HELP, chosen_board
from hwloop.cli.term import Colour, Terminal
from hwloop.core.naming import error_text
from hwloop.errors import HardwareError
from hwloop.lines import Pull
from hwloop.sources import Backoff, gpio, i2c, serial
from hwloop.sources.serial.framing import Frame, IdleGap

FORMS = "gpio:17[,up], serial:/dev/ttyUSB0[,9600], i2c:1:0x76[:0xF7[,8]][@0.5]"
FIELDS = ("time", "timestamp", "source", "event", "value", "lost")
_USB = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::(.+))?")
COLOURS: dict[str, Colour] = {"gpio": "yellow", "serial": "blue", "i2c": "green"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", nargs="+", metavar="SOURCE", help=FORMS)
    parser.add_argument("--board", metavar="BOARD", help=BOARD_HELP)
    parser.add_argument("--num-events", type=int, metavar="N", help="end after N events")
    parser.add_argument("--idle-timeout", type=float, metavar="SECONDS", help="end after SECONDS without an event")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--format", metavar="TEMPLATE", help="format of a line; see above for the fields")
    shape.add_argument("--json", action="store_true", help="print each event as a JSON object on one line")


def execute(arguments: argparse.Namespace) -> int:
    specs = [parse(text) for text in arguments.specs]
    if arguments.num_events is not None and arguments.num_events < 1:
        raise UsageError(f"--num-events must be 1 or more, not {arguments.num_events}")
    if arguments.idle_timeout is not None and not 0 < arguments.idle_timeout < math.inf:
        raise UsageError(f"--idle-timeout must be more than 0, not {arguments.idle_timeout:g}")
    if arguments.format is not None:
        check_format(arguments.format, specs)
        show = formatted(arguments.format)
    elif arguments.json:
        show = as_json
    else:
        show = as_text(Terminal(sys.stdout), max(len(spec.name) for spec in specs))
    monitor = Monitor(specs, show, arguments.num_events, arguments.idle_timeout)
    with process.hosted(chosen_board(arguments.board)) as host:
        host.run(monitor.run, debug=arguments.debug)
    return 0


class Event(NamedTuple):
    """An event as it is printed."""

    source: str
    event: str
    value: int | str
    timestamp_ns: int
    lost: int

    def fields(self) -> dict[str, Any]:
        """Return the fields of --format."""
        # The offset between the two clocks moves when the time of day is set.
        wall_ns = time.time_ns() - time.monotonic_ns() + self.timestamp_ns
        when = datetime.datetime.fromtimestamp(wall_ns // 1_000_000_000).replace(
            microsecond=wall_ns // 1000 % 1_000_000
        )
        return {
            "time": when,
            "timestamp": self.timestamp_ns / 1e9,
            "source": self.source,
            "event": self.event,
            "value": self.value,
            "lost": self.lost,
        }


Emit = Callable[[str, int | str, int, int], None]
"""Called as `emit(event, value, timestamp_ns, lost)`."""


class Spec(ABC):
    """A source from the command line."""

    kind: ClassVar[str]
    sample: ClassVar[int | str] = ""
    """An example of the values of its events."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def follow(self, emit: Emit, buses: Mapping[int, i2c.Bus]) -> None:
        """Emit its events until cancelled."""


class Line(Spec):
    kind = "gpio"
    sample: ClassVar[int] = 1

    def __init__(self, name: str, rest: str) -> None:
        super().__init__(name)
        line, _, pull = rest.partition(",")
        if pull not in ("", *get_args(Pull)):
            raise ValueError(f"a pull is up, down or none, not {pull!r}")
        self.watch: gpio.Watch = gpio.watch(int(line) if line.isdecimal() else line, pull=pull or None, name=name)  # type: ignore[arg-type]

    async def follow(self, emit: Emit, buses: Mapping[int, i2c.Bus]) -> None:
        async with self.watch:
            async for edge in self.watch:
                emit("rising" if edge.value else "falling", edge.value, edge.timestamp_ns, edge.lost)


class Port(Spec):
    kind = "serial"

    def __init__(self, name: str, rest: str) -> None:
        super().__init__(name)
        port, _, baudrate = rest.partition(",")
        if not port:
            raise ValueError("a port has a name")
        if baudrate and not (baudrate.isdecimal() and int(baudrate)):
            raise ValueError(f"a baud rate is a whole number, not {baudrate!r}")
        adapter = _USB.fullmatch(port)
        self.port: serial.open = serial.open(
            serial.find(vendor=adapter[1], product=adapter[2], serial_number=adapter[3]) if adapter else port,
            int(baudrate or 9600),
            framing=LinesAndRests(),
            name=name,
            reopen=Backoff(),
        )

    async def follow(self, emit: Emit, buses: Mapping[int, i2c.Bus]) -> None:
        async with self.port:
            async for frame in self.port:
                emit("data", printable(frame.data), frame.received_ns, frame.lost)


class Device(Spec):
    kind = "i2c"

    def __init__(self, name: str, rest: str) -> None:
        super().__init__(name)
        where, at, every = rest.partition("@")
        bus, *numbers = where.split(":")
        self.every: float = _seconds(every) if at else 1.0
        self.bus: int = _number("a bus", bus, 0, 999)
        if not 1 <= len(numbers) <= 2:
            raise ValueError("an I2C device is BUS:ADDRESS, and perhaps a register")
        self.address: int = _number("an address", numbers[0], i2c.FIRST_ADDRESS, i2c.LAST_ADDRESS)
        self.register: int | None = None
        if len(numbers) == 2:
            register, comma, length = numbers[1].partition(",")
            self.register = _number("a register", register, 0, 0xFF)
            self.length: int = _number("a length", length, 1, 8192) if comma else 1

    async def follow(self, emit: Emit, buses: Mapping[int, i2c.Bus]) -> None:
        chip = buses[self.bus].device(self.address)
        last = ""

        async def read() -> bytes | str | HardwareError:
            try:
                if self.register is None:
                    return await chip.read(1)
                data = await chip.read_block(self.register, self.length)
                return await asleep(chip, self.register, data) or data
            except HardwareError as error:
                return error

        async for reading in buses[self.bus].poll(read, every=self.every, name=self.name):
            answer = reading.value
            if isinstance(answer, HardwareError):
                event, value = "no-answer", answer.reason
            elif isinstance(answer, str):
                event, value = "asleep", answer
            elif self.register is None:
                event, value = "answers", ""
            else:
                event, value = "reading", answer.hex(" ")
            if event != last or event == "reading":
                emit(event, value, reading.timestamp_ns, reading.lost)
            last = event


class LinesAndRests(IdleGap):
    """Frames that are lines, or unfinished lines before a silence."""

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        super().feed(data, now_ns)
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        return [self._frame(line.removesuffix(b"\r"), now_ns) for line in lines]


KINDS: dict[str, Callable[[str, str], Spec]] = {"gpio": Line, "serial": Port, "i2c": Device}


def parse(text: str) -> Spec:
    """Parse a source of the command line. Raises `UsageError`."""
    kind, colon, rest = text.partition(":")
    if kind not in KINDS or not colon:
        raise UsageError(f"{text!r} is not a source; write sources as {FORMS}")
    try:
        return KINDS[kind](text, rest)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{text!r}: {error}; write sources as {FORMS}") from error


class Monitor:
    """Follows sources and prints their events.

    Parameters:
        specs: the sources.
        show: makes a line of an event.
        number: events after which to end; None for no end.
        idle: seconds without an event after which to end; None for no end.
    """

    def __init__(self, specs: list[Spec], show: Callable[[Event], str], number: int | None, idle: float | None) -> None:
        self._specs = specs
        self._show = show
        self._left = number
        self._idle = idle
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Print events until --num-events or --idle-timeout ends it."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_complain)
        self._done = loop.create_future()
        self._await_idleness()
        async with contextlib.AsyncExitStack() as stack:
            buses: dict[int, i2c.Bus] = {}
            for spec in self._specs:
                if isinstance(spec, Device) and spec.bus not in buses:
                    buses[spec.bus] = await stack.enter_async_context(i2c.open(spec.bus))
            async with asyncio.TaskGroup() as tasks:
                followers = [tasks.create_task(spec.follow(self._emitter(spec), buses)) for spec in self._specs]
                await self._done
                for follower in followers:
                    follower.cancel()

    def _emitter(self, spec: Spec) -> Emit:
        def emit(event: str, value: int | str, timestamp_ns: int, lost: int) -> None:
            if self._done.done():
                return
            say(self._show(Event(spec.name, event, value, timestamp_ns, lost)) + "\n")
            self._await_idleness()
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    self._done.set_result(None)

        return emit

    def _await_idleness(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._idle is not None:
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._end)

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


# Lines.


def check_format(template: str, specs: list[Spec]) -> None:
    """Raise `UsageError` unless `template` can format the events of all `specs`."""
    known = f"the fields are {', '.join(FIELDS)}"
    try:
        used = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--format {template!r}: {error}; write '{{{{' for a brace; {known}") from error
    if unknown := [name for name in used if name not in FIELDS]:
        raise UsageError(f"--format {template!r}: there is no field {unknown[0]!r}; {known}")
    for spec in specs:
        try:
            formatted(template)(Event(spec.name, "", spec.sample, 0, 0))
        except (ValueError, LookupError) as error:
            raise UsageError(f"--format {template!r} can't show an event of {spec.name}: {error}; {known}") from error


def formatted(template: str) -> Callable[[Event], str]:
    """Return a function that formats events with a template of str.format."""
    return lambda event: template.format(**event.fields())


def as_json(event: Event) -> str:
    """Format an event as JSON; the time is in ISO 8601 with its offset from UTC."""
    fields = event.fields()
    return json.dumps(fields | {"time": fields["time"].astimezone().isoformat(timespec="microseconds")})


def as_text(terminal: Terminal, width: int) -> Callable[[Event], str]:
    """Return a function that formats events for people, with the source in `width` columns."""

    def show(event: Event) -> str:
        time = terminal.paint(f"{event.fields()['time']:%H:%M:%S.%f}", "dim")
        source = terminal.paint(event.source.ljust(width), COLOURS[event.source.partition(":")[0]])
        lost = terminal.paint(f"  ({event.lost} lost before)", "red") if event.lost else ""
        return f"{time}  {source}  {event.event:9}  {event.value}{lost}".rstrip()

    return show


def printable(data: bytes) -> str:
    """Return bytes as text, with escapes for those that are not printable ASCII."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in data)


def _number(what: str, text: str, low: int, high: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        raise ValueError(f"{what} is a number such as 1 or 0x76, not {text!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{what} is {low:#x} to {high:#x}, not {text}")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"an interval must be more than 0 seconds, not {text!r}")
    return seconds


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Print other reports, such as a port that was unplugged."""
    if loop.get_debug():
        loop.default_exception_handler(context)
    else:
        error = context.get("exception")
        text = context["message"] if error is None else f"{context['message']}: {error_text(error)}"
        print(f"hwloop monitor: {text}", file=sys.stderr)
