"""systemd, as far as services need it: a narrow interface, which tests and images replace.

Commands get their arguments as a list, never through a shell, and their output in English without colours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hwloop.deployment.commands import clean_environment
from hwloop.deployment.files import remove, remove_if_empty, write_link
from hwloop.deployment.layout import Layout

_PATIENCE = 120.0
"""Seconds for a command that does not wait for a service."""
_PROPERTIES = (
    "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "StatusText", "NRestarts", "MainPID",
    "ActiveEnterTimestamp", "MemoryCurrent", "UnitFileState", "NeedDaemonReload",
)  # fmt: skip


class SystemctlError(Exception):
    """systemd did not do what was asked; the message is systemd's own."""


class State(NamedTuple):
    """The state of a unit, as `systemctl show` reports it."""

    active: str = "unknown"
    """`active`, `activating`, `inactive`, `failed` …; `unknown` where systemd does not run."""
    sub: str = ""
    result: str = ""
    """The reason of the last end: `success`, `exit-code`, `signal`, `timeout`, `watchdog`, `protocol` …"""
    code: str = ""
    """How its process ended: "1" it exited, "2" a signal killed it, as in <sys/wait.h>."""
    status: int = 0
    """The status or the signal with which its process ended."""
    text: str = ""
    """The program's own line."""
    restarts: int = 0
    pid: int = 0
    since: str = ""
    memory: int = 0
    """Bytes; 0 if unknown."""
    enabled: str = ""


class Systemctl(Protocol):
    """The part of systemd that an installation uses."""

    running: bool
    """Whether systemd runs on the machine, so that services can be started."""

    def reload(self) -> None:
        """Have systemd read all units again."""

    def enable(self, unit: str) -> None:
        """Have a unit started at boot."""

    def disable(self, unit: str) -> None:
        """Have a unit no longer started at boot."""

    def restart(self, unit: str) -> bool:
        """Start a unit, or stop and start it, and return whether it became ready within its time.

        Earlier failures do not count.
        """

    def restart_running(self, unit: str) -> None:
        """Stop and start a unit if it runs; nothing for one that does not run or exist."""

    def stop(self, unit: str) -> None:
        """Stop a unit, and forget that it failed."""

    def state(self, unit: str) -> State:
        """Return the state of a unit."""

    def log(self, unit: str, lines: int, since: float = 0.0) -> list[str]:
        """Return the last lines of a unit's log, those after `since` (seconds since 1970)."""

    def show_log(self, unit: str, lines: int, *, follow: bool) -> int:
        """Print the last lines of a unit's log, and those that follow; return the status of journalctl."""


class LiveSystemctl:
    """The systemd of this machine."""

    running = True

    def reload(self) -> None:
        self._do("daemon-reload")

    def enable(self, unit: str) -> None:
        self._do("--quiet", "enable", "--", unit)

    def disable(self, unit: str) -> None:
        self._do("--quiet", "disable", "--", unit)

    def restart(self, unit: str) -> bool:
        _run(["systemctl", "reset-failed", "--", unit])
        # No time limit here: that of the unit counts, and a slow start may extend it.
        return _run(["systemctl", "restart", "--", unit], timeout=None).returncode == 0

    def restart_running(self, unit: str) -> None:
        _run(["systemctl", "try-restart", "--", unit])

    def stop(self, unit: str) -> None:
        _run(["systemctl", "stop", "--", unit], timeout=None)
        _run(["systemctl", "reset-failed", "--", unit])

    def state(self, unit: str) -> State:
        done = _run(["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", unit])
        found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        return State(
            active=found.get("ActiveState", "unknown"),
            sub=found.get("SubState", ""),
            result=found.get("Result", ""),
            code=found.get("ExecMainCode", ""),
            status=_number(found.get("ExecMainStatus", "")),
            text=found.get("StatusText", ""),
            restarts=_number(found.get("NRestarts", "")),
            pid=_number(found.get("MainPID", "")),
            since=found.get("ActiveEnterTimestamp", ""),
            memory=_number(found.get("MemoryCurrent", "")),
            enabled=found.get("UnitFileState", ""),
        )

    def log(self, unit: str, lines: int, since: float = 0.0) -> list[str]:
        begin = [f"--since=@{since:.0f}"] if since else []
        try:
            done = _run(
                ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}", *begin, f"--unit={unit}"]
            )
        except SystemctlError:
            return []
        return done.stdout.splitlines()

    def show_log(self, unit: str, lines: int, *, follow: bool) -> int:
        command = ["journalctl", f"--lines={lines}", f"--unit={unit}", *(["--follow"] if follow else ["--no-pager"])]
        sys.stdout.flush()
        try:
            return subprocess.run(command, check=False, env=clean_environment()).returncode
        except FileNotFoundError:
            raise SystemctlError("journalctl not found; on Debian: apt install systemd") from None

    def _do(self, *arguments: str) -> None:
        done = _run(["systemctl", *arguments])
        if done.returncode:
            raise SystemctlError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")


class OfflineSystemctl:
    """A machine whose systemd does not run: an image, a container, a chroot. Services start at its next boot.

    Parameters:
        layout: the places of services on it.
    """

    running = False

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def reload(self) -> None:
        pass

    def enable(self, unit: str) -> None:
        write_link(
            self._layout.units / "multi-user.target.wants" / unit, f"/etc/systemd/system/{unit}", root=self._layout.root
        )

    def disable(self, unit: str) -> None:
        wants = self._layout.units / "multi-user.target.wants"
        remove(wants / unit)
        remove_if_empty([wants])

    def restart(self, unit: str) -> bool:
        return True

    def restart_running(self, unit: str) -> None:
        pass

    def stop(self, unit: str) -> None:
        pass

    def state(self, unit: str) -> State:
        return State()

    def log(self, unit: str, lines: int, since: float = 0.0) -> list[str]:
        return []

    def show_log(self, unit: str, lines: int, *, follow: bool) -> int:
        raise SystemctlError("systemd does not run here, so there is no log")


def _run(command: Sequence[str], timeout: float | None = _PATIENCE) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=clean_environment() | {"SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
        )
    except FileNotFoundError:
        raise SystemctlError(f"{command[0]} not found; on Debian: apt install systemd") from None
    except subprocess.TimeoutExpired:
        raise SystemctlError(f"{' '.join(command[:2])} did not end in {timeout:g} s") from None


def _number(text: str) -> int:
    # An unknown size is the largest number of 64 bits, or "[not set]".
    return int(text) if text.isdecimal() and int(text) < 2**63 else 0
