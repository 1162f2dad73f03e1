"""Sensors that sleep until a program wakes them, and read as their reset value until then.

Most sensors start in a sleep mode. Their data registers can be read even so, and return a constant that looks like a
measurement: 0x80000 for a BME280. So a reading of such a constant is checked: is this the part with that constant, and
does its mode register say that it sleeps? Nothing is written, and a part that answers differently is not one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwloop.errors import HardwareError
from hwloop.sources.i2c import Device


@dataclass(frozen=True)
class Part:
    """A sensor and the registers of its datasheet."""

    names: dict[int, str]
    """The names by the value of the identity register."""
    identity: int
    addresses: tuple[int, ...]
    data: int
    """The first of its data registers."""
    reset: bytes
    """Their content before the first measurement."""
    mode: int
    """The register with the sleep mode."""
    mask: int
    sleeping: int
    """The value of the masked bits in sleep mode."""
    wake: int
    """The value of that register that starts measuring."""


PARTS = (
    Part(  # BST-BME280-DS002 and BST-BMP280-DS001, "Register description"
        names={0x60: "BME280", 0x58: "BMP280"},
        identity=0xD0,
        addresses=(0x76, 0x77),
        data=0xF7,
        reset=bytes.fromhex("80 00 00 80 00 00 80 00"),
        mode=0xF4,
        mask=0x03,
        sleeping=0x00,
        wake=0x27,
    ),
    Part(  # RM-MPU-6000A-00, "Power Management 1", "Accelerometer Measurements" and those that follow
        names={0x68: "MPU-6050"},
        identity=0x75,
        addresses=(0x68, 0x69),
        data=0x3B,
        reset=bytes(14),
        mode=0x6B,
        mask=0x40,
        sleeping=0x40,
        wake=0x00,
    ),
    Part(  # ADXL345, Rev. E, "Register definitions"
        names={0xE5: "ADXL345"},
        identity=0x00,
        addresses=(0x53, 0x1D),
        data=0x32,
        reset=bytes(6),
        mode=0x2D,
        mask=0x08,
        sleeping=0x00,
        wake=0x08,
    ),
)


async def asleep(device: Device, register: int, data: bytes) -> str:
    """Return what to do if `data`, read from `register` on, is the reset value of a sensor that sleeps; else ""."""
    for part in PARTS:
        if device.address in part.addresses and _may_be_reset(part, register, data):
            try:
                return await _asleep(part, device)
            except HardwareError:
                return ""  # another part, without these registers
    return ""


def _may_be_reset(part: Part, register: int, data: bytes) -> bool:
    """Return whether `data` is from the part's data registers, all with their reset values."""
    start, end = max(register, part.data), min(register + len(data), part.data + len(part.reset))
    return start < end and data[start - register : end - register] == part.reset[start - part.data : end - part.data]


async def _asleep(part: Part, device: Device) -> str:
    name = part.names.get(await device.read_register(part.identity))
    if name is None or await device.read_register(part.mode) & part.mask != part.sleeping:
        return ""
    length = 6 if name == "BMP280" else len(part.reset)  # a BMP280 has no humidity
    if await device.read_block(part.data, length) != part.reset[:length]:
        return ""  # it has measured once, and sleeps again
    wake = f"i2cset -y {device.bus.number} {device.address:#04x} {part.mode:#04x} {part.wake:#04x}"
    return f"{name} sleeps and has measured nothing yet; wake it with {wake}"
