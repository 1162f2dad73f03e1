"""A service with a kept output, and its guardian, under a real systemd: restarts, crashes, the stop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim
from gpio_trace import GpioTrace

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

ROOT = Path(__file__).parents[2]
UNITS, PROGRAMS = Path("/etc/systemd/system"), Path("/etc/hwloop")
LINE = 27

pytestmark = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir(), reason="systemd is not the first process: see the second run"
)

PUMP = """
import asyncio
from hwloop import gpio

async def main():
    async with gpio.output(27, keep=True, safe=0, within=120) as pump:
        print("version {version}:", pump.value, pump.adopted, pump.kept, flush=True)
        pump.on()
        await asyncio.Event().wait()
"""


def systemctl(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 or not check, done.stderr + subprocess.getoutput("journalctl --no-pager -n 40")
    return done.stdout.strip()


def state(unit: str, name: str) -> str:
    return systemctl("show", unit, "--value", "--property", name)


def wait_for(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < give_up, subprocess.getoutput("journalctl --no-pager -n 60")
        time.sleep(0.1)


def journal(unit: str) -> str:
    return subprocess.getoutput(f"journalctl --no-pager --output=cat --unit={unit}")


def install(program: str) -> None:
    (PROGRAMS / "door.py").write_text(program)


def override(unit: str, text: str) -> None:
    directory = UNITS / f"{unit}.service.d"
    directory.mkdir(exist_ok=True)
    (directory / "here.conf").write_text(text)


@pytest.fixture
def door(chip: GpioSim, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The units as they are, but for where hwloop is installed, which user this machine has, and how slow it is."""
    here = f"Environment=PYTHONPATH={ROOT} HWLOOP_GPIO=gpiod\nUser=root\nSupplementaryGroups=\n"
    program = ("/etc/hwloop/door.py",)
    unit = Unit("door", "door.py", "/usr/bin/hwloop", program, devices.named(["gpio"]), guarded=True)
    for name, text in unit.files().items():
        (UNITS / name).write_text(text)
    command = f"ExecStart=\nExecStart={sys.executable} -m hwloop"
    override(
        "hwloop-guard@door",
        f"[Service]\n{here}ProtectHome=no\nProtectSystem=no\nPrivateTmp=no\n"
        f"{command} guard --listen %t/hwloop-guard/door/socket\n",
    )
    override(
        "hwloop-door",
        f"""[Unit]
StartLimitBurst=3
StartLimitIntervalSec=300
[Service]
{here}{command} run /etc/hwloop/door.py
ExecStopPost=
RestartSec=200ms
WatchdogSec=60
TimeoutStartSec=90
TimeoutStopSec=60
""",
    )
    PROGRAMS.mkdir(exist_ok=True)
    install(PUMP.format(version=1))
    systemctl("daemon-reload")
    chip.drive(LINE, 0)  # where the line falls when it is released
    yield "hwloop-door"
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", "hwloop-door"], check=False)
    subprocess.run(["systemctl", "stop", "hwloop-door", "hwloop-guard@door"], check=False)


def test_a_service_keeps_its_output_until_it_is_stopped_or_fails_for_good(chip: GpioSim, door: str) -> None:
    guardian, trace = "hwloop-guard@door", GpioTrace()
    systemctl("start", door)
    keeper = state(guardian, "MainPID")
    wait_for(lambda: chip.level(LINE) == 1)
    trace.clear()

    def in_charge(version: int) -> bool:
        """Whether a start took the line over, which changed nothing."""
        assert chip.level(LINE) == 1
        return f"version {version}: 1 True True" in journal(door)

    # systemd itself, and a restart with another version of the program.
    systemctl("daemon-reexec")
    install(PUMP.format(version=2))
    systemctl("restart", door)
    wait_for(lambda: in_charge(2))
    assert state(guardian, "MainPID") == keeper
    # A crash, after which only another guardian is there.
    systemctl("restart", guardian)
    assert state(guardian, "MainPID") != keeper
    time.sleep(6)  # the program looks for it every 3.3 s
    install(PUMP.format(version=3))
    systemctl("kill", "--signal=SIGKILL", door)
    wait_for(lambda: in_charge(3))
    assert trace.changes() == ["set 1", "set 1"]  # by each `on()`
    # A crash loop, up to the start limit.
    install("async def main():\n    raise RuntimeError('broken')\n")
    systemctl("reset-failed", door)
    systemctl("kill", "--signal=SIGKILL", door)
    wait_for(lambda: state(guardian, "ActiveState") == "inactive")
    assert trace.changes()[2:] == ["set 0"]  # safe, and not before
    assert "Start request repeated too quickly" in journal(door)
    # A clean end.
    install(PUMP.format(version=4))
    systemctl("reset-failed", door)
    systemctl("start", door)
    wait_for(lambda: chip.level(LINE) == 1)
    trace.clear()
    systemctl("stop", door)
    wait_for(lambda: state(guardian, "ActiveState") == "inactive")
    assert (trace.changes(), chip.level(LINE)) == (["set 0"], 0)
    assert journal(guardian).count("line 27 is at its safe level 0") == 2
    trace.close()
