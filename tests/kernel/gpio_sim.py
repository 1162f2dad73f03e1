"""A GPIO chip of the kernel's own simulator, made and driven through files.

gpio-sim sits below the kernel's GPIO code: what opens its chip goes through the same character device, interrupt
handling and event buffers as on a Pi. A line's pull plays the world outside, as a wire would: writing it makes an edge.
(Documentation/admin-guide/gpio/gpio-sim.rst)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

CONFIGFS = Path("/sys/kernel/config/gpio-sim")
PLATFORM = Path("/sys/devices/platform")
HEADER = {number: f"GPIO{number}" for number in range(2, 28)}
"""The lines of a Raspberry Pi's header, by the names its kernel gives them."""

_TRAIN = """
import os, sys, time
fd, edges, period = os.open(sys.argv[1], os.O_WRONLY), int(sys.argv[2]), float(sys.argv[3])
levels = b"pull-up", b"pull-down"
due = time.monotonic()
for place in range(edges):
    os.pwrite(fd, levels[place % 2], 0)
    if period:
        due = max(due, time.monotonic() - period / 2) + period  # what came late is not made up for by a rush
        time.sleep(max(due - time.monotonic(), 0))
"""


class GpioSim:
    """One simulated chip; to `hwloop.boards.linux` it is that of a Raspberry Pi 4 unless it has another label.

    Parameters:
        label: the chip's label.
        lines: how many it has.
        names: of the lines, by number.
        taken: lines that the kernel itself holds (as it holds those of its LEDs), by number, and for what.
    """

    def __init__(
        self,
        label: str = "pinctrl-bcm2711",
        lines: int = 58,
        names: Mapping[int, str] = HEADER,
        taken: Mapping[int, str] | None = None,
    ) -> None:
        self._config = CONFIGFS / f"chip{len(list(CONFIGFS.iterdir()))}"
        self._pulls: dict[int, int] = {}
        bank = self._config / "bank"
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text(str(lines))
        (bank / "label").write_text(label)
        for number, name in names.items():
            (bank / f"line{number}").mkdir()
            (bank / f"line{number}/name").write_text(name)
        for number, user in (taken or {}).items():
            hog = bank / f"line{number}/hog"
            hog.mkdir(parents=True)
            (hog / "name").write_text(user)
            (hog / "direction").write_text("input")
        self.plug_in()

    def plug_in(self) -> None:
        """Have the chip appear, as it does when it is made."""
        (self._config / "live").write_text("1")
        self.plugged_in = True
        name = (self._config / "bank/chip_name").read_text().strip()
        self.number = int(name.removeprefix("gpiochip"))
        self.path = f"/dev/{name}"
        self._sysfs = PLATFORM / (self._config / "dev_name").read_text().strip() / name
        give_up = time.monotonic() + 10
        while not os.path.exists(self.path) and time.monotonic() < give_up:
            time.sleep(0.01)

    def unplug(self) -> None:
        """Have the chip vanish, whoever uses it."""
        for fd in self._pulls.values():
            os.close(fd)
        self._pulls.clear()
        if self.plugged_in:
            (self._config / "live").write_text("0")
            self.plugged_in = False

    def drive(self, line: int, *levels: int) -> None:
        """Put a line to each of these electrical levels in turn, as fast as it goes."""
        fd = self._pulls.get(line)
        if fd is None:
            fd = self._pulls[line] = os.open(self._sysfs / f"sim_gpio{line}/pull", os.O_WRONLY | os.O_CLOEXEC)
        for level in levels:
            os.pwrite(fd, b"pull-up" if level else b"pull-down", 0)

    def level(self, line: int) -> int:
        """A line's electrical level now."""
        return int((self._sysfs / f"sim_gpio{line}/value").read_text())

    def base(self) -> int:
        """The number that its first line has in the kernel, by which the trace calls it."""
        lines = Path("/sys/kernel/debug/gpio").read_text().splitlines()
        chip = next(line for line in lines if line.startswith(f"gpiochip{self.number}: "))
        return int(chip.split("GPIOs ")[1].partition("-")[0])

    def pull(self, line: int) -> str:
        """The file of the pull of a line."""
        return str(self._sysfs / f"sim_gpio{line}/pull")

    def train(self, line: int, edges: int, rate: float = 0) -> subprocess.Popen[bytes]:
        """Have another process make edges on a line that is low: at most `rate` a second, or as fast as it goes."""
        pull = str(self._sysfs / f"sim_gpio{line}/pull")
        return subprocess.Popen([sys.executable, "-SEc", _TRAIN, pull, str(edges), str(1 / rate if rate else 0)])

    def close(self) -> None:
        self.unplug()
        for hog in self._config.glob("bank/line*/hog"):
            hog.rmdir()
        for line in self._config.glob("bank/line*"):
            line.rmdir()
        (self._config / "bank").rmdir()
        self._config.rmdir()
