"""The wires of tests/kernel besides the lines of gpio-sim: device nodes, an I2C bus, and changes at their times."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def linked(path: str, target: str) -> Iterator[None]:
    """A device node under another name, as udev makes them."""
    os.symlink(target, path)
    try:
        yield
    finally:
        os.unlink(path)


@contextlib.contextmanager
def stub_bus(address: int) -> Iterator[Callable[[int, bytes], None]]:
    """Make bus 1, with the registers of i2c-stub at an address. Yield a function that writes bytes from a register on.

    (Documentation/i2c/i2c-stub.rst)
    """
    from smbus2 import SMBus

    subprocess.run(["insmod", "/guest/modules/i2c-stub.ko", f"chip_addr={address}"], check=True)
    try:
        (adapter,) = (p for p in Path("/sys/class/i2c-adapter").iterdir() if "stub" in (p / "name").read_text())
        with linked("/dev/i2c-1", f"/dev/{adapter.name}"), SMBus(1) as bus:

            def write(first: int, values: bytes) -> None:
                for place, value in enumerate(values):
                    bus.write_byte_data(address, first + place, value)

            yield write
    finally:
        subprocess.run(["rmmod", "i2c-stub"], check=True)


def at_their_times(events: list[tuple[int, Callable[[], object]]]) -> threading.Thread:
    """Have a thread call functions at their times, in nanoseconds from now.

    A call that is late makes those after it late as well: no two follow one another faster than planned, and none comes
    before the one before it has returned.
    """

    def main() -> None:
        before_ns = 0
        for when_ns, call in events:
            time.sleep((when_ns - before_ns) / 1e9)
            before_ns = when_ns
            call()

    thread = threading.Thread(target=main)
    thread.start()
    return thread
