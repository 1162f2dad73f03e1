"""A service with a kept output, and its guardian, under a real systemd: restarts, crashes, the stop."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim
from gpio_trace import GpioTrace
from services import TIMES, journal, let_services_use, needs_systemd, state, systemctl, wait_for, write_units

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

pytestmark = needs_systemd

PROGRAMS = Path("/etc/hwloop")
LINE = 27

PUMP = """
import asyncio
from hwloop import gpio

async def main():
    async with gpio.output(27, keep=True, safe=0, within=120) as pump:
        print("version {version}:", pump.value, pump.adopted, pump.kept, flush=True)
        pump.on()
        await asyncio.Event().wait()
"""


def install(program: str) -> None:
    (PROGRAMS / "door.py").write_text(program)


@pytest.fixture
def door(chip: GpioSim) -> Iterator[str]:
    """The units as they are, but for where hwloop is installed, and how slow this machine is."""
    let_services_use(chip.path, "gpio")
    program = ("/etc/hwloop/door.py",)
    unit = Unit("door", "door.py", "/usr/bin/hwloop", program, devices.named(["gpio"]), guarded=True)
    slow = "RestartSec=200ms\nWatchdogSec=60\nTimeoutStartSec=90\nTimeoutStopSec=60\nExecStopPost=\n"
    write_units(unit, f"{slow}[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=300\n")
    install(PUMP.format(version=1))
    chip.drive(LINE, 0)  # where the line falls when it is released
    yield "hwloop-door"
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", "hwloop-door"], check=False)
    subprocess.run(["systemctl", "stop", "hwloop-door", "hwloop-guard@door"], check=False)


GUARDIAN = "hwloop-guard@door"


def start(chip: GpioSim, door: str) -> GpioTrace:
    """Start the service, and return the trace of its line since it drives it."""
    trace = GpioTrace()
    systemctl("start", door)
    wait_for(lambda: chip.level(LINE) == 1)
    trace.clear()
    return trace


def test_a_service_keeps_its_output_until_it_is_stopped(chip: GpioSim, door: str) -> None:
    trace = start(chip, door)
    keeper = state(GUARDIAN, "MainPID")

    def in_charge(version: int) -> bool:
        """Whether a start took the line over, which changed nothing."""
        assert chip.level(LINE) == 1
        return f"version {version}: 1 True True" in journal(door)

    # systemd itself, and restarts, each with another version of the program.
    systemctl("daemon-reexec")
    versions = itertools.count(2)
    for _, version in zip(range(2 * TIMES), versions, strict=False):
        systemctl("reset-failed", door)  # or the start limit ends it
        install(PUMP.format(version=version))
        systemctl("restart", door)
        wait_for(lambda version=version: in_charge(version))
        assert state(GUARDIAN, "MainPID") == keeper
    # Crashes. From the first one on, another guardian is there.
    systemctl("restart", GUARDIAN)
    assert state(GUARDIAN, "MainPID") != keeper
    time.sleep(12)  # the program looks for it every 3.3 s
    for version in itertools.islice(versions, TIMES):
        systemctl("reset-failed", door)
        install(PUMP.format(version=version))
        systemctl("kill", "--signal=SIGKILL", door)
        wait_for(lambda version=version: in_charge(version))
    assert trace.changes() == ["set 1"] * 3 * TIMES  # by each `on()`
    # The end.
    systemctl("stop", door)
    wait_for(lambda: state(GUARDIAN, "ActiveState") == "inactive")
    assert (trace.changes()[3 * TIMES :], chip.level(LINE)) == (["set 0"], 0)
    assert "line 27 is at its safe level 0" in journal(GUARDIAN)
    trace.close()


def test_a_service_that_fails_again_and_again_keeps_its_output_up_to_the_start_limit(chip: GpioSim, door: str) -> None:
    trace = start(chip, door)
    install("async def main():\n    raise RuntimeError('broken')\n")
    systemctl("kill", "--signal=SIGKILL", door)
    wait_for(lambda: state(GUARDIAN, "ActiveState") == "inactive")
    assert "Start request repeated too quickly" in journal(door)
    assert (trace.changes(), chip.level(LINE)) == (["set 0"], 0)  # safe, and not before
    trace.close()
