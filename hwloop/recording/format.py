"""The binary format of recordings: records, each with its length and a checksum.

A record is a frame, the length of its body and a CRC-32 of it, and then the body: one byte for its kind and the fields.
A file that is cut at any byte is readable up to the last record that is complete, and garbage is never taken for a
record. Names that repeat, such as those of ports and of the parts that drive a line, are written once and numbered.

A *segment* is a sequence of records that can be read by itself: it begins with a header and defines the names that it
uses. A file is one segment. A ring (`hwloop.recording.ring`) has many, and the number of a segment goes into its
checksums, so that the rest of an older segment under a newer one can't be mistaken for a part of it.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, BinaryIO, Literal, NamedTuple
from zlib import crc32

from hwloop.trace_events import (
    Direction,
    FaultChange,
    I2cMessage,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    SerialSettings,
    SpiTransfer,
    TraceEvent,
)

VERSION = 1
"""The version of the format, which changes when an older reader could misunderstand a newer file."""
FILE_MAGIC = b"HWLOG\r\n\x1a"
"""The first bytes of a file. The line end and the end-of-file mark are damaged by whatever takes it for text."""
RECORD_MAX = 16 << 20
"""Bytes in the body of a record; a longer one is garbage."""
FRAME = struct.Struct("<II")
"""The length of the body, and its checksum."""
INVALID = (ValueError, KeyError, IndexError, TypeError, struct.error)
"""The exceptions of `Decoder.decode` for a body that no encoder has made."""
TERMINATOR = bytes(4)
"""A length of 0: the end of the records in a segment of a ring."""

_PREAMBLE = struct.Struct("<8sI")
_NAMES_MAX = 65536
_DIRECTIONS: tuple[Direction, ...] = ("received", "sent")
_STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")


class RecordingError(Exception):
    """A recording can't be written or read; the message has the path, the problem and a remedy."""


@dataclass(frozen=True)
class Header:
    """The circumstances of a recording. A board's clock counts nanoseconds from an arbitrary moment."""

    board: str = ""
    """The label of the board; empty if the program has not used any."""
    simulated: bool = False
    """Whether it was a simulated board."""
    virtual: bool = False
    """Whether its time was virtual."""
    start_ns: int = 0
    """The start, by the board's clock."""
    started_at_ns: int = 0
    """The start, by the calendar clock: nanoseconds since 1970, UTC."""
    program: str = ""
    """The path of the program, or "-m" and the name of its module."""
    arguments: list[str] = field(default_factory=list)
    """The program's arguments."""
    seed: int | None = None
    """The seed of a run in virtual time."""
    limit: float | None = None
    """Its limit in virtual seconds."""
    process: int = 0
    """The process identifier."""
    hwloop: str = ""
    """The version of hwloop."""
    python: str = ""
    """The version of Python."""
    first: bool = True
    """Whether the recording begins here; in a ring, whether the run's beginning is still there."""
    state: dict[str, Any] = field(default_factory=dict)
    """The board at the start, as `hwloop.board.Board.snapshot` returns it."""


class Lost(NamedTuple):
    """Events that are missing in the recording, because they could not be written in time."""

    when_ns: int
    events: int


class Signalled(NamedTuple):
    """The program has received a signal that ends it."""

    when_ns: int
    number: int


class Ended(NamedTuple):
    """The end of a recording that was closed in order."""

    when_ns: int
    status: str
    """How the program ended: "0", an exit status, "SIGTERM", or empty if that is unknown."""


Event = TraceEvent | Lost | Signalled | Ended
"""An event of a recording, with its time."""
Entry = Header | Event
"""The content of a record."""


class Kind:
    """The numbers of the kinds of records. A reader skips those that it does not know."""

    HEADER = 1
    NAME = 2
    LINE = 3
    SERIAL = 4
    FRAME = 5
    I2C = 6
    FAULT = 7
    PRINTED = 8
    LOST = 9
    SIGNAL = 10
    END = 11
    SPI = 12


_NAME = struct.Struct("<BH")
_LINE = struct.Struct("<BqIBH")
_SERIAL = struct.Struct("<BqHBH")
_FRAME = struct.Struct("<BqH")
_I2C = struct.Struct("<BqqIHH")
_MESSAGE = struct.Struct("<BBI")
_SPI = struct.Struct("<BqqIBHI")
_FAULT = struct.Struct("<BqHHB")
_PRINTED = struct.Struct("<BqB")
_LOST = struct.Struct("<BqQ")
_SIGNAL = struct.Struct("<BqB")
_END = struct.Struct("<Bq")


def file_preamble() -> bytes:
    """Return the first bytes of a file."""
    return _PREAMBLE.pack(FILE_MAGIC, VERSION)


def read_file_preamble(stream: BinaryIO, path: str) -> None:
    """Read the first bytes of a file. Raises `RecordingError` if they are not those of a recording."""
    start = stream.read(_PREAMBLE.size)
    if len(start) < _PREAMBLE.size and FILE_MAGIC.startswith(start[:8]):
        raise RecordingError(f"{path}: the recording is cut off in its first bytes; there is nothing in it to read")
    magic, version = _PREAMBLE.unpack(start.ljust(_PREAMBLE.size, b"\0"))
    if magic != FILE_MAGIC:
        raise RecordingError(f"{path}: not a recording; 'hwloop record --out FILE' and --recorder make some")
    check_version(path, version)


def check_version(path: str, version: int) -> None:
    """Raise `RecordingError` for a version of the format that can't be read."""
    if version != VERSION:
        raise RecordingError(
            f"{path}: the recording has format {version}, and this hwloop reads format {VERSION}; "
            f"read it with the hwloop that has written it{', or update hwloop' if version > VERSION else ''}"
        )


class Encoder:
    """Turns the entries of one segment into bytes.

    Parameters:
        seed: the number of the segment, as a start of the checksums.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed & 0xFFFFFFFF
        self._names: dict[str, int] = {}
        self._definitions = b""
        self._writers: dict[type[object], Callable[[Any], bytes]] = {
            LineChange: self._line,
            SerialData: self._serial,
            SerialFrame: self._frame,
            I2cTransfer: self._transfer,
            SpiTransfer: self._exchange,
            FaultChange: self._fault,
            Printed: lambda it: _PRINTED.pack(Kind.PRINTED, it.when_ns, _STREAMS.index(it.stream)) + _bytes(it.text),
            Lost: lambda it: _LOST.pack(Kind.LOST, *it),
            Signalled: lambda it: _SIGNAL.pack(Kind.SIGNAL, *it),
            Ended: lambda it: _END.pack(Kind.END, it.when_ns) + _bytes(it.status),
            Header: lambda it: bytes([Kind.HEADER]) + json.dumps(asdict(it), separators=(",", ":")).encode(),
        }

    def encode(self, entry: Entry) -> bytes:
        """Return an entry as a record, after the definitions of its new names. Raises TypeError for anything else."""
        try:
            writer = self._writers[type(entry)]
        except KeyError:
            raise TypeError(f"a recording has no records for {type(entry).__name__}") from None
        body = writer(entry)
        record = FRAME.pack(len(body), crc32(body, self._seed)) + body
        if self._definitions:
            record, self._definitions = self._definitions + record, b""
        return record

    def _line(self, change: LineChange) -> bytes:
        when_ns, line, level, by = change
        return _LINE.pack(Kind.LINE, when_ns, line, level, self._name(by))

    def _serial(self, piece: SerialData) -> bytes:
        when_ns, port, direction, data, settings = piece
        names = self._name(port), _DIRECTIONS.index(direction), self._name(_settings_text(settings))
        return _SERIAL.pack(Kind.SERIAL, when_ns, *names) + data

    def _frame(self, frame: SerialFrame) -> bytes:
        when_ns, port, data = frame
        return _FRAME.pack(Kind.FRAME, when_ns, self._name(port)) + data

    def _transfer(self, transfer: I2cTransfer) -> bytes:
        when_ns, end_ns, bus, messages, error = transfer
        parts = [_I2C.pack(Kind.I2C, when_ns, end_ns, bus, self._name(error), len(messages))]
        for address, direction, data in messages:
            parts.append(_MESSAGE.pack(address, _DIRECTIONS.index(direction), len(data)))
            parts.append(data)
        return b"".join(parts)

    def _exchange(self, transfer: SpiTransfer) -> bytes:
        when_ns, end_ns, bus, select, sent, received, error = transfer
        return _SPI.pack(Kind.SPI, when_ns, end_ns, bus, select, self._name(error), len(sent)) + sent + received

    def _fault(self, change: FaultChange) -> bytes:
        when_ns, fault, target, begins, detail = change
        return _FAULT.pack(Kind.FAULT, when_ns, self._name(fault), self._name(target), begins) + _bytes(detail)

    def _name(self, text: str) -> int:
        """Return the number of a name, and define it if it has none."""
        number = self._names.get(text)
        if number is None:
            if len(self._names) == _NAMES_MAX:  # a reader replaces the old ones, as they are defined anew
                self._names.clear()
            number = self._names[text] = len(self._names)
            body = _NAME.pack(Kind.NAME, number) + _bytes(text)
            self._definitions += FRAME.pack(len(body), crc32(body, self._seed)) + body
        return number


class Decoder:
    """Turns the records of one segment back into entries: the opposite of `Encoder`."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._readers: dict[int, Callable[[bytes], Entry]] = {
            Kind.HEADER: _read_header,
            Kind.LINE: self._line,
            Kind.SERIAL: self._serial,
            Kind.FRAME: self._frame,
            Kind.I2C: self._transfer,
            Kind.SPI: self._exchange,
            Kind.FAULT: self._fault,
            Kind.PRINTED: _read_printed,
            Kind.LOST: lambda body: Lost(*_LOST.unpack(body)[1:]),
            Kind.SIGNAL: lambda body: Signalled(*_SIGNAL.unpack(body)[1:]),
            Kind.END: lambda body: Ended(_END.unpack_from(body)[1], _text(body[_END.size :])),
        }

    def decode(self, body: bytes) -> Entry | None:
        """Return the entry of a record's body; None for a definition, or a kind that is not known.

        Raises one of `INVALID` for a body that no encoder has made.
        """
        kind = body[0]
        if kind == Kind.NAME:
            self._names[_NAME.unpack_from(body)[1]] = _text(body[_NAME.size :])
            return None
        reader = self._readers.get(kind)
        return None if reader is None else reader(body)

    def _line(self, body: bytes) -> LineChange:
        _, when_ns, line, level, by = _LINE.unpack(body)
        return LineChange(when_ns, line, level, self._names[by])

    def _serial(self, body: bytes) -> SerialData:
        _, when_ns, port, direction, name = _SERIAL.unpack_from(body)
        settings = SerialSettings(*json.loads(self._names[name])) if self._names[name] else None
        return SerialData(when_ns, self._names[port], _DIRECTIONS[direction], body[_SERIAL.size :], settings)

    def _frame(self, body: bytes) -> SerialFrame:
        _, when_ns, port = _FRAME.unpack_from(body)
        return SerialFrame(when_ns, self._names[port], body[_FRAME.size :])

    def _transfer(self, body: bytes) -> I2cTransfer:
        _, when_ns, end_ns, bus, error, count = _I2C.unpack_from(body)
        messages, start = list[I2cMessage](), _I2C.size
        for _ in range(count):
            address, direction, length = _MESSAGE.unpack_from(body, start)
            start += _MESSAGE.size
            data = body[start : start + length]
            if len(data) < length:
                raise ValueError("a message is longer than its record")
            messages.append(I2cMessage(address, _DIRECTIONS[direction], data))
            start += length
        return I2cTransfer(when_ns, end_ns, bus, tuple(messages), self._names[error])

    def _exchange(self, body: bytes) -> SpiTransfer:
        _, when_ns, end_ns, bus, select, error, count = _SPI.unpack_from(body)
        data = body[_SPI.size :]
        if len(data) < count:
            raise ValueError("a transfer is longer than its record")
        return SpiTransfer(when_ns, end_ns, bus, select, data[:count], data[count:], self._names[error])

    def _fault(self, body: bytes) -> FaultChange:
        _, when_ns, fault, target, begins = _FAULT.unpack_from(body)
        return FaultChange(when_ns, self._names[fault], self._names[target], bool(begins), _text(body[_FAULT.size :]))


def _read_printed(body: bytes) -> Printed:
    _, when_ns, stream = _PRINTED.unpack_from(body)
    return Printed(when_ns, _STREAMS[stream], _text(body[_PRINTED.size :]))


def _read_header(body: bytes) -> Header:
    known = {each.name for each in fields(Header)}
    return Header(**{key: value for key, value in json.loads(body[1:]).items() if key in known})


@functools.lru_cache(16)
def _settings_text(settings: SerialSettings | None) -> str:
    return "" if settings is None else json.dumps(settings)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
