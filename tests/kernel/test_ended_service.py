"""The outputs of a service, however it ends: safe or kept within a second of its end, without a moment in between.

The pull of each line is opposite to its safe level, so that a line that was only released is not taken for a safe one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim
from gpio_trace import GpioTrace
from services import (
    TIMES,
    WITHIN,
    journal,
    let_services_use,
    needs_systemd,
    state,
    systemctl,
    wait_for,
    write_units,
)

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

pytestmark = needs_systemd

UNIT, GUARDIAN = "hwloop-pump", "hwloop-guard@pump"
DOOR, PUMP, LAMP, VALVE = 17, 27, 22, 23
WORKING, SAFE = {PUMP: 1, LAMP: 0}, {PUMP: 0, LAMP: 1}
BUSY_SECONDS = 60 * TIMES

PROGRAM = f"""
import asyncio, time
from pathlib import Path
from hwloop import gpio, service

async def busy():
    while True:
        until = time.perf_counter() + 0.08
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0.02)

async def main():
    async with (
        gpio.watch({DOOR}, edges="rising") as door,
        gpio.output({PUMP}, initial=1, safe=0) as pump,
        gpio.output({LAMP}, initial=0, safe=1) as lamp,
        gpio.output({VALVE}, keep=True, safe=0, within=240) as valve,
    ):
        valve.on()
        work = None
        async for edge in door:
            trouble = Path("trouble").read_text()
            if trouble == "block":
                time.sleep(1000)
            elif trouble == "hang":
                with service.critical(door, within=1):
                    async for edge in door:
                        pass
            elif trouble == "leak":
                hoard = []
                while True:
                    hoard.append(b"x" * 1_000_000)
            elif trouble == "raise":
                raise RuntimeError("the pump is dry")
            elif trouble == "busy":
                work = work or asyncio.create_task(busy())
            print("seen", flush=True)
"""


class Pump:
    """The service and its lines, seen from outside."""

    def __init__(self, chip: GpioSim) -> None:
        self._chip = chip
        for line, level in SAFE.items():
            chip.drive(line, 1 - level)
        chip.drive(VALVE, 0)
        chip.drive(DOOR, 0)
        self.trace = GpioTrace()

    def levels(self) -> dict[int, int]:
        return {line: self._chip.level(line) for line in SAFE}

    def set_levels(self) -> dict[int, list[int]]:
        """The levels that anybody has set since the program was ready."""
        return self.trace.levels(self._chip.base())

    def valve(self) -> int:
        return self._chip.level(VALVE)

    def is_working(self) -> bool:
        return self.levels() == WORKING and self.valve() == 1 and state(UNIT, "ActiveState") == "active"

    def ready(self) -> int:
        """Wait until the program drives its lines, after its start or its restart, and return its process."""
        if state(UNIT, "ActiveState") in ("inactive", "failed"):
            systemctl("start", UNIT)
        wait_for(self.is_working)
        self.trace.clear()
        return int(state(UNIT, "MainPID"))

    def check_kept(self) -> None:
        """The other lines went to their safe levels once, and nobody has touched the kept one."""
        assert self.valve() == 1
        assert self.set_levels() == {PUMP: [0], LAMP: [1]}

    def ring(self) -> None:
        """Give the program an edge."""
        self._chip.drive(DOOR, 0, 1)

    def make(self, trouble: str) -> None:
        Path("/var/lib/hwloop/pump/trouble").write_text(trouble)
        os.chmod("/var/lib/hwloop/pump/trouble", 0o644)
        self.ring()

    def time_to_safe(self, process: int) -> float:
        """Return the seconds from the end of a process until all lines are safe."""
        give_up = time.monotonic() + 90
        while os.path.exists(f"/proc/{process}"):
            assert time.monotonic() < give_up, journal(UNIT)
            time.sleep(0.002)
        ended = time.monotonic()
        while self.levels() != SAFE:
            assert time.monotonic() < give_up, journal(UNIT)
            time.sleep(0.002)
        return time.monotonic() - ended


def holds_a_line(process: str) -> bool:
    """Whether a process has a line of a GPIO chip."""
    held = [os.readlink(path) for path in Path("/proc", process, "fd").iterdir() if os.path.lexists(path)]
    return "anon_inode:gpio-line" in held


@pytest.fixture(scope="module")
def pump() -> Iterator[Pump]:
    """One service for all tests, as the emulator is slow: each of them leaves it starting again, or stopped."""
    chip = GpioSim()
    Path("/etc/hwloop").mkdir(exist_ok=True)
    Path("/etc/hwloop/pump.py").write_text(PROGRAM)
    let_services_use(chip.path, "gpio")
    unit = Unit("pump", "pump.py", "/usr/bin/hwloop", ("/etc/hwloop/pump.py",), devices.named(["gpio"]), guarded=True)
    limits = "WatchdogSec=5\nMemoryMax=100M\nMemorySwapMax=0\n"
    write_units(unit, f"{limits}TimeoutStartSec=120\nTimeoutStopSec=60\nRestartSec=3\n")
    pump = Pump(chip)
    yield pump
    pump.trace.close()
    subprocess.run(["systemctl", "stop", UNIT, GUARDIAN], check=False)
    chip.close()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("block", "Watchdog timeout"),
        ("hang", "has made no progress"),
        ("leak", "A process of this unit has been killed by the OOM killer"),
    ],
)
def test_a_program_that_works_no_more_is_ended_and_its_outputs_are_safe(trouble: str, reason: str, pump: Pump) -> None:
    """The watchdog ends a loop that is blocked, or whose critical source is silent; the kernel ends a leak."""
    process = pump.ready()
    pump.make(trouble)
    assert pump.time_to_safe(process) < WITHIN
    pump.check_kept()
    wait_for(lambda: reason in journal(UNIT))


def test_an_exception_ends_a_program_in_order(pump: Pump) -> None:
    process = pump.ready()
    pump.make("raise")
    wait_for(lambda: not os.path.exists(f"/proc/{process}"))
    pump.check_kept()
    assert "RuntimeError: the pump is dry" in journal(UNIT)


def test_after_sigkill_outputs_are_safe(pump: Pump) -> None:
    process = pump.ready()
    systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
    assert pump.time_to_safe(process) < WITHIN
    pump.check_kept()


def test_a_guardian_that_was_killed_is_replaced_by_one_that_guards_as_well(pump: Pump) -> None:
    process = pump.ready()
    guardian = state(GUARDIAN, "MainPID")
    systemctl("kill", "--signal=SIGKILL", GUARDIAN)
    wait_for(lambda: state(GUARDIAN, "ActiveState") == "active" and state(GUARDIAN, "MainPID") != guardian)
    wait_for(lambda: holds_a_line(state(GUARDIAN, "MainPID")))
    assert (pump.levels(), pump.valve(), pump.set_levels()) == (WORKING, 1, {})
    assert state(UNIT, "MainPID") == str(process)
    systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
    assert pump.time_to_safe(process) < WITHIN
    pump.check_kept()


def test_a_busy_loop_is_healthy(pump: Pump) -> None:
    """It works for four fifths of the time, with a watchdog of 5 s, and takes each edge meanwhile."""
    process = pump.ready()
    pump.make("busy")
    for _ in range(BUSY_SECONDS):
        time.sleep(1)
        pump.ring()
    assert (state(UNIT, "MainPID"), pump.levels()) == (str(process), WORKING)
    # Of edges in quick succession, as seen from a machine that stood still, the kernel may merge some.
    wait_for(lambda: journal(UNIT).count("seen") > BUSY_SECONDS // 2)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_program_in_order_and_its_guardian_too(signal: str, pump: Pump) -> None:
    pump.ready()
    systemctl("kill", f"--signal={signal}", "--kill-whom=main", UNIT)
    wait_for(lambda: state(GUARDIAN, "ActiveState") == "inactive")
    assert pump.set_levels() == {PUMP: [0], LAMP: [1], VALVE: [0]}
    assert (state(UNIT, "ActiveState"), state(UNIT, "Result")) == ("inactive", "success")
