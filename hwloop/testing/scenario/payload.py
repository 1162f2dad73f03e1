"""Bytes in scenarios: text or hexadecimal digits, in the frame of a protocol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

from firmware_sim.devices.modbus import crc16
from firmware_sim.nmea import sentence
from hwloop.testing.scenario.errors import KeyProblem

Framing = Literal["none", "line", "nmea", "modbus"]
"""line: ended by CR LF. nmea: `$`, checksum and CR LF around it. modbus: followed by the CRC of Modbus RTU."""


def _nmea(data: bytes) -> bytes:
    return sentence(data.decode("ascii"))


_FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "line": lambda data: data + b"\r\n",
    "nmea": _nmea,
    "modbus": lambda data: data + crc16(data),
}
assert set(_FRAMES) == set(get_args(Framing))


def payload(text: str | None, digits: str | None, frame: Framing, *others: object) -> bytes:
    """Return the bytes of the keys `text` or `hex`, in their frame. Raises `KeyProblem`.

    `others` are alternatives to both keys.
    """
    if sum(each is not None for each in (text, digits, *others)) != 1:
        raise KeyProblem("", "give the bytes by one key: text, or hex" + (", or log" if others else ""))
    if text is None and digits is None:
        return b""
    if digits is not None:
        data = parse_hex("hex", digits)
    else:
        assert text is not None
        data = text.encode("utf-8")
        if frame == "nmea":
            if not text.isascii():
                raise KeyProblem("text", f"an NMEA sentence is ASCII, not {text!r}")
            if text.startswith("$") or "*" in text:
                raise KeyProblem("text", "frame = 'nmea' adds '$' and the checksum; write what is between them")
    if not data:
        raise KeyProblem("text" if digits is None else "hex", "no bytes in it")
    return _FRAMES[frame](data)


def parse_hex(key: str, digits: str) -> bytes:
    """Return the bytes that hexadecimal digits stand for. Raises `KeyProblem`."""
    try:
        return bytes.fromhex(re.sub(r"[\s_:]|0x", " ", digits))
    except ValueError:
        raise KeyProblem(key, f"must be pairs of hexadecimal digits like '01 a0', not {digits!r}") from None
