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
from services import journal, let_services_use, needs_systemd, state, systemctl, wait_for, write_units

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

pytestmark = needs_systemd

UNIT, GUARDIAN = "hwloop-pump", "hwloop-guard@pump"
DOOR, PUMP, LAMP, VALVE = 17, 27, 22, 23
WORKING, SAFE = {PUMP: 1, LAMP: 0}, {PUMP: 0, LAMP: 1}
WITHIN = 1.0
"""Seconds from the end of the program to safe outputs."""
BUSY_SECONDS = 60

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
                work = asyncio.create_task(busy())
            print("seen", flush=True)
"""


class Pump:
    """The service and its lines, seen from outside."""

    def __init__(self, chip: GpioSim) -> None:
        self._chip = chip
        for line, level in SAFE.items():
            chip.drive(line, 1 - level)
        chip.drive(VALVE, 0)
        self.trace = GpioTrace()

    def levels(self) -> dict[int, int]:
        return {line: self._chip.level(line) for line in SAFE}

    def set_levels(self) -> dict[int, list[int]]:
        """The levels that anybody has set since the program was ready."""
        return self.trace.levels(self._chip.base())

    def is_working(self) -> bool:
        return state(UNIT, "ActiveState") == "active" and self.levels() == WORKING and self._chip.level(VALVE) == 1

    def ready(self) -> int:
        """Wait until the program drives its lines, and return its process."""
        wait_for(self.is_working)
        self.trace.clear()
        return int(state(UNIT, "MainPID"))

    def make(self, trouble: str) -> None:
        Path("/var/lib/hwloop/pump/trouble").write_text(trouble)
        os.chmod("/var/lib/hwloop/pump/trouble", 0o644)
        self._chip.drive(DOOR, 0, 1)

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


@pytest.fixture
def pump(chip: GpioSim) -> Iterator[Pump]:
    Path("/etc/hwloop").mkdir(exist_ok=True)
    Path("/etc/hwloop/pump.py").write_text(PROGRAM)
    let_services_use(chip.path, "gpio")
    unit = Unit("pump", "pump.py", "/usr/bin/hwloop", ("/etc/hwloop/pump.py",), devices.named(["gpio"]), guarded=True)
    write_units(
        unit, "WatchdogSec=5\nTimeoutStartSec=120\nTimeoutStopSec=60\nMemoryMax=100M\nMemorySwapMax=0\nRestartSec=3\n"
    )
    pump = Pump(chip)
    yield pump
    pump.trace.close()
    subprocess.run(["systemctl", "stop", UNIT, GUARDIAN], check=False)


def test_however_a_program_ends_its_outputs_are_safe_or_kept(chip: GpioSim, pump: Pump) -> None:
    systemctl("start", UNIT)
    seconds: dict[str, float] = {}

    def check_kept(why: str) -> None:
        """The other lines went to their safe levels once, and nobody has touched the kept one."""
        assert chip.level(VALVE) == 1, why
        assert pump.set_levels() == {PUMP: [0], LAMP: [1]}, why

    # The watchdog ends a loop that is blocked, and one whose critical source has gone silent; the kernel a leak.
    for trouble, said in (
        ("block", "Watchdog timeout"),
        ("hang", "Watchdog timeout"),
        ("leak", "A process of this unit has been killed by the OOM killer"),
    ):
        process = pump.ready()
        pump.make(trouble)
        seconds[trouble] = pump.time_to_safe(process)
        check_kept(trouble)
        wait_for(lambda wanted=said: wanted in journal(UNIT))
    assert "has made no progress" in journal(UNIT)

    process = pump.ready()
    pump.make("raise")
    wait_for(lambda: "RuntimeError: the pump is dry" in journal(UNIT))
    wait_for(lambda process=process: not os.path.exists(f"/proc/{process}"))
    check_kept("raise")

    process = pump.ready()
    systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
    seconds["SIGKILL"] = pump.time_to_safe(process)
    check_kept("SIGKILL")

    # A guardian that was killed is replaced while the program goes on, and guards as the one before it.
    process = pump.ready()
    guardian = state(GUARDIAN, "MainPID")
    systemctl("kill", "--signal=SIGKILL", GUARDIAN)
    wait_for(lambda: state(GUARDIAN, "ActiveState") == "active" and state(GUARDIAN, "MainPID") != guardian)
    time.sleep(6)  # the program looks for it every 3.3 s
    assert (pump.levels(), chip.level(VALVE), pump.set_levels()) == (WORKING, 1, {})
    assert state(UNIT, "MainPID") == str(process)
    systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
    seconds["SIGKILL after a new guardian"] = pump.time_to_safe(process)
    check_kept("guardian")

    # A busy loop is healthy: it is neither killed nor late with its edges.
    process = pump.ready()
    pump.make("busy")
    until = time.monotonic() + BUSY_SECONDS
    seen = journal(UNIT).count("seen")
    edges = 0
    while time.monotonic() < until:
        time.sleep(1)
        chip.drive(DOOR, 0, 1)
        edges += 1
    wait_for(lambda: journal(UNIT).count("seen") >= seen + edges)
    assert (state(UNIT, "MainPID"), pump.levels()) == (str(process), WORKING)

    # An orderly end: the program itself sets the safe levels, and nothing starts again. So its guardian lets go.
    for number in ("SIGTERM", "SIGINT"):
        if state(UNIT, "ActiveState") != "active":
            systemctl("start", UNIT)
        pump.ready()
        systemctl("kill", f"--signal={number}", "--kill-whom=main", UNIT)
        wait_for(lambda: state(GUARDIAN, "ActiveState") == "inactive")
        assert pump.set_levels() == {PUMP: [0], LAMP: [1], VALVE: [0]}, number
        assert (state(UNIT, "ActiveState"), state(UNIT, "Result")) == ("inactive", "success"), number
    print(seconds)
    assert max(seconds.values()) < WITHIN, seconds
