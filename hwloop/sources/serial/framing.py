"""Framers: where one message ends and the next begins, on a line that carries only bytes.

A serial line has no packets: a read may return half a message or three and a half, and after noise, a wrong baud rate
or an unplugged cable the next byte is in the middle of one. A framer cuts the stream into frames. It guarantees:

- the frames don't depend on how the stream was divided into reads;
- no input raises, and memory is bounded by the longest frame allowed;
- bytes that become no frame are counted (`skipped`), and as frames (`lost`), which the next frame carries.

The time at which a program reads a byte says little about the time at which it was on the wire: a Pi's UART delivers 8
(on the Pi 5: 16) characters at once, an FTDI adapter waits up to 16 ms, and a busy program reads late. That is why
`IdleGap` ends a frame only when the port reports that no more bytes are there, never by comparing the times of reads.
"""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from hwloop.core.naming import short_name

Check = Callable[[bytes], bool]
"""Returns whether a frame is intact (its checksum is right). An exception counts as "no", and is reported."""


class Frame(NamedTuple):
    """One message."""

    data: bytes
    """The message without its delimiter."""
    received_ns: int
    """The time at which its last byte was read: nanoseconds, the clock of `loop.time()`."""
    lost: int = 0
    """Frames known to be lost between the previous delivered one and this. A stretch of bytes that made no frame
    counts as one, or as many as it has room for where the length is fixed."""


class Framer(ABC):
    """Cuts a stream of bytes into frames. It keeps state, so each port needs a separate one.

    Attributes:
        skipped: bytes that became part of no frame, not counting delimiters.
        lost: the frames that these bytes stand for.
        check_error: the last exception of the check; the port reports it and sets it to None.
        user: the open port that uses the framer.
    """

    def __init__(self, check: Check | None = None) -> None:
        if check is not None and not callable(check):
            raise TypeError(f"check must be a function of bytes, not {check!r}")
        self.skipped: int = 0
        self.lost: int = 0
        self.check_error: BaseException | None = None
        self._check = check
        self._carried = 0
        self.user: object = None

    @abstractmethod
    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        """Return the frames that `data`, read at `now_ns`, completes."""

    def flush(self, now_ns: int) -> list[Frame]:
        """Return the frame that ends here, because the deadline has passed and no bytes are there."""
        return []

    @property
    def deadline_ns(self) -> int | None:
        """The time at which the incomplete frame ends if no more bytes arrive; None where time does not matter."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Drop the incomplete frame, which counts as lost: the line was interrupted."""

    def set_character_time(self, seconds: float) -> None:
        """Note the time of one character on the wire. Called by the port when it opens."""

    def _skip(self, size: int, frames: int) -> None:
        self.skipped += size
        self.lost += frames
        self._carried += frames

    def _sound(self, data: bytes) -> bool:
        if self._check is None:
            return True
        try:
            return bool(self._check(data))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.check_error = error
            return False

    def _frame(self, data: bytes, now_ns: int) -> Frame:
        lost, self._carried = self._carried, 0
        return Frame(data, now_ns, lost)


class Raw(Framer):
    """No framing: a frame is the bytes of one read."""

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        return [self._frame(data, now_ns)] if data else []

    def reset(self) -> None:
        pass


class Delimited(Framer):
    """Frames that end in `delimiter` (0xC0 for SLIP, 0x00 for COBS). Empty frames are ignored and not counted.

    Parameters:
        delimiter: the bytes that end a frame; not part of it.
        max_length: bytes of the longest frame; longer ones are skipped.
        check: returns whether a frame is intact; others are skipped.
    """

    def __init__(self, delimiter: bytes, *, max_length: int = 65536, check: Check | None = None) -> None:
        super().__init__(check)
        if not isinstance(delimiter, bytes) or not delimiter:
            raise ValueError(f"the delimiter must be at least one byte, as b'\\n', not {delimiter!r}")
        self._delimiter = delimiter
        self._max_length = _positive("max_length", max_length)
        self._buffer = bytearray()
        self._overlong = 0

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        buffer, delimiter = self._buffer, self._delimiter
        kept = len(delimiter) - 1
        # A delimiter may have begun at the end of the last read; nothing before that can match.
        search = max(0, len(buffer) - kept)
        buffer += data
        frames: list[Frame] = []
        if (end := buffer.find(delimiter, search)) >= 0:
            start = 0
            while end >= 0:
                self._end(bytes(buffer[start:end]), now_ns, frames)
                start = end + kept + 1
                end = buffer.find(delimiter, start)
            del buffer[:start]
        excess = len(buffer) - kept
        if excess > self._max_length:
            self._overlong += excess
            del buffer[:excess]
        return frames

    def reset(self) -> None:
        size = self._overlong + len(self._buffer)
        if size:
            self._skip(size, 1)
        self._buffer.clear()
        self._overlong = 0

    def _end(self, data: bytes, now_ns: int, frames: list[Frame]) -> None:
        size = self._overlong + len(data)
        self._overlong = 0
        if size > self._max_length:
            self._skip(size, 1)
            return
        data = self._strip(data)
        if not self._wanted(data):
            return
        if self._sound(data):
            frames.append(self._frame(data, now_ns))
        else:
            self._skip(size, 1)

    def _strip(self, data: bytes) -> bytes:
        return data

    def _wanted(self, data: bytes) -> bool:
        return bool(data)


class Lines(Delimited):
    """Lines of text, as bytes: `frame.data.decode("ascii")` converts one to a string.

    A carriage return before the terminator is removed, so both "\\n" and "\\r\\n" (NMEA, AT) end a line.
    Empty lines are frames too.

    Parameters:
        max_length: bytes of the longest line, its terminator not counted; longer ones are skipped.
        terminator: what ends a line; b"\\r" for devices that send only that.
        check: returns whether a line is intact (`check=bytes.isascii` rejects the garbage of a wrong baud rate).
    """

    def __init__(self, *, max_length: int = 65536, terminator: bytes = b"\n", check: Check | None = None) -> None:
        super().__init__(terminator, max_length=max_length, check=check)

    def _strip(self, data: bytes) -> bytes:
        return data.removesuffix(b"\r")

    def _wanted(self, data: bytes) -> bool:
        return True


class Fixed(Framer):
    """Frames of one length, such as a sensor's 32 bytes with a start mark and a checksum.

    Out of step (opened in the middle of a frame, a byte lost), it moves on to the next start mark, or by one byte,
    until the check passes. Without a start mark and a check it can't detect that it is out of step.

    Parameters:
        length: bytes of a frame, start mark and checksum included.
        start: the bytes it begins with.
        check: returns whether a frame is intact.

    Example, a PMS5003 (checksum: the sum of the first 30 bytes, in the last two):

        Fixed(32, start=b"BM", check=lambda frame: sum(frame[:30]) == int.from_bytes(frame[30:]))
    """

    def __init__(self, length: int, *, start: bytes = b"", check: Check | None = None) -> None:
        super().__init__(check)
        self._length = _positive("length", length)
        if not isinstance(start, bytes) or len(start) > length:
            raise ValueError(f"the start mark must be bytes, at most {length} of them, not {start!r}")
        self._start = start
        self._buffer = bytearray()
        self._run = 0

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        buffer, length, start = self._buffer, self._length, self._start
        buffer += data
        frames: list[Frame] = []
        position = 0
        while len(buffer) - position >= length:
            if not buffer.startswith(start, position):
                found = buffer.find(start, position)
                # Not there: only its beginning may be, in the last bytes.
                aligned = found if found >= 0 else len(buffer) - len(start) + 1
                self._run += aligned - position
                position = aligned
                continue
            candidate = bytes(buffer[position : position + length])
            if self._sound(candidate):
                self._end_run()
                frames.append(self._frame(candidate, now_ns))
                position += length
            else:
                self._run += 1
                position += 1
        del buffer[:position]
        return frames

    def reset(self) -> None:
        self._run += len(self._buffer)
        self._buffer.clear()
        self._end_run()

    def _end_run(self) -> None:
        if self._run:
            self._skip(self._run, -(-self._run // self._length))
            self._run = 0


class IdleGap(Framer):
    """Frames separated by silence, as in Modbus RTU (3.5 characters; Modbus over serial line 1.02, section 2.5.1.1).

    Two frames closer to each other than the gap arrive as one; a request and its reply never are that close.

    Parameters:
        gap: the silence that ends a frame, in seconds. None takes it from the port's baud rate.
        characters: the silence on the wire, where the baud rate decides. Sixteen are added, because a UART delivers as
            many at once, and the pause between two such batches must not look like silence.
        minimum: seconds of silence at least, where the baud rate decides: 20 ms outlast the 16 ms for which an FTDI
            adapter collects bytes. Choose less with `low_latency=True` or on the Pi's own UART.
        max_length: bytes of the longest frame (Modbus RTU: 256); longer ones are skipped.
        check: returns whether a frame is intact; others are skipped.
    """

    def __init__(
        self,
        gap: float | None = None,
        *,
        characters: float = 3.5,
        minimum: float = 0.02,
        max_length: int = 65536,
        check: Check | None = None,
    ) -> None:
        super().__init__(check)
        if gap is not None and gap <= 0:
            raise ValueError(f"gap must be more than 0 seconds, not {gap!r}")
        if characters < 0 or minimum < 0:
            raise ValueError(f"characters and minimum must be 0 or more, not {characters!r} and {minimum!r}")
        self._given = gap
        self._characters = characters
        self._minimum = minimum
        self._max_length = _positive("max_length", max_length)
        self._gap_ns = round((minimum if gap is None else gap) * 1e9)
        self._buffer = bytearray()
        self._overlong = 0
        self._last_ns = 0

    @property
    def gap(self) -> float:
        """The silence that ends a frame, in seconds."""
        return self._gap_ns / 1e9

    def set_character_time(self, seconds: float) -> None:
        if self._given is None:
            batch = 16  # the PL011's FIFO of 32 on a Pi 5, triggered half full; 8 on earlier ones
            self._gap_ns = round(max(self._minimum, (self._characters + batch) * seconds) * 1e9)

    @property
    def deadline_ns(self) -> int | None:
        return self._last_ns + self._gap_ns if self._buffer or self._overlong else None

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        if data:
            self._last_ns = now_ns
            self._buffer += data
            if self._overlong or len(self._buffer) > self._max_length:
                self._overlong += len(self._buffer)
                self._buffer.clear()
        return []

    def flush(self, now_ns: int) -> list[Frame]:
        deadline_ns = self.deadline_ns
        if deadline_ns is None or now_ns < deadline_ns:
            return []
        data = bytes(self._buffer)
        if self._overlong or not self._sound(data):
            self.reset()
            return []
        self._buffer.clear()
        return [self._frame(data, self._last_ns)]

    def reset(self) -> None:
        size = self._overlong + len(self._buffer)
        if size:
            self._skip(size, 1)
        self._buffer.clear()
        self._overlong = 0


def nmea_checksum(sentence: bytes) -> bool:
    """Return whether a line is an NMEA 0183 sentence with the right checksum, as `Lines(check=nmea_checksum)`.

    That is "$" or "!", a body, "*" and the XOR of the body's bytes as two hexadecimal digits.
    """
    body, star, digits = sentence[1:].rpartition(b"*")
    if sentence[:1] not in (b"$", b"!") or not star or len(digits) != 2:
        return False
    checksum = functools.reduce(operator.xor, body, 0)
    return digits.upper() == b"%02X" % checksum


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {short_name(value)}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")
    return value
