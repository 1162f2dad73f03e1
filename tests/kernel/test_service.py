"""The unit under a real systemd: its device rules let the program at the GPIO chip, and at nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim
from services import journal, let_services_use, needs_systemd, state, systemctl, wait_for, write_units

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

pytestmark = needs_systemd

PROGRAMS = Path("/etc/hwloop")
PROGRAM = """
import os
from hwloop import gpio

async def main():
    try:
        os.open("/dev/probe", os.O_RDONLY)
    except OSError as error:
        print("probe:", error.strerror, flush=True)
    async with gpio.watch(17) as switch, gpio.output(27, safe=0) as lamp:
        async for edge in switch:
            lamp.set(edge.value)
"""


@pytest.fixture
def door(chip: GpioSim) -> Iterator[str]:
    """The unit as it is, but for where hwloop is installed, and how slow this machine is."""
    let_services_use(chip.path, "gpio")
    unit = Unit("door", "door.py", "/usr/bin/hwloop", ("/etc/hwloop/door.py",), devices.named(["gpio"]))
    write_units(unit, "WatchdogSec=60\nTimeoutStartSec=90\nTimeoutStopSec=60\n")
    (PROGRAMS / "door.py").write_text(PROGRAM)
    yield "hwloop-door"
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", "hwloop-door"], check=False)


def follow(chip: GpioSim) -> None:
    """Wait until the lamp follows the switch."""
    for level in (1, 0, 1):
        chip.drive(17, level)
        wait_for(lambda wanted=level: chip.level(27) == wanted)


def test_a_service_may_use_the_gpio_chip_and_no_other_device(chip: GpioSim, backend: str, door: str) -> None:
    if not os.path.exists("/dev/probe"):
        subprocess.run(["mknod", "/dev/probe", "c", "10", "183"], check=True)  # random numbers
    os.chmod("/dev/probe", 0o666)
    (PROGRAMS / "door" / "environment").write_text(f"HWLOOP_GPIO={backend}\n")
    systemctl("start", door)  # returns once the program has said that it is ready
    follow(chip)
    systemctl("stop", door)
    assert chip.level(27) == 0
    assert [state(door, name) for name in ("ActiveState", "NRestarts", "Result")] == ["inactive", "0", "success"]
    assert "probe: Operation not permitted" in journal(door)
