"""Faults on the wire of a serial port, where a simulated port lets them act.

A fault changes what a device sends before it is on the wire, characters on the wire, or the batches in which an adapter
hands them over. `delivered` says what becomes of a character with a parity or framing error: the kernel's line
discipline decides it by the flags that the program has set (termios(3); n_tty_receive_parity_error() in n_tty.c).
"""

from __future__ import annotations

import math
import termios
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

_BATCH = 8
"""Characters a UART collects before it hands them over: the PL011's receive FIFO of 16 triggers when half full."""


class Distortion:
    """A fault on the wire of a port. The port calls these methods; the defaults change nothing."""

    def message(self, data: bytes) -> Sequence[tuple[float, bytes]]:
        """Return what becomes of the data of one `Port.send`: pieces, with the seconds of silence before each."""
        return [(0.0, data)]

    def received(self, data: bytes) -> tuple[bytes, Collection[int]]:
        """Return the characters as the program's UART receives them, and the places of those with an error."""
        return data, ()

    def sent(self, data: bytes) -> bytes:
        """Return the characters that the program sends as the device receives them."""
        return data


class Batching(NamedTuple):
    """The batches of a USB adapter: it hands characters over when its timer ticks, or when a packet is full."""

    origin_ns: int
    """A time at which the timer ticks."""
    period_ns: int
    packet: int
    """Characters in a packet, at most."""

    def split(self, data: bytes, first_ns: int, character_ns: float) -> Iterator[tuple[int, bytes]]:
        """Yield the batches of a message, with their times. Its first character is complete at `first_ns`."""
        start = 0
        while start < len(data):
            begun_ns = first_ns + start * character_ns
            ticks = math.ceil((begun_ns - self.origin_ns) / self.period_ns)
            when_ns = self.origin_ns + ticks * self.period_ns
            left = len(data) - start
            count = min(left, int((when_ns - begun_ns) // character_ns) + 1 if character_ns else left)
            if count >= self.packet:
                count = self.packet
                when_ns = round(begun_ns + (count - 1) * character_ns)
            yield when_ns, data[start : start + count]
            start += count


def pieces(data: bytes, distortions: Iterable[Distortion]) -> list[tuple[float, bytes]]:
    """Return what faults leave of a message: pieces, with the seconds of silence before each."""
    left = [(0.0, data)]
    for distortion in distortions:
        before, left = left, []
        for pause, piece in before:
            for more, part in distortion.message(piece):
                left.append((pause + more, part))
                pause = 0.0
    return left


def collected(data: bytes, first_ns: int, character_ns: float, latency: float) -> list[tuple[int, bytes]]:
    """Return the batches of a UART, with their times: full ones, or those that `latency` seconds bring."""
    size = max(_BATCH, int(latency * 1e9 / character_ns))
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    ends = [*range(size, len(data), size), len(data)]
    return [(first_ns + round(end * character_ns), chunk) for chunk, end in zip(chunks, ends, strict=False)]


def cut_out(batches: Iterable[tuple[int, bytes]], bad: set[int]) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the pieces of a UART's batches, with their times, and whether a piece is one of the characters at the
    places `bad`, which have an error."""
    end = 0
    for arrival_ns, chunk in batches:
        start, place, end = end, 0, end + len(chunk)
        for at in sorted(it - start for it in bad if start <= it < end):
            yield arrival_ns, chunk[place:at], False
            yield arrival_ns, chunk[at : at + 1], True
            place = at + 1
        yield arrival_ns, chunk[place:], False


def delivered(fd: int, character: bytes) -> tuple[bytes, bool]:
    """Return the bytes that the terminal `fd` delivers for a character with an error, and whether they are a mark.

    Without INPCK the program gets the character itself, for then the driver does not check it. With IGNPAR it gets
    nothing, with PARMRK the mark 0xFF 0x00 and the character, else 0x00. pyserial clears INPCK.
    """
    iflag = termios.tcgetattr(fd)[0]
    if not iflag & termios.INPCK:
        return character, False
    if iflag & termios.IGNPAR:
        return b"", False
    return (b"\xff\0" + character, True) if iflag & termios.PARMRK else (b"\0", False)


def marks_errors(fd: int) -> bool:
    """Return whether the terminal `fd` marks characters with an error."""
    return bool(termios.tcgetattr(fd)[0] & termios.PARMRK)
