"""u-blox's binary protocol: frames with a checksum, and the receiver's configuration in them.

By "u-blox 8 / u-blox M8 Receiver description including protocol specification" (UBX-13003221) and, for CFG-VALSET, the
"u-blox F9 HPG 1.32 interface description" (UBX-22008968).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SYNC = b"\xb5\x62"
NAV_PVT, MON_VER = (0x01, 0x07), (0x0A, 0x04)
ACK, NAK = (0x05, 0x01), (0x05, 0x00)
CFG_PRT, CFG_MSG, CFG_RATE, CFG_VALSET = (0x06, 0x00), (0x06, 0x01), (0x06, 0x08), (0x06, 0x8A)
_ACCEPTED = frozenset({(0x06, number) for number in (0x00, 0x01, 0x02, 0x04, 0x08, 0x09, 0x11, 0x13, 0x16, 0x23, 0x24)})
"""Configuration messages that are acknowledged although they change nothing here."""
_VALUE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}
KEY_RATE, KEY_PVT, KEY_UBX_OUT, KEY_NMEA_OUT = 0x30210001, 0x20910007, 0x10740001, 0x10740002


class Frame(NamedTuple):
    """A message: its class and number, and its payload."""

    kind: tuple[int, int]
    payload: bytes


def framed(kind: tuple[int, int], payload: bytes = b"") -> bytes:
    """Return a message as bytes, with its checksum (section 32.4)."""
    body = bytes(kind) + len(payload).to_bytes(2, "little") + payload
    return SYNC + body + checksum(body)


def checksum(body: bytes) -> bytes:
    """Return the two bytes of Fletcher's sum of a message without its sync bytes."""
    first = second = 0
    for byte in body:
        first = first + byte & 0xFF
        second = second + first & 0xFF
    return bytes([first, second])


def known(kind: tuple[int, int]) -> bool:
    """Return whether a receiver acknowledges this configuration message."""
    return kind in _ACCEPTED or kind == CFG_VALSET


def values(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield the keys and values of a CFG-VALSET. Raises ValueError for one that is cut off."""
    place = 4
    while place < len(payload):
        key = int.from_bytes(payload[place : place + 4], "little")
        size = _VALUE_SIZES.get(key >> 28 & 7, 0)
        value = payload[place + 4 : place + 4 + size]
        if not size or len(value) < size:
            raise ValueError(f"no value for the key {key:#x}")
        yield key, int.from_bytes(value, "little")
        place += 4 + size


class Scanner:
    """The messages and text lines in the bytes that a program writes to a receiver."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame | bytes]:
        """Yield each complete message, and each line of text from "$" on; drop the rest, and wrong checksums."""
        self._rest += data
        while self._rest:
            if self._rest[:1] == b"$":
                line, end, rest = self._rest.partition(b"\n")
                if not end:
                    return
                self._rest = rest
                yield line.strip()
            elif self._rest[:2] == SYNC:
                if len(self._rest) < 6:
                    return
                length = int.from_bytes(self._rest[4:6], "little")
                if len(self._rest) < 8 + length:
                    return
                body, given = self._rest[2 : 6 + length], self._rest[6 + length : 8 + length]
                self._rest = self._rest[8 + length :]
                if checksum(body) == given:
                    yield Frame((body[0], body[1]), body[4:])
            elif self._rest == SYNC[:1]:
                return
            else:
                self._rest = self._rest[1:]
