"""The flight recorder: the last events of a service, in a memory-mapped ring file that survives SIGKILL.

The program writes into pages of the kernel's page cache. They belong to the file, not to the process, so whatever has
been written is there after the process was killed at any moment, without a system call for each event. (A power cut is
another matter: the kernel writes the pages to the disk within half a minute or so.)

The ring consists of segments of equal size. Each can be read by itself: it begins with the header of the run and
defines its own names. The oldest one is overwritten as a whole: first its number is erased, then the new header is
written, and last the new number. Each record is followed by a terminator, in one copy, which the next record
overwrites; the segment's number is in every checksum. So a reader finds the complete records of each segment and
nothing else, whenever the writer was stopped.

A ring outlives the program: the next run goes on where the last one has stopped, so a restarted service does not erase
the events before its crash.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from zlib import crc32

from hwloop.recording.file import cannot_create, check_regular
from hwloop.recording.format import (
    TERMINATOR,
    VERSION,
    Encoder,
    Event,
    Header,
    Lost,
    RecordingError,
    check_version,
)
from hwloop.trace_events import SerialData

RING_MAGIC = b"HWRING\r\n"
SEGMENT = 65536
"""Bytes in a segment."""
SMALLEST = 4 * SEGMENT
DEFAULT = 8 << 20
"""Bytes in a ring, by default."""

_PREAMBLE = struct.Struct("<8sIII")
"""The magic bytes, the version, the size of a segment, and the number of segments."""
_START = 4096
_NUMBER = struct.Struct("<QI")
"""The number of a segment, which grows from one to the next, and its checksum. 0 is an unused segment."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
Read = Callable[[int, int], bytes]
"""Reads from a file: an offset and a number of bytes; the result may be shorter."""
_PIECE = SEGMENT // 4
"""Bytes of serial data in one record."""


class Segment(NamedTuple):
    """A segment of a ring, as it was found."""

    number: int
    data: bytes
    """Its records, and whatever follows them."""


class Ring:
    """A ring file, which is created, or continued if it is there already.

    Parameters:
        path: the file.
        size: its size in bytes, at least 256 KiB; rounded down to whole segments of 64 KiB.

    Raises `RecordingError` if the file can't be used: it can't be created or locked, it has another size, or it is not
    a ring.
    """

    def __init__(self, path: str | os.PathLike[str], size: int = DEFAULT) -> None:
        self.path: str = os.fspath(path)
        if size < SMALLEST:
            raise RecordingError(
                f"{self.path}: a ring has at least {size_text(SMALLEST)}, and {size_text(size)} is too small for it"
            )
        self._count = size // SEGMENT
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise RecordingError(cannot_create(self.path, error)) from error
        try:
            self._number = self._prepare()
            self._map = mmap.mmap(self._fd, _START + self._count * SEGMENT)
        except BaseException:
            os.close(self._fd)
            raise
        self._header = Header()
        self._encoder = Encoder()
        self._position = self._end = 0
        self._closed = False

    def begin(self, header: Header) -> None:
        if len(Encoder().encode(header)) > SEGMENT // 2:
            header = replace(header, arguments=[], state={})
        self._header = header
        self._next_segment()
        self._header = replace(header, first=False)

    def write(self, event: Event) -> None:
        record = self._encoder.encode(event)
        if self._position + len(record) + len(TERMINATOR) > self._end:
            self._next_segment()
            record = self._encoder.encode(event)
            if self._position + len(record) + len(TERMINATOR) > self._end:
                self._write_long(event)
                return
        start, self._position = self._position, self._position + len(record)
        self._map[start : self._position + len(TERMINATOR)] = record + TERMINATOR

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._map.close()
            os.close(self._fd)

    def abandon(self) -> None:
        self.close()

    def _write_long(self, event: Event) -> None:
        """Write serial data in pieces. Anything else that no segment has room for is counted as lost."""
        self._encoder = Encoder(self._number)  # the names that the last one has defined are not in the segment
        if isinstance(event, SerialData):
            for start in range(0, len(event.data), _PIECE):
                self.write(event._replace(data=event.data[start : start + _PIECE]))
        else:
            self.write(Lost(event.when_ns, 1))

    def _next_segment(self) -> None:
        """Begin the next segment, over the oldest one."""
        self._end = 0  # if a signal handler raises in here, the next event begins another one
        self._number += 1
        start = _START + (self._number - 1) % self._count * SEGMENT
        ring = self._map
        ring[start : start + _NUMBER.size] = bytes(_NUMBER.size)
        encoder = Encoder(self._number)
        first = encoder.encode(self._header)
        position = start + _NUMBER.size + len(first)
        ring[start + _NUMBER.size : position + len(TERMINATOR)] = first + TERMINATOR
        number = self._number.to_bytes(8, "little")
        ring[start : start + _NUMBER.size] = number + crc32(number).to_bytes(4, "little")
        self._encoder, self._position, self._end = encoder, position, start + SEGMENT

    def _prepare(self) -> int:
        """Lock the file, make it a ring if it is empty, and return the number of its last segment."""
        check_regular(self._fd, self.path)
        _lock(self._fd, self.path)
        new = os.fstat(self._fd).st_size == 0
        if new:
            os.pwrite(self._fd, _PREAMBLE.pack(RING_MAGIC, VERSION, SEGMENT, self._count), 0)
        elif self._read(0, len(RING_MAGIC)) != RING_MAGIC:
            raise RecordingError(
                f"{self.path}: the file exists and is not a flight recorder's ring; choose another path, or remove it"
            )
        size, count = _geometry(self._read, self.path)
        if (size, count) != (SEGMENT, self._count):
            raise RecordingError(
                f"{self.path}: the ring has {size_text(size * count)} and not {size_text(SEGMENT * self._count)}; "
                "keep its size, or move it away"
            )
        try:
            # Without its room, a full disk would kill the program when it writes (SIGBUS).
            os.posix_fallocate(self._fd, 0, _START + count * SEGMENT)
        except OSError as error:
            if new:
                os.unlink(self.path)
            raise RecordingError(
                f"{self.path}: no room for {size_text(count * SEGMENT)}: {str(error.strerror).lower()}; "
                "choose a smaller ring or another disk"
            ) from error
        return max((segment.number for segment in segments(self._read, self.path)), default=0)

    def _read(self, start: int, size: int) -> bytes:
        # No other descriptor of the file is opened: closing it would end the lock (fcntl_locking(2)).
        return os.pread(self._fd, size, start)


def open_ring(text: str) -> Ring:
    """Return the ring of an option "PATH" or "PATH,SIZE", such as "flight.ring,16M" (K, M and G are powers of 1024).

    Raises ValueError for another text, and `RecordingError` as `Ring` does.
    """
    path, comma, size = text.rpartition(",")
    if not comma:
        path, size = text, str(DEFAULT)
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMG]?)(?:i?B)?", size.strip(), re.IGNORECASE)
    if match is None or not path:
        raise ValueError(f"a recorder is PATH or PATH,SIZE, such as flight.ring,16M, not {text!r}")
    return Ring(path, int(float(match[1]) * _UNITS[match[2].upper()]))


def segments(read: Read, path: str) -> list[Segment]:
    """Return the segments of a ring that are in use, the oldest first. Raises `RecordingError` if it is not a ring.

    The program may go on writing meanwhile: a segment that it is about to overwrite is left out.
    """
    size, count = _geometry(read, path)
    found = []
    for index in range(count):
        data = read(_START + index * size, size)
        if len(data) < _NUMBER.size:
            break
        number, checksum = _NUMBER.unpack_from(data)
        if number and checksum == crc32(data[:8]) and (number - 1) % count == index:
            found.append(Segment(number, data[_NUMBER.size :]))
    found.sort()
    return found


def size_text(size: int) -> str:
    """Return a number of bytes for people: "8 MiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


def _geometry(read: Read, path: str) -> tuple[int, int]:
    """Return the size of a segment and the number of segments."""
    start = read(0, _PREAMBLE.size).ljust(_PREAMBLE.size, b"\0")
    magic, version, size, count = _PREAMBLE.unpack(start)
    if magic != RING_MAGIC:
        raise RecordingError(f"{path}: not a flight recorder's ring")
    check_version(path, version)
    if not _NUMBER.size < size <= 1 << 30 or not 0 < count <= 1 << 24:
        raise RecordingError(f"{path}: the first bytes of the ring are damaged; there is nothing to read")
    return size, count


def _lock(fd: int, path: str) -> None:
    """Lock the file for this process. A forked child does not inherit the lock, so that it can't outlive its parent."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordingError(
            f"{path}: another process records into this ring; give each program a file of its own"
        ) from None
    except OSError as error:
        raise RecordingError(f"{path}: the file can't be locked: {str(error.strerror).lower()}") from error
