"""The Raspberry Pi that a simulated board poses as: its model, and the files by which programs find out.

Libraries choose pins and drivers by the computer that they run on. gpiozero and RPi.GPIO read the revision code, Blinka
reads the device tree and /proc/cpuinfo. These are the files of Raspberry Pi OS, made of the revision code alone.
The codes: https://www.raspberrypi.com/documentation/computers/raspberry-pi.html#raspberry-pi-revision-codes
"""

from __future__ import annotations

from typing import NamedTuple

from firmware_sim.nodes import File, Link, Nodes

LINE_NAMES = {0: "ID_SDA", 1: "ID_SCL"}
"""Names of lines that the device tree of Raspberry Pi OS gives otherwise than "GPIO" and the BCM number."""

_TREE = "/sys/firmware/devicetree/base"
_SERIAL = 0x1000_0000_5107_DE4D
_NEW_STYLE = 1 << 23

_CHIPS = {0: "bcm2835", 1: "bcm2836", 2: "bcm2837", 3: "bcm2711", 4: "bcm2712"}
_CORES = {"bcm2835": 1}  # and four in all others
_PARTS = {  # of a core: architecture, number and revision as /proc/cpuinfo has them
    "bcm2835": ("7", "0xb76", "7"),
    "bcm2836": ("7", "0xc07", "5"),
    "bcm2837": ("8", "0xd03", "4"),
    "bcm2711": ("8", "0xd08", "3"),
    "bcm2712": ("8", "0xd0b", "1"),
}
_TYPES = {
    0x00: ("Model A", "model-a"),
    0x01: ("Model B", "model-b"),
    0x02: ("Model A Plus", "model-a-plus"),
    0x03: ("Model B Plus", "model-b-plus"),
    0x04: ("2 Model B", "2-model-b"),
    0x06: ("Compute Module", "compute-module"),
    0x08: ("3 Model B", "3-model-b"),
    0x09: ("Zero", "model-zero"),
    0x0A: ("Compute Module 3", "3-compute-module"),
    0x0C: ("Zero W", "model-zero-w"),
    0x0D: ("3 Model B Plus", "3-model-b-plus"),
    0x0E: ("3 Model A Plus", "3-model-a-plus"),
    0x10: ("Compute Module 3 Plus", "3-compute-module-plus"),
    0x11: ("4 Model B", "4-model-b"),
    0x12: ("Zero 2 W", "model-zero-2-w"),
    0x13: ("400", "400"),
    0x14: ("Compute Module 4", "4-compute-module"),
    0x15: ("Compute Module 4S", "4-compute-module-s"),
    0x17: ("5 Model B", "5-model-b"),
    0x18: ("Compute Module 5", "5-compute-module"),
    0x19: ("500", "500"),
    0x1A: ("Compute Module 5 Lite", "5-compute-module-lite"),
}
_OLD_TYPES = {  # by the old codes: type, and revision of the board
    **dict.fromkeys((0x02, 0x03), (0x01, 1)),
    **dict.fromkeys((0x04, 0x05, 0x06, 0x0D, 0x0E, 0x0F), (0x01, 2)),
    **dict.fromkeys((0x07, 0x08, 0x09), (0x00, 2)),
    **dict.fromkeys((0x10, 0x13), (0x03, 1)),
    **dict.fromkeys((0x12, 0x15), (0x02, 1)),
    **dict.fromkeys((0x11, 0x14), (0x06, 1)),
}


class Model(NamedTuple):
    """A model of the Raspberry Pi."""

    name: str
    """As the firmware gives it: "Raspberry Pi 4 Model B Rev 1.1"."""
    compatible: tuple[str, ...]
    """The compatible values of its device tree, the most special first."""
    chip: str
    """Its processor: "bcm2711"."""

    @property
    def has_rp1(self) -> bool:
        """Whether its header is on an RP1, as on the Pi 5."""
        return self.chip == "bcm2712"

    @property
    def pwm_lines(self) -> tuple[int, ...]:
        """The lines of the channels of its PWM, as the overlay pwm-2chan sets them up."""
        return (12, 13, 18, 19) if self.has_rp1 else (18, 19)


def model(revision: int) -> Model:
    """Return the model of a revision code. A code that stands for none is a Raspberry Pi without a further name."""
    if revision & _NEW_STYLE:
        kind, release, chip = revision >> 4 & 0xFF, revision & 0xF, _CHIPS.get(revision >> 12 & 0xF, "bcm2835")
    else:
        kind, release = _OLD_TYPES.get(revision & 0xFF, (-1, 0))
        chip = "bcm2835"
    name, compatible = _TYPES.get(kind, ("", "model-b"))
    return Model(
        " ".join(["Raspberry Pi", *name.split(), f"Rev 1.{release}"]),
        (f"raspberrypi,{compatible}", f"brcm,{chip}"),
        chip,
    )


def header_chip(revision: int) -> str:
    """Return the label of the GPIO chip with the lines of the header."""
    found = model(revision)
    if found.has_rp1:
        return "pinctrl-rp1"
    return "pinctrl-bcm2711" if found.chip == "bcm2711" else "pinctrl-bcm2835"


def add_files(nodes: Nodes, revision: int) -> None:
    """Add the files that say which Raspberry Pi this is."""
    found = model(revision)
    tree = {
        "model": found.name.encode() + b"\0",
        "compatible": "".join(f"{each}\0" for each in found.compatible).encode(),
        "serial-number": f"{_SERIAL:016x}\0".encode(),
        "system/linux,revision": revision.to_bytes(4, "big"),
        "system/linux,serial": _SERIAL.to_bytes(8, "big"),
    }
    for name, content in tree.items():
        nodes.add(f"{_TREE}/{name}", File(content))
    nodes.add("/proc/device-tree", Link(_TREE))
    nodes.add("/sys/class/thermal/thermal_zone0/temp", File(b"48312\n"))  # of the processor, in thousandths of a °C
    nodes.add("/proc/cpuinfo", File(_cpuinfo(found, revision).encode()))


def _cpuinfo(found: Model, revision: int) -> str:
    architecture, part, release = _PARTS[found.chip]
    cores = [
        f"processor\t: {number}\n"
        "BogoMIPS\t: 108.00\n"
        "Features\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\n"
        f"CPU architecture: {architecture}\n"
        "CPU variant\t: 0x0\n"
        f"CPU part\t: {part}\n"
        f"CPU revision\t: {release}\n\n"
        for number in range(_CORES.get(found.chip, 4))
    ]
    return "".join(cores) + f"Revision\t: {revision:x}\nSerial\t\t: {_SERIAL:016x}\nModel\t\t: {found.name}\n"
