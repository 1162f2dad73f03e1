"""The system around a service: systemd, watchdog, time of day, disks, failed units."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hwloop.doctor.finding import Finding, Status
from hwloop.doctor.machine import Machine

_LEAST_FREE = 0.05
"""The part of a file system that should be free."""
_WRITTEN = {
    "/var": "logs and the state of services",
    "/run": "FIFOs and the records of the guardian",
    "/tmp": "temporary files",
}
_RELEASED = 1_760_000_000
"""Seconds since 1970: no machine that runs this version has an earlier time of day."""


def examine(machine: Machine) -> Iterator[Finding]:
    """Yield the findings about the system."""
    yield from _examine_watchdog(machine)
    yield from _examine_time(machine)
    yield from _examine_disks(machine)
    yield from _examine_units(machine)


def _examine_watchdog(machine: Machine) -> Iterator[Finding]:
    if not machine.exists("/dev/watchdog"):
        return
    configured = "".join(
        machine.text(path) for path in ["/etc/systemd/system.conf", *machine.find("/etc/systemd/system.conf.d/*.conf")]
    )
    lines = [line.strip() for line in configured.splitlines()]
    if any(line.startswith("RuntimeWatchdogSec=") and line.partition("=")[2] not in ("", "0", "off") for line in lines):
        yield Finding("watchdog", "ok", "systemd feeds the hardware watchdog: a machine that hangs restarts")
    else:
        yield Finding(
            "watchdog", "note", "there is a hardware watchdog, and nothing feeds it: a machine that hangs stays so",
            "printf '[Manager]\\nRuntimeWatchdogSec=10\\n' | sudo tee /etc/systemd/system.conf.d/watchdog.conf "
            "(make the directory first), then sudo systemctl daemon-reexec",
        )  # fmt: skip


def _examine_time(machine: Machine) -> Iterator[Finding]:
    if not machine.running:
        return
    if time.time() < _RELEASED:
        yield Finding(
            "clock", "problem", f"the date is {time.strftime('%Y-%m-%d')}: certificates and logs will be wrong",
            "sudo timedatectl set-ntp true, and connect the network; or add a real-time clock",
        )  # fmt: skip
        return
    synchronized = machine.output("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    if synchronized == "no":
        yield Finding(
            "clock", "note", "the time of day is not synchronized; timers do not depend on it, logs do",
            "sudo timedatectl set-ntp true",
        )  # fmt: skip
    elif synchronized == "yes":
        yield Finding("clock", "ok", "the time of day is synchronized")


def _examine_disks(machine: Machine) -> Iterator[Finding]:
    mounts = dict[str, tuple[str, list[str]]]()
    for line in machine.text("/proc/mounts").splitlines():
        _, point, kind, options, *_ = [*line.split(" "), "", "", "", ""]  # proc_mounts(5)
        mounts[point] = (kind, options.split(","))
    root_kind, root_options = mounts.get("/", ("", []))
    if "ro" in root_options or root_kind == "overlay":
        state = "an overlay: changes are lost at the next start" if root_kind == "overlay" else "mounted read-only"
        yield Finding(
            "disk", "note", f"the root file system is {state}; hwloop writes below /run and the state directory only",
            "to install something: sudo raspi-config nonint disable_overlayfs, restart, install, and enable it again",
        )  # fmt: skip
    for directory, use in {"/": "the system", **_WRITTEN}.items():
        numbers = machine.space(directory)
        if numbers is None or not numbers.f_blocks:
            continue
        where = f"the file system of {directory} ({use})"
        if numbers.f_bavail < _LEAST_FREE * numbers.f_blocks:
            free = numbers.f_bavail * numbers.f_frsize / 1e6
            full: Status = "problem" if numbers.f_bavail == 0 else "warning"
            yield Finding("disk", full, f"{where} has {free:.0f} MB free", f"sudo du -xhd1 {directory} | sort -h")
        if numbers.f_files and numbers.f_favail == 0:
            yield Finding(
                "disk", "problem", f"{where} has no inode left", f"sudo du --inodes -xd1 {directory} | sort -n"
            )


def _examine_units(machine: Machine) -> Iterator[Finding]:
    listed = machine.output("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
    for line in (listed or "").splitlines():
        unit = line.split()[0] if line.split() else ""
        ours = unit.startswith("hwloop")
        if unit:
            yield Finding(
                "systemd", "problem" if ours else "note", f"{unit} has failed",
                f"journalctl -u {unit} -n 20; then sudo systemctl restart {unit}",
            )  # fmt: skip
    if listed == "":
        yield Finding("systemd", "ok", "no unit has failed")
