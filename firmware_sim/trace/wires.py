"""The wires of serial ports, I2C and SPI buses: waveforms synthesised from the bytes and transfers of a trace.

A trace has bytes and messages with their times. These functions draw the bits that carried them, so that the protocol
decoders of a logic analyser read the same bytes and messages again. The bits are exact; their times are as near to the
recorded ones as the wire allows: a character takes its time at the port's baud rate, and follows the one before it. So
bytes that a simulated device has sent all at once, faster than the baud rate, are drawn later than they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hwloop.trace_events import I2cMessage, I2cTransfer, SerialData, SerialSettings, SpiTransfer

Wire = list[tuple[int, int]]
"""The changes of a wire: times (ns) and levels. It is high before the first one. The last entry may be the end of the
last stop bit, which changes nothing."""

_ASSUMED = SerialSettings(9600)
_BIT_NS = 10_000
"""The slowest bit of an I2C bus: 100 kHz. A faster one is used where a transfer was over sooner."""
_QUARTER_NS = 10
"""The shortest quarter of an I2C bit, for transfers that took no time at all."""


def serial_wire(pieces: Iterable[SerialData]) -> Wire:
    """Return the wire of one direction of a port: idle is high, the start bit low, the lowest data bit first.

    A piece whose settings are not known has those of another piece, or 9600 8N1.
    """
    pieces = list(pieces)
    known = next((piece.settings for piece in pieces if piece.settings is not None), _ASSUMED)
    wire, level, free_ns = Wire(), 1, 0.0
    for piece in pieces:
        settings = known = piece.settings or known
        bit_ns = 1e9 / settings.baudrate
        # Received bytes have the time of the end of the last one, sent bytes that of the beginning of the first one.
        early_ns = len(piece.data) * settings.bits * bit_ns if piece.direction == "received" else 0
        start_ns = max(free_ns, piece.when_ns - early_ns)
        for byte in piece.data:
            for number, bit in enumerate(_character(byte, settings)):
                if bit != level:
                    wire.append((round(start_ns + number * bit_ns), bit))
                    level = bit
            start_ns += settings.bits * bit_ns
        free_ns = start_ns
    return [*wire, (round(free_ns), level)] if wire else wire


def _character(byte: int, settings: SerialSettings) -> Iterator[int]:
    """Yield the bits of a character, the first of its stop bits included."""
    data = [byte >> place & 1 for place in range(settings.bytesize)]
    yield 0
    yield from data
    if settings.parity != "N":
        yield {"E": sum(data) % 2, "O": 1 - sum(data) % 2, "M": 1, "S": 0}[settings.parity]
    yield 1


def i2c_wires(transfers: Iterable[I2cTransfer]) -> tuple[Wire, Wire]:
    """Return the wires SDA and SCL of a bus, with start, repeated start, acknowledge bits and stop.

    A transfer that fails ends behind the bit that was not acknowledged. In one that found the bus hung (ETIMEDOUT) both
    wires are low, and decoders find nothing.
    """
    pen = _Pen()
    for transfer in transfers:
        if transfer.error == "ETIMEDOUT":
            pen.hold(transfer.when_ns, transfer.end_ns)
            continue
        cells = 1 + sum(10 + 9 * len(message.data) for message in transfer.messages)
        bit_ns = min(_BIT_NS, (transfer.end_ns - transfer.when_ns) // cells)
        pen.begin(transfer.when_ns, max(_QUARTER_NS, bit_ns // 4))
        for number, message in enumerate(transfer.messages, 1):
            failed = bool(transfer.error) and number == len(transfer.messages)
            pen.message(message, failed)
        pen.stop()
    return pen.sda, pen.scl


def spi_wires(transfers: Iterable[SpiTransfer]) -> tuple[dict[int, Wire], Wire, Wire, Wire]:
    """Return the wires of an SPI bus: the select lines by number, then SCLK, MOSI and MISO.

    They are those of mode 0 with the highest bit first, whatever the controller was set to: a trace has the bytes.
    Select lines are high before their first change, the others low.
    """
    transfers = list(transfers)
    selects: dict[int, Wire] = {transfer.select: [] for transfer in transfers}
    clock, mosi, miso, free_ns = Wire(), Wire(), Wire(), 0
    for transfer in transfers:
        bits = 8 * len(transfer.sent)
        half_ns = max(_QUARTER_NS, (transfer.end_ns - transfer.when_ns) // (2 * bits + 2))
        now_ns = max(free_ns, transfer.when_ns)
        selects[transfer.select].append((now_ns, 0))
        for place in range(bits - 1, -1, -1):
            for wire, data in ((mosi, transfer.sent), (miso, transfer.received)):
                level = int.from_bytes(data, "big") >> place & 1
                if level != (wire[-1][1] if wire else 0):
                    wire.append((now_ns, level))
            clock += [(now_ns + half_ns, 1), (now_ns + 2 * half_ns, 0)]
            now_ns += 2 * half_ns
        selects[transfer.select].append((now_ns + half_ns, 1))
        free_ns = now_ns + 2 * half_ns
    return selects, clock, mosi, miso


class _Pen:
    """Draws SDA and SCL in quarters of a bit."""

    def __init__(self) -> None:
        self.sda, self.scl = Wire(), Wire()
        self._now_ns = 0
        self._quarter_ns = 0

    def begin(self, when_ns: int, quarter_ns: int) -> None:
        """Begin a transfer, once the one before it is over."""
        self._now_ns, self._quarter_ns = max(self._now_ns, when_ns), quarter_ns

    def message(self, message: I2cMessage, failed: bool) -> None:
        """Draw a start, the address, and the bytes. A message that failed is not acknowledged in its last byte."""
        self._cell((1, None), (None, 1), (0, None), (None, 0))
        reads = message.direction == "received"
        self._byte(message.address << 1 | reads, acknowledged=not failed or bool(message.data))
        for left, byte in zip(range(len(message.data) - 1, -1, -1), message.data, strict=True):
            # Behind the last byte of a read it is the reader that does not acknowledge, so that the device stops.
            self._byte(byte, acknowledged=left > 0 or not (reads or failed))

    def stop(self) -> None:
        """Draw a stop, and leave the bus free for the time of a bit."""
        self._cell((0, None), (None, 1), (1, None), (None, None))
        self._now_ns += 4 * self._quarter_ns

    def hold(self, start_ns: int, end_ns: int) -> None:
        """Hold both wires low, in an order that is neither a start nor a stop."""
        self.begin(start_ns, _QUARTER_NS)
        self._cell((None, 0), (0, None))
        self._now_ns = max(end_ns, self._now_ns)
        self._cell((1, None), (None, 1))

    def _byte(self, byte: int, *, acknowledged: bool) -> None:
        for place in range(7, -1, -1):
            self._bit(byte >> place & 1)
        self._bit(0 if acknowledged else 1)

    def _bit(self, bit: int) -> None:
        self._cell((bit, None), (None, 1), (None, None), (None, 0))

    def _cell(self, *quarters: tuple[int | None, int | None]) -> None:
        for sda, scl in quarters:
            self._draw(self.sda, sda)
            self._draw(self.scl, scl)
            self._now_ns += self._quarter_ns

    def _draw(self, wire: Wire, level: int | None) -> None:
        before = wire[-1][1] if wire else 1
        if level is not None and level != before:
            wire.append((self._now_ns, level))
