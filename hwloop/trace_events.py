"""The events of a trace, and the interface of whatever records them.

A board reports what happens on its wires: each change of a line, each piece of serial data, each transfer, each fault.
On a simulated board the simulation reports it, as a logic analyser would see it. On a real board the sources report
what they received and sent. `board.tracer` records the events, and is None where nobody asked for a trace.

Times are nanoseconds of the board's clock.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Direction = Literal["received", "sent"]
"""As the program sees it: `received` from a device, or `sent` to it."""


class LineChange(NamedTuple):
    """A line has changed its level."""

    when_ns: int
    line: int
    level: int
    """The electrical level, 0 or 1."""
    by: str
    """The cause: a part ("the button on line 17"), "program", "another process", "wire" or "outside"."""


class SerialSettings(NamedTuple):
    """A program's settings of a serial port."""

    baudrate: int
    """Bits a second."""
    bytesize: int = 8
    """Data bits, 5 to 8."""
    parity: str = "N"
    """"N", "E", "O", "M" or "S", as pyserial writes them."""
    stopbits: float = 1
    """1, 1.5 or 2. A simulated port has 2 for 1.5, because a terminal knows no 1.5."""

    @property
    def bits(self) -> float:
        """The number of bits of one character on the wire."""
        return 1 + self.bytesize + (self.parity != "N") + self.stopbits


class SerialData(NamedTuple):
    """Bytes have passed a serial port in one piece."""

    when_ns: int
    """When the last byte had arrived, or the program wrote them."""
    port: str
    direction: Direction
    data: bytes
    settings: SerialSettings | None = None
    """The settings at which they passed; None if they are not known, or the program has the port closed."""


class SerialFrame(NamedTuple):
    """A serial source has made a frame of the bytes that it received."""

    when_ns: int
    port: str
    data: bytes


class I2cMessage(NamedTuple):
    """One message of an I2C transfer."""

    address: int
    """7 bits."""
    direction: Direction
    data: bytes
    """The bytes that were acknowledged or read. In the last message of a transfer that failed: the bytes on the wire,
    where the last one was not acknowledged; none if the address was not."""


class I2cTransfer(NamedTuple):
    """An I2C transfer, with repeated starts between its messages."""

    when_ns: int
    end_ns: int
    bus: int
    messages: tuple[I2cMessage, ...]
    error: str
    """The name of the errno with which it failed ("EREMOTEIO"), or of another exception; empty if it did not fail."""


class SpiTransfer(NamedTuple):
    """A device on an SPI bus was selected, has exchanged bytes with the controller, and was deselected."""

    when_ns: int
    end_ns: int
    bus: int
    select: int
    """The number of the select line: 1 stands for /dev/spidev0.1."""
    sent: bytes
    """The bytes on MOSI."""
    received: bytes
    """The bytes on MISO at the same time; as many, or none if the transfer failed."""
    error: str
    """The name of the errno with which it failed ("ESHUTDOWN"), or of another exception; empty if it did not fail."""

    @property
    def device(self) -> str:
        """Its bus and select line, as in the name of its device node: "0.1"."""
        return f"{self.bus}.{self.select}"


class FaultChange(NamedTuple):
    """An injected fault has begun or ended. One that has no duration only begins."""

    when_ns: int
    fault: str
    """The name of the fault: "stuck-line"."""
    target: str
    """Where it acts: "line 17", "/dev/ttyUSB0", "i2c 1 0x76"."""
    begins: bool
    detail: str


class Printed(NamedTuple):
    """The program has written a line of text to its standard output or error."""

    when_ns: int
    stream: Literal["stdout", "stderr"]
    text: str


TraceEvent = LineChange | SerialData | SerialFrame | I2cTransfer | SpiTransfer | FaultChange | Printed


class Tracer(Protocol):
    """Records the events of a board."""

    def record(self, event: TraceEvent) -> None:
        """Record an event. Called from any thread, with the board's lock held on a simulated board; must not block."""


class BothTracers:
    """Two tracers of one board, which both record its events."""

    def __init__(self, first: Tracer, second: Tracer) -> None:
        self._first, self._second = first, second

    def record(self, event: TraceEvent) -> None:
        """Record an event, first with the first tracer."""
        self._first.record(event)
        self._second.record(event)
