"""Reading recordings: files of `hwloop record` and rings of the flight recorder.

    for run in recording.read("run.hwlog"):
        print(run.header.board, run.header.program)
        for event in run:
            print(event)

A file has one run; a ring has the last runs of a service, the oldest first. Events are read from the file as they are
asked for.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO
from zlib import crc32

from hwloop.recording.format import (
    FRAME,
    INVALID,
    RECORD_MAX,
    TERMINATOR,
    Decoder,
    Ended,
    Entry,
    Event,
    Header,
    RecordingError,
    read_file_preamble,
)
from hwloop.recording.ring import RING_MAGIC, Segment, segments


class Run:
    """The events of one run of a program, to iterate over.

    Attributes:
        header: the circumstances.
        ending: how the recording ends: "closed" in order; "open" without an end, as when the program was killed or
            still runs; "cut" within a record; "damaged" where a record is not what was written. Empty before the
            events have been read.
        end_offset: where the last complete record ends: bytes from the start of the file, or of a ring's segment.
    """

    def __init__(self, header: Header, path: str, parts: Sequence[Segment] = ()) -> None:
        self.header = header
        self.ending: str = ""
        self.end_offset: int = 0
        self._path, self._parts = path, tuple(parts)

    def __iter__(self) -> Iterator[Event]:
        self.ending = ""
        if not self._parts:
            with open(self._path, "rb") as stream:
                read_file_preamble(stream, self._path)
                yield from self._events(_Records(stream))
            return
        damaged = False
        for number, data in self._parts:
            damaged = damaged or self.ending == "damaged"
            yield from self._events(_Records(io.BytesIO(data), number))
        # In the last segment the record that is being written looks damaged, and is cut off.
        self.ending = "damaged" if damaged else "cut" if self.ending == "damaged" else self.ending

    def _events(self, records: _Records) -> Iterator[Event]:
        for entry in records:
            if not isinstance(entry, Header):
                yield entry
        self.ending, self.end_offset = records.ending, records.offset


class _Records:
    """The entries of a segment, up to its end or the first record that is not complete.

    Attributes:
        ending, offset: as of a `Run`.
    """

    def __init__(self, stream: BinaryIO, number: int = 0) -> None:
        self.ending: str = "open"
        self.offset: int = stream.tell()
        self._stream, self._seed = stream, number & 0xFFFFFFFF

    def __iter__(self) -> Iterator[Entry]:
        decoder, read = Decoder(), self._stream.read
        while (frame := read(FRAME.size)) and not frame.startswith(TERMINATOR):
            if len(frame) < FRAME.size:
                self.ending = "cut"
                return
            length, checksum = FRAME.unpack(frame)
            body = read(length) if length <= RECORD_MAX else b""
            if len(body) < length <= RECORD_MAX:
                self.ending = "cut"
                return
            try:
                if crc32(body, self._seed) != checksum:
                    raise ValueError
                entry = decoder.decode(body)
            except INVALID:
                self.ending = "damaged"
                return
            self.offset += FRAME.size + length
            if isinstance(entry, Ended):
                self.ending = "closed"
            if entry is not None:
                yield entry


def read(path: str | os.PathLike[str]) -> list[Run]:
    """Return the runs in a recording, the oldest first. Raises `RecordingError` if the file can't be read.

    A ring may be read while a program records into it; the runs are those of this moment.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as stream:
            if stream.read(len(RING_MAGIC)) == RING_MAGIC:
                return _ring_runs(stream, name)
            stream.seek(0)
            read_file_preamble(stream, name)
            header = next(iter(_Records(stream)), None)
    except IsADirectoryError:
        raise RecordingError(f"{name}: is a directory; give the path of a recording") from None
    except OSError as error:
        raise RecordingError(f"{name}: {str(error.strerror).lower()}") from error
    if not isinstance(header, Header):
        raise RecordingError(f"{name}: the recording is cut off or damaged in its header; there is nothing to read")
    return [Run(header, name)]


def _ring_runs(stream: BinaryIO, name: str) -> list[Run]:
    """Return the runs of a ring: segments in a row with the same header belong together."""

    def read_at(start: int, size: int) -> bytes:
        stream.seek(start)
        return stream.read(size)

    found = list[tuple[Header, list[Segment]]]()
    for segment in segments(read_at, name):
        header = next(iter(_Records(io.BytesIO(segment.data), segment.number)), None)
        if not isinstance(header, Header):
            continue  # it is being overwritten at this moment
        if found and replace(found[-1][0], first=header.first) == header and not header.first:
            found[-1][1].append(segment)
        else:
            found.append((header, [segment]))
    return [Run(header, name, parts) for header, parts in found]
