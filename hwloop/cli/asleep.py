"""Sensors that sleep until a program wakes them, and read as their reset value until then.

Most sensors start in a sleep mode. Their data registers can be read all the same, and give a constant that looks like
a measurement: 0x80000 for a BME280. So a reading that is such a constant is checked: is the part at the address the
one that has it, and does its mode register say that it sleeps? Nothing is written, and a part that does not answer as
expected is none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwloop.errors import HardwareError
from hwloop.sources.i2c import Device


@dataclass(frozen=True)
class Part:
    """A sensor, by the registers of its datasheet."""

    names: dict[int, str]
    """By the value of its identity register."""
    identity: int
    addresses: tuple[int, ...]
    data: int
    """The first of its data registers."""
    reset: bytes
    """What they hold before the first measurement."""
    mode: int
    """The register that says whether it sleeps."""
    mask: int
    sleeping: int
    """The value of the masked bits in sleep mode."""
    wake: int
    """The value of that register that has it measure."""


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
                return ""  # it is another part, and has no such registers
    return ""


def _may_be_reset(part: Part, register: int, data: bytes) -> bool:
    """Whether `data` has bytes of the part's data registers, all with their reset values."""
    start, end = max(register, part.data), min(register + len(data), part.data + len(part.reset))
    return start < end and data[start - register : end - register] == part.reset[start - part.data : end - part.data]


async def _asleep(part: Part, device: Device) -> str:
    name = part.names.get(await device.read_register(part.identity))
    if name is None or await device.read_register(part.mode) & part.mask != part.sleeping:
        return ""
    length = 6 if name == "BMP280" else len(part.reset)  # which has no humidity
    if await device.read_block(part.data, length) != part.reset[:length]:
        return ""  # measured once, and asleep again since
    wake = f"i2cset -y {device.bus.number} {device.address:#04x} {part.mode:#04x} {part.wake:#04x}"
    return f"{name} sleeps and has measured nothing yet; wake it with {wake}"
