"""`hwloop service` under a real systemd: a program is installed, upgraded, found wanting, brought back and removed.

The guest has no network: the packages come from a wheelhouse, made of those that are installed here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
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


def show(name: str, unit: str = "hwloop-lamp") -> str:
    command = ["systemctl", "show", unit, "--value", "--property", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
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


@contextlib.contextmanager
def read_only_root() -> Iterator[None]:
    """Make the system's directories read-only; temporary files are in memory, as on a machine with such a root."""
    places = ("/etc", "/opt", "/usr", "/var")
    for place in places:  # one by one: processes have files of the root open for writing
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/var/tmp"], check=True)
    try:
        for place in places:
            with pytest.raises(OSError, match="Read-only"):
                Path(place, "written").touch()
        yield
    finally:
        for place in ("/var/tmp", *places):
            subprocess.run(["umount", "--lazy", place], check=True)


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

    # It starts also where the root file system is read-only, as with an overlay on the card.
    pid = show("MainPID")
    with read_only_root():
        restarted = hwloop("service", "restart", "lamp")
        assert restarted.returncode == 0, restarted.stderr
        follows(chip)
    assert show("MainPID") != pid

    removed = hwloop("service", "uninstall", "lamp")
    assert removed.returncode == 0, removed.stderr
    assert chip.level(27) == 0
    assert {path for place in ("/etc", "/opt", "/var/lib") for path in Path(place).rglob("*hwloop*")} <= before
    assert show("LoadState") == "not-found"
    assert subprocess.run(["id", "hwloop"], capture_output=True, check=False).returncode != 0


# The tutorial.

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial-service.md"
ELSEWHERE = ("ssh ", "scp ", "make deb ", "sudo apt ", "sudo raspi-config ", "sudo reboot", "sudo usermod ")
"""Beginnings of the commands for a Pi that nothing here can run: they need its firmware, a network, other machines."""


@pytest.fixture
def cellar(tmp_path: Path, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the tutorial's reader. sudo and hwloop are on the path."""
    bin = tmp_path / "bin"
    bin.mkdir()
    installed = Path(sys.prefix, "bin/hwloop")
    # The Python of the checkout may be one that a service can't use, and the emulator is slow.
    options = f"--python {SYSTEM_PYTHON} --start-timeout 120"
    commands = {
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "hwloop": f'#!/bin/sh\n[ "$1 $2" != "service install" ] || set -- "$@" {options}\nexec {installed} "$@"\n',
    }
    for name, text in commands.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheelhouse))
    drop_in = UNITS / "hwloop-cellar.service.d"
    drop_in.mkdir(parents=True)
    (drop_in / "slow.conf").write_text("[Service]\nWatchdogSec=30\nEnvironment=HWLOOP_GPIO=gpiod\n")
    directory = Path("/srv/cellar")
    directory.mkdir()
    for title, text in re.findall(
        r'^```\w+ title="([^"]+)"\n(.*?)^```', TUTORIAL.read_text(), re.DOTALL | re.MULTILINE
    ):
        (directory / title).write_text(text)
    yield directory
    hwloop("service", "uninstall", "cellar")


def pumps(chip: GpioSim) -> None:
    """Wait until the pump follows the float switch, which is closed at the low level."""

    def follows(level: int) -> bool:
        chip.drive(23, level)  # again and again: a program that claims the line with a pull-up sets it high
        return chip.level(17) == 1 - level

    for level in (1, 0):
        wait_for(lambda wanted=level: follows(wanted))


def test_the_tutorials_commands(chip: GpioSim, cellar: Path) -> None:
    """Those that need GPIO lines or systemd, in their order; the others are run by `make test-deb`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.endswith("# Pi")]
    commands = [line.removesuffix("# Pi").strip() for line in lines if not line.startswith(ELSEWHERE)]
    subprocess.run(["groupadd", "--system", "--force", "gpio"], check=True)
    for node in Path("/dev").glob("gpiochip*"):
        shutil.chown(node, group="gpio")
        node.chmod(0o660)
    chip.drive(23, 1)
    installed = 0
    for command in commands:
        print(f"$ {command}", flush=True)
        goes_on = command.startswith("hwloop run") or command.endswith("--follow")
        if command.startswith("sudo hwloop service install") and installed:
            with (cellar / "cellar.py").open("a") as program:
                program.write("# another version\n")
        with subprocess.Popen(
            command, shell=True, cwd=cellar, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as running:  # fmt: skip
            assert running.stdout is not None
            try:
                if goes_on:
                    pumps(chip)
                    if command.endswith("--follow"):
                        assert any("pumping" in line for line in running.stdout)  # of all lines up to this one
                    os.killpg(running.pid, signal.SIGINT)
                shown, _ = running.communicate(timeout=600)
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)
                raise
        print(shown, flush=True)
        assert "Traceback" not in shown
        assert running.returncode == 0 or goes_on, shown
        if command.startswith("hwloop run"):
            assert "pumping" in shown
            wait_for(lambda: chip.level(17) == 0)
        elif command.startswith("sudo hwloop service install"):
            installed += 1
            assert "cellar: ready after" in shown
            pumps(chip)
        elif "--signal=STOP" in command:
            assert chip.level(17) == 1
            wait_for(lambda: chip.level(17) == 0, seconds=180)  # the watchdog, and what drives the line afterwards
            wait_for(lambda: show("NRestarts", "hwloop-cellar") == "1", seconds=120)
        elif "rollback" in command:
            pumps(chip)
    assert installed == 2
    assert chip.level(17) == 0
    assert show("LoadState", "hwloop-cellar") == "not-found"
