"""`hwloop service` under a real systemd: a program is installed, upgraded, found wanting, brought back and removed.

The guest has no network: the packages come from a wheelhouse, made of those that are installed here.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim

UNITS = Path("/etc/systemd/system")
SYSTEM_PYTHON = Path("/usr/bin/python3")
PACKAGES = ("gpiozero", "lgpio", "gpiod", "pyserial", "smbus2")

pytestmark = [
    pytest.mark.skipif(
        not Path("/run/systemd/system").is_dir(), reason="systemd is not the first process: see the second run"
    ),
    pytest.mark.skipif(
        not os.path.realpath(SYSTEM_PYTHON).endswith(f"/python3.{sys.version_info[1]}"),
        reason="the packages are those of another Python than the system's",
    ),
]

PROGRAM = """
from hwloop import gpio, service

async def main():
    async with gpio.watch(17) as switch, gpio.output(27, safe=0) as lamp, service.supervised():
        print("version {version}", flush=True)
        async for edge in switch:
            lamp.set(edge.value)
"""


def hwloop(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.prefix, "bin/hwloop"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    print(f"{' '.join(arguments[:2])}: {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    return done


def show(name: str) -> str:
    command = ["systemctl", "show", "hwloop-lamp", "--value", "--property", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_for(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, subprocess.getoutput("journalctl --no-pager -n 60")
        time.sleep(0.1)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """The packages that hwloop needs: gpiod as it is installed here, and stand-ins for those that are not used.

    The emulator takes minutes for all of them.
    """
    directory = tmp_path / "wheels"
    directory.mkdir()
    for name in PACKAGES:
        found = importlib.metadata.distribution(name)
        about = f"{name}-{found.version}.dist-info"
        tag = next(
            line[5:] for line in reversed((found.read_text("WHEEL") or "").splitlines()) if line.startswith("Tag: ")
        )
        with zipfile.ZipFile(directory / f"{name}-{found.version}-{tag}.whl", "w") as archive:
            for each in found.files or () if name == "gpiod" else ():
                if str(each).startswith("gpiod/") and not str(each).endswith(".pyc"):
                    archive.write(each.locate(), str(each))
            archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {found.version}\n")
            archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{about}/RECORD", "".join(f'"{path}",,\n' for path in archive.namelist()))
    return directory


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    """The program; its unit has more time, as the emulator is slow."""
    drop_in = UNITS / "hwloop-lamp.service.d"
    drop_in.mkdir(parents=True)
    (drop_in / "slow.conf").write_text("[Service]\nWatchdogSec=120\nTimeoutStopSec=90\nEnvironment=HWLOOP_GPIO=gpiod\n")
    directory = Path("/srv/lamp")
    directory.mkdir()
    yield directory / "lamp.py"
    hwloop("service", "uninstall", "lamp")


def follows(chip: GpioSim) -> None:
    """Wait until the lamp follows the switch, which the program may have found at either level."""
    for level in (0, 1):
        chip.drive(17, level)
        wait_for(lambda wanted=level: chip.level(27) == wanted)


def test_a_service_from_its_installation_to_its_end(chip: GpioSim, wheelhouse: Path, door: Path) -> None:
    before = {path for place in ("/etc", "/opt", "/var/lib") for path in Path(place).rglob("*hwloop*")}
    words = ("service", "install", str(door), "--python", str(SYSTEM_PYTHON), "--wheelhouse", str(wheelhouse))
    slow = ("--start-timeout", "120")

    # As root, with a umask that hides all, into the system's directories, as a user that is added.
    door.write_text(PROGRAM.format(version=1))
    subprocess.run(["groupadd", "--system", "--force", "gpio"], check=True)
    for node in Path("/dev").glob("gpiochip*"):  # as the rules of Raspberry Pi OS do
        shutil.chown(node, group="gpio")
        node.chmod(0o660)
    umask = os.umask(0o077)
    first = hwloop(*words, *slow)
    os.umask(umask)
    assert first.returncode == 0, first.stderr + subprocess.getoutput("journalctl --no-pager -n 40")
    assert "lamp: ready after" in first.stdout
    assert (show("ActiveState"), show("User")) == ("active", "hwloop")
    follows(chip)

    # The same again changes nothing: the very process goes on.
    pid = show("MainPID")
    again = hwloop(*words, *slow)
    assert again.stdout == "lamp: installed already, exactly so; nothing changed\n", again.stderr
    assert show("MainPID") == pid

    # A version that fails is replaced by the one before it, and the last lines say why.
    door.write_text(PROGRAM.format(version=2).replace("print(", "raise ValueError('no lamp'); print("))
    failed = hwloop(*words, *slow)
    assert failed.returncode == 1
    assert "the new version ended with status 1; its last lines:\n" in failed.stderr
    assert "ValueError: no lamp\n" in failed.stderr
    assert "went back to the version before it: release 1 runs again" in failed.stderr
    follows(chip)

    # One that can't even be loaded is not started a second time, and its last line says what to do.
    door.write_text("import nowhere\n" + PROGRAM.format(version=3))
    failed = hwloop(*words, *slow)
    assert "the new version ended with status 2" in failed.stderr
    assert "systemd does not start hwloop-lamp.service again; correct the above, then: sudo systemctl" in failed.stderr
    follows(chip)
    journal = subprocess.getoutput("journalctl --no-pager --output=cat --unit=hwloop-lamp")
    assert journal.count("there is no module nowhere") == 1

    # A good one takes over, and going back brings the first one again.
    door.write_text(PROGRAM.format(version=4))
    assert hwloop(*words, *slow).returncode == 0
    follows(chip)
    rolled = hwloop("service", "rollback", "lamp")
    assert rolled.returncode == 0, rolled.stderr
    follows(chip)
    status = hwloop("service", "status", "lamp")
    assert status.stdout.startswith("lamp: active since "), status.stderr
    assert "version 1\n" in hwloop("service", "logs", "lamp", "--lines", "5").stdout

    removed = hwloop("service", "uninstall", "lamp")
    assert removed.returncode == 0, removed.stderr
    assert chip.level(27) == 0
    assert {path for place in ("/etc", "/opt", "/var/lib") for path in Path(place).rglob("*hwloop*")} <= before
    assert show("LoadState") == "not-found"
    assert subprocess.run(["id", "hwloop"], capture_output=True, check=False).returncode != 0
