"""The lines that the PWM of a Raspberry Pi drives: those that an overlay has given to it.

`dtoverlay=pwm` and its relatives switch the function of pins when the Pi starts. The device tree has the result: the
node of the PWM refers to groups of pins, and each pin that can be a PWM's has one channel.
"""

from __future__ import annotations

import glob
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from hwloop.boards.pwm_output import PwmChannel

_SYS, _TREE = "/sys/class/pwm", "/proc/device-tree"
_CHANNELS: Mapping[bool, Mapping[int, int]] = {
    False: {12: 0, 18: 0, 40: 0, 13: 1, 19: 1, 41: 1, 45: 1},  # BCM2835 ARM peripherals, 6.2, and BCM2711, 5.3
    True: {12: 0, 13: 1, 14: 2, 15: 3, 18: 2, 19: 3},  # RP1 peripherals, 3.1.1
}
"""The channel of each line: on the Pi 0 to 4, and on one with an RP1."""
_GROUPS = ("soc/gpio@*/*", "axi/pcie@*/rp1/gpio@*/*")


def find_channel(line: int, sys: str = _SYS, tree: str = _TREE) -> PwmChannel | None:
    """Return the channel that drives a line of the header's chip; None if it is no PWM's now."""
    for chip in sorted(glob.glob(os.path.join(glob.escape(sys), "pwmchip*"))):
        node = Path(chip, "device", "of_node")
        try:
            channels = _CHANNELS[b"rp1" in (node / "compatible").read_bytes()]
            wanted = set(_words((node / "pinctrl-0").read_bytes()))
        except OSError:
            continue  # another kind of PWM, or one without pins
        if line in channels and line in _pins(wanted, tree):
            return PwmChannel(chip, channels[line])
    return None


def _pins(phandles: set[int], tree: str) -> Iterator[int]:
    """Yield the pins of the groups with these handles."""
    for pattern in _GROUPS:
        for found in glob.glob(os.path.join(glob.escape(tree), pattern, "phandle")):
            group = Path(found).parent
            if set(_words(Path(found).read_bytes())) & phandles:
                if (group / "brcm,pins").exists():
                    yield from _words((group / "brcm,pins").read_bytes())
                elif (group / "pins").exists():
                    yield from map(int, re.findall(rb"gpio(\d+)\0", (group / "pins").read_bytes()))


def _words(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 4}I", data[: len(data) // 4 * 4])
