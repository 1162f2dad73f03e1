"""The kernel's own record of what its GPIO code does: each level that is set, each direction that is changed.

(include/trace/events/gpio.h; Documentation/trace/ftrace.rst)
"""

from __future__ import annotations

import subprocess
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
EVENTS = TRACING / "events/gpio"


class GpioTrace:
    """The changes of all lines from now on."""

    def __init__(self) -> None:
        if not (TRACING / "events").is_dir():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=True)
        self.clear()
        (EVENTS / "enable").write_text("1")

    def clear(self) -> None:
        (TRACING / "trace").write_text("")

    def changes(self) -> list[str]:
        """Those since the last `clear`, in order: "set 1" and "out", "in" for a direction; electrical levels."""
        found = []
        for line in (TRACING / "trace").read_text().splitlines():
            words = line.split()
            if " gpio_value: " in line and words[-2] == "set":
                found.append(f"set {words[-1]}")
            elif " gpio_direction: " in line:
                found.append(words[-2])
        return found

    def levels(self, base: int) -> dict[int, list[int]]:
        """The levels set since the last `clear`, by line; the first line of the chip has the number `base`."""
        found: dict[int, list[int]] = {}
        for line in (TRACING / "trace").read_text().splitlines():
            words = line.partition(" gpio_value: ")[2].split()
            if words and words[1] == "set":
                found.setdefault(int(words[0]) - base, []).append(int(words[2]))
        return found

    def close(self) -> None:
        (EVENTS / "enable").write_text("0")
