"""The text of a thermometer's file, as the kernel's driver writes it (drivers/w1/slaves/w1_therm.c).

    50 05 4b 46 7f ff 0c 10 1c : crc=1c YES
    50 05 4b 46 7f ff 0c 10 1c t=85000

Two readings are no measurements. One with a wrong checksum has the word NO; later kernels try again themselves, and
leave the file empty. And a sensor whose supply failed during its conversion still has the value of power-on, which is
85 °C. A measured 85 °C differs from that in the sixth byte, which counts down from 0x10 in real parts (0x0C at
power-on).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = re.compile(r"((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (YES|NO)\s+(?:[0-9a-f]{2} ){9}t=(-?\d+)")


class Measurement(NamedTuple):
    """A reading of a thermometer."""

    celsius: float
    power_on: bool
    """Whether it is the value of power-on."""


class ChecksumError(ValueError):
    """A reading with a wrong checksum, or an empty one."""


def parse(text: str) -> Measurement:
    """Return the reading in the text of a file `w1_slave`. Raises `ChecksumError`, or ValueError for another text."""
    if not text.strip():
        raise ChecksumError("the kernel has read no valid answer of the sensor")
    found = _TEXT.match(text)
    if found is None:
        raise ValueError(f"the file has an unknown format: {text[:80]!r}")
    if found[2] == "NO":
        raise ChecksumError(f"the answer of the sensor has a wrong checksum: {found[1].strip()}")
    scratchpad = bytes.fromhex(found[1])
    return Measurement(int(found[3]) / 1000, scratchpad[:2] == b"\x50\x05" and scratchpad[6] == 0x0C)
