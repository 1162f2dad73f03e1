"""Services of hwloop under the guest's systemd: systemctl, journals, accounts, and a Python that services can see."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hwloop.deployment.accounts import SystemAccounts
from hwloop.deployment.layout import Layout
from hwloop.deployment.unit import Unit
from hwloop.deployment.visibility import Visibility

ROOT = Path(__file__).parents[2]
UNITS = Path("/etc/systemd/system")
PACKAGES = Path(pytest.__file__).parents[1]
"""The packages of the tests' environment, which a service can import if it is not below a home directory."""

TIMES = int(os.environ.get("TIMES", "1"))
"""How many times as long, or as often, the tests do what takes long in the emulator."""

WITHIN = float(os.environ.get("WITHIN", "10"))
"""Seconds from the end of a program to safe outputs. An emulator that nothing disturbs keeps 1."""

needs_systemd = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir(), reason="systemd is not the first process: see the last run"
)


def visible_python() -> str:
    """Return a Python of the tests' version that is not below a home directory."""
    own = os.path.realpath(sys.executable)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (own, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if os.access(path, os.X_OK) and not Visibility().obstacle(os.path.realpath(path), executable=True):
            return path
    raise RuntimeError(f"there is no {name} that services can see; install one, for example in /usr/bin")


def systemctl(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or not check, done.stderr + subprocess.getoutput("journalctl --no-pager -n 40")
    return done.stdout.strip()


def state(unit: str, name: str) -> str:
    return systemctl("show", unit, "--value", "--property", name)


def journal(unit: str) -> str:
    return subprocess.getoutput(f"journalctl --no-pager --output=cat --unit={unit}")


def wait_for(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < give_up, subprocess.getoutput("journalctl --no-pager -n 60")
        time.sleep(0.25)  # a condition that runs a command takes a slow machine's time


def override(unit: str, text: str) -> None:
    """Change a unit as `systemctl edit` does."""
    directory = UNITS / f"{unit}.service.d"
    directory.mkdir(exist_ok=True)
    (directory / "override.conf").write_text(text)


def let_services_use(node: str, group: str) -> None:
    """Give a device to a group, as udev does on a Raspberry Pi; the guest has no udev."""
    SystemAccounts(Layout()).add("hwloop", [group])
    subprocess.run(["chgrp", group, node], check=True)
    os.chmod(node, 0o660)


def installed() -> Path:
    """Return a directory with hwloop and its libraries that services can see; a checkout may be below /home."""
    place = Path("/opt/hwloop-tests")
    if not place.exists():
        place.mkdir()
        for source in (ROOT / "hwloop", ROOT / "firmware_sim", *PACKAGES.glob("gpiod*"), *PACKAGES.glob("*lgpio*")):
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, place / source.name)
    return place


def write_units(unit: Unit, changes: str = "") -> None:
    """Write the units of a service with all of their protections, for the hwloop that is tested.

    `changes` are further lines of the program's unit, for [Service] or other sections.
    """
    command = f"{visible_python()} -m hwloop "
    here = f"[Service]\nEnvironment=PYTHONPATH={installed()} PYTHONDONTWRITEBYTECODE=1 HWLOOP_GPIO=gpiod\n"
    SystemAccounts(Layout()).add(unit.user, unit.devices.groups)
    for name, text in unit.files().items():
        for before in ("=", "=-"):
            text = text.replace(f"{before}{unit.hwloop} ", before + command)
        (UNITS / name).write_text(text)
        override(name.removesuffix(".service"), here + (changes if name == f"hwloop-{unit.name}.service" else ""))
    (Path("/etc/hwloop") / unit.name).mkdir(parents=True, exist_ok=True)
    systemctl("daemon-reload")
