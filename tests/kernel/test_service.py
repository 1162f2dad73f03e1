"""The unit under a real systemd: its device rules let the program at the GPIO chip, and at nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

ROOT = Path(__file__).parents[2]
UNITS, PROGRAMS = Path("/etc/systemd/system"), Path("/etc/hwloop")

pytestmark = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir(), reason="systemd is not the first process: see the second run"
)

PROGRAM = """
import os
from hwloop import gpio

async def main():
    try:
        os.open("/dev/mem", os.O_RDONLY)
    except OSError as error:
        print("mem:", error.strerror, flush=True)
    async with gpio.watch(17) as switch, gpio.output(27, safe=0) as lamp:
        async for edge in switch:
            lamp.set(edge.value)
"""


def systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + subprocess.getoutput("journalctl --no-pager -u hwloop-door | tail -20")
    return done.stdout


@pytest.fixture
def door() -> Iterator[str]:
    """The unit as it is, but for where hwloop is installed, which user this machine has, and how slow it is."""
    unit = Unit("door", "door.py", "/usr/bin/hwloop", ("/etc/hwloop/door.py",), devices.named(["gpio"]))
    (UNITS / "hwloop-door.service").write_text(unit.text())
    overrides = UNITS / "hwloop-door.service.d"
    overrides.mkdir(exist_ok=True)
    (overrides / "here.conf").write_text(
        f"""[Service]
ExecStart=
ExecStart={sys.executable} -m hwloop run /etc/hwloop/door.py
ExecStopPost=
Environment=PYTHONPATH={ROOT}
User=root
SupplementaryGroups=
WatchdogSec=60
TimeoutStartSec=90
TimeoutStopSec=60
"""
    )
    (PROGRAMS / "door").mkdir(parents=True, exist_ok=True)
    (PROGRAMS / "door.py").write_text(PROGRAM)
    systemctl("daemon-reload")
    yield "hwloop-door"
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", "hwloop-door"], check=False)


def test_a_service_may_use_the_gpio_chip_and_no_other_device(chip: GpioSim, backend: str, door: str) -> None:
    (PROGRAMS / "door" / "environment").write_text(f"HWLOOP_GPIO={backend}\n")
    systemctl("start", door)  # returns once the program has said that it is ready
    for level in (1, 0, 1):
        chip.drive(17, level)
        give_up = time.monotonic() + 20
        while chip.level(27) != level:
            assert time.monotonic() < give_up
            time.sleep(0.05)
    systemctl("stop", door)
    assert chip.level(27) == 0
    told = systemctl("show", door, "--property=Result,ActiveState,NRestarts").split()
    assert sorted(told) == ["ActiveState=inactive", "NRestarts=0", "Result=success"]
    journal = subprocess.getoutput(f"journalctl --no-pager --output=cat --unit={door}")
    assert "mem: Operation not permitted" in journal
