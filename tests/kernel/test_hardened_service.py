"""The protections of a service's unit under systemd: what each prevents, and what is possible without it.

A probe tries everything: below a unit without any protection, where all is possible; below units with one of them each,
which prevents its attempt; and below the whole unit, where nothing is. docs/hardening.md has the same list for users.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import probe
import pytest
from gpio_sim import GpioSim
from services import UNITS, let_services_use, needs_systemd, systemctl, visible_python

from hwloop.deployment import devices
from hwloop.deployment.unit import Unit

pytestmark = needs_systemd

RESULTS = Path("/run/probes")
PROBE = Path("/opt/hwloop-probe.py")
"""A copy of the probe where every unit sees it: the checkout may be below /tmp."""
PREVENTED = {
    ("User",): "read a file of root",
    ("NoNewPrivileges",): "become root by a setuid program",
    ("CapabilityBoundingSet",): "use a capability",
    ("PrivateUsers",): "set the clock",
    ("DevicePolicy", "DeviceAllow"): "open a device that everybody may open",
    ("PrivateNetwork",): "connect to a server",
    ("IPAddressDeny",): "connect to a server",
    ("RestrictAddressFamilies",): "connect to a server",
    ("ProtectSystem",): "write where everybody may write",
    ("ProtectHome",): "read a file in /home",
    ("PrivateTmp",): "read a file in /tmp",
    ("UMask",): "leave a file that others can read",
    ("ProtectProc",): "see other processes",
    ("ProtectKernelTunables",): "change a setting of the kernel",
    ("ProtectKernelModules",): "see the kernel's modules",
    ("ProtectKernelLogs",): "read the kernel's log",
    ("ProtectControlGroups",): "make a control group",
    ("ProtectClock",): "set the clock",
    ("ProtectHostname",): "rename the machine",
    ("PrivateIPC",): "use shared memory of others",
    ("RestrictNamespaces",): "make a namespace",
    ("RestrictSUIDSGID",): "make a setuid program",
    ("RestrictRealtime",): "get real time",
    ("LockPersonality",): "turn off the randomization of addresses",
    ("MemoryDenyWriteExecute",): "execute memory that it has written",
    ("SystemCallArchitectures", "SystemCallErrorNumber"): "call the kernel as a 32-bit program",
    ("SystemCallFilter", "SystemCallErrorNumber"): "call what services do not need",
}
"""Each protection of the unit, and an attempt that it prevents."""
FOR_USERS = (("NoNewPrivileges",), ("ProtectKernelModules",), ("ProtectProc",))
"""Protections that have no effect on root."""
SINGLE = (
    "LockPersonality", "MemoryDenyWriteExecute", "PrivateIPC", "PrivateTmp", "ProtectHome", "ProtectKernelModules",
    "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "RestrictNamespaces", "RestrictSUIDSGID", "UMask",
)  # fmt: skip
"""Protections whose attempt no other one prevents."""
OTHERS = (
    "ConfigurationDirectory", "DynamicUser", "RuntimeDirectory", "StateDirectory", "SupplementaryGroups",
    "WorkingDirectory",
)  # fmt: skip
"""Lines that permit, and do not prevent."""
KEYS = {*(key for keys in PREVENTED for key in keys), "PrivateMounts", "ReadWritePaths", "RemoveIPC", "LimitRTPRIO"}


@pytest.fixture
def surroundings(chip: GpioSim) -> Iterator[GpioSim]:
    """A machine on which the probe could do all that it tries, were it not for its unit."""
    for path in ("/home/probe", "/var/probe", "/usr/lib/modules/probe", "/sys/fs/cgroup/probe"):
        os.makedirs(path, exist_ok=True)
    for path in ("/var/probe", "/sys/fs/cgroup/probe"):
        os.chmod(path, 0o777)
    for path in ("/home/probe/file", "/tmp/probe"):
        Path(path).write_text("secret")
    Path("/etc/probe-secret").write_text("12345")
    os.chmod("/etc/probe-secret", 0o600)
    for node, major, minor in (("/dev/probe", 10, 183), ("/dev/spidev0.0", 153, 0)):  # random numbers, SPI
        if not os.path.exists(node):
            subprocess.run(["mknod", node, "c", str(major), str(minor)], check=True)
    os.chmod("/dev/probe", 0o666)
    subprocess.run(["insmod", "/guest/modules/i2c-stub.ko", "chip_addr=0x48"], check=True)
    for node, group in (
        (chip.path, "gpio"),
        ("/dev/i2c-0", "i2c"),
        ("/dev/spidev0.0", "spi"),
        ("/dev/ttyS1", "dialout"),
    ):
        let_services_use(node, group)
    chip.drive(5, 1)
    os.chmod(chip.pull(5), 0o666)
    os.chmod("/sys/module/printk/parameters/time", 0o666)
    Path("/proc/sys/kernel/dmesg_restrict").write_text("0")
    shutil.copyfile(probe.__file__, PROBE)
    shutil.copy("/usr/bin/id", "/usr/local/bin/probe-id")
    os.chmod("/usr/local/bin/probe-id", 0o4755)
    subprocess.run(["systemd-run", "--wait", "--quiet", visible_python(), "-c", SEGMENT], check=True)
    RESULTS.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", probe.PORT), backlog=200):
        yield chip
    subprocess.run(["rmmod", "i2c-stub"], check=True)


SEGMENT = f"import ctypes; ctypes.CDLL(None).shmget({probe.SHARED_KEY}, 4096, 0o1666)"


class Probes:
    """Services that run the probe, with units that have some of the protections."""

    def __init__(self, chip: GpioSim) -> None:
        self._chip = chip
        self._names: list[str] = []

    def add(self, has: Callable[[str], bool], *, user: str = "hwloop", realtime: int = 0) -> str:
        """Write the unit of a probe, with the lines for which `has` is true, and return its name."""
        name = f"probe{len(self._names)}"
        text = Unit(
            name=name,
            program="probe.py",
            hwloop="/bin/true",
            arguments=(),
            devices=devices.named(devices.USUAL),
            user=user,
            realtime=realtime,
        ).text()
        lines = [
            line
            for line in text.splitlines()
            if (key := line.partition("=")[0]) in OTHERS or (key in KEYS and has(key))
        ]
        (UNITS / f"hwloop-{name}.service").write_text("\n".join([
            "[Service]", "Type=oneshot", f"ExecStart={visible_python()} -IS {PROBE} {self._chip.path}",
            f"StandardOutput=truncate:{RESULTS / name}", f"Environment=PROBE_SYSFS={self._chip.pull(5)}",
            "LoadCredential=secret:/etc/probe-secret", *lines, "",
        ]))  # fmt: skip
        self._names.append(name)
        return name

    def run(self) -> dict[str, dict[str, Any]]:
        """Start all, and return what each has printed, by their names."""
        systemctl("daemon-reload")
        systemctl("start", *(f"hwloop-{name}" for name in self._names))
        return {name: ast.literal_eval((RESULTS / name).read_text()) for name in self._names}


def exposure(unit: str) -> float:
    rated = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", unit], capture_output=True, text=True, timeout=120, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated.stdout)
    assert found, rated
    return float(found[1])


def test_each_protection_prevents_something_that_is_possible_without_it(surroundings: GpioSim) -> None:
    probes = Probes(surroundings)
    hardened = probes.add(lambda key: True)
    dynamic = probes.add(lambda key: True, user="")
    realtime = probes.add(lambda key: True, realtime=10)
    bare = probes.add(lambda key: False)
    of_user = probes.add(lambda key: key == "User", user="daemon")
    tidied = probes.add(lambda key: key in ("User", "RemoveIPC"), user="bin")  # of a user that no other service has
    without_single = probes.add(lambda key: key not in SINGLE)
    alone = {
        keys: probes.add(lambda key, keys=keys: key in keys or (keys in FOR_USERS and key == "User"))
        for keys in PREVENTED
    }
    said = probes.run()

    # With all of them nothing is possible, and everything without any: as root, or as a user for what root can't need.
    assert [said[name]["possible"] for name in (hardened, dynamic)] == [[], []]
    assert said[realtime]["possible"] == ["choose its processors", "get real time"]
    assert said[bare]["possible"] == sorted(probe.ATTEMPTS)
    assert "become root by a setuid program" in said[of_user]["possible"]
    # Each prevents its attempt without the help of the others, and those that are single are not replaced by another.
    ineffective = [keys for keys, attempt in PREVENTED.items() if attempt in said[alone[keys]]["possible"]]
    assert ineffective == []
    assert said[without_single]["possible"] == sorted(PREVENTED[key,] for key in SINGLE)

    # The devices are within reach, and so is the secret.
    for name in (hardened, dynamic):
        assert said[name]["devices"] == {
            surroundings.path: "open",
            "/dev/i2c-0": "open",
            "/dev/ttyS1": "open",
            "/dev/spidev0.0": "No such device or address",  # by its driver, not by the unit
            "/sys/devices/platform": "open",
        }
        assert said[name]["secret"] == "12345"
    assert surroundings.level(5) == 0
    assert said[dynamic]["user"] not in (0, said[hardened]["user"])
    left = [name for name in (tidied, of_user) if Path("/dev/shm", f"probe-{said[name]['process']}").exists()]
    assert left == [of_user]
    assert exposure(f"hwloop-{hardened}") <= 1.5
    assert exposure(f"hwloop-{dynamic}") <= 1.5
