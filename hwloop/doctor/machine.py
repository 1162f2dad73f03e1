"""The machine that the doctor examines: its files, its commands, its users, its GPIO chips.

Everything that the checks know comes through a `Machine`, so that a test can put one together below another root
directory. There no command runs, and only files tell about the kernel.
"""

from __future__ import annotations

import glob
import grp
import importlib.metadata
import importlib.util
import os
import pwd
import resource
import stat
import subprocess
from collections.abc import Collection
from typing import NamedTuple

from hwloop.boards import chip_discovery
from hwloop.boards.chip_discovery import ChipInfo

_PATIENCE = 5.0
"""Seconds for a command such as systemctl."""


class User(NamedTuple):
    """The user whose rights are examined."""

    name: str
    number: int
    groups: Collection[int]
    """The groups that the user has at the next login."""
    active: Collection[int]
    """The groups that this session has; for another user than the caller, `groups`."""


class Machine:
    """One machine.

    Parameters:
        root: the directory that holds its files.
        user: the name of the user whose rights are examined; by default the caller. Raises KeyError for an unknown one.
    """

    def __init__(self, root: str = "/", *, user: str = "") -> None:
        self.root = root
        self.running: bool = root == "/"
        self.user: User = _find_user(user)

    def path(self, path: str) -> str:
        """Return where a file of the machine is."""
        return os.path.join(self.root, path.lstrip("/"))

    def text(self, path: str) -> str:
        """Return the contents of a file, without spaces and NUL at its end; "" where it can't be read."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as file:
                return file.read().rstrip("\0 \n")
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or device node."""
        return os.path.exists(self.path(path))

    def find(self, pattern: str) -> list[str]:
        """Return the paths on the machine that match a pattern, in order."""
        prefix = len(self.root.rstrip("/"))
        return sorted(found[prefix:] for found in glob.glob(self.path(pattern)))

    def link(self, path: str) -> str:
        """Return the name of the file to which a link leads; "" where there is none."""
        try:
            return os.path.basename(os.readlink(self.path(path)))
        except OSError:
            return ""

    def usable(self, path: str) -> bool:
        """Return whether the session of the user may read and write a file, by its owner, group and mode."""
        return self._permits(path, self.user.active)

    def usable_after_login(self, path: str) -> bool:
        """Return whether the user may read and write a file once logged in again."""
        return self._permits(path, self.user.groups)

    def group_of(self, path: str) -> str:
        """Return the name of a file's group if the group may read and write the file; otherwise ""."""
        try:
            found = os.stat(self.path(path))
            return grp.getgrgid(found.st_gid).gr_name if found.st_mode & 0o060 == 0o060 else ""
        except (OSError, KeyError):
            return ""

    def output(self, *command: str) -> str | None:
        """Run a command and return its output; None where it is missing, fails or takes too long."""
        if not self.running:
            return None
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def chips(self) -> list[ChipInfo]:
        """Return the GPIO chips. Raises `HardwareError` where there are some and none can be opened."""
        return chip_discovery.list_chips() if self.running else []

    def version(self, package: str) -> str:
        """Return the version of an installed Python package; "" where it is missing."""
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Debian's packages of lgpio and others carry no metadata for Python.
            return "of the system" if _importable(package) else ""

    def importable(self, module: str) -> bool:
        """Return whether a Python module is installed. Imports nothing."""
        return _importable(module)

    def limit(self, which: int) -> int:
        """Return the hard limit of this process for a resource (setrlimit(2)); a large number where there is none."""
        hard = resource.getrlimit(which)[1]
        return 1 << 62 if hard == resource.RLIM_INFINITY else hard

    def space(self, path: str) -> os.statvfs_result | None:
        """Return the numbers of the file system that holds a path; None where there is no such path."""
        try:
            return os.statvfs(self.path(path))
        except OSError:
            return None

    def _permits(self, path: str, groups: Collection[int]) -> bool:
        try:
            found = os.stat(self.path(path))
        except OSError:
            return False
        if self.user.number == 0:
            return True
        if found.st_uid == self.user.number:
            wanted = stat.S_IRUSR | stat.S_IWUSR
        elif found.st_gid in groups:
            wanted = stat.S_IRGRP | stat.S_IWGRP
        else:
            wanted = stat.S_IROTH | stat.S_IWOTH
        return found.st_mode & wanted == wanted


def _find_user(name: str) -> User:
    """Return a user by name, or the caller."""
    if not name:
        try:
            entry = pwd.getpwuid(os.geteuid())
        except KeyError:  # a container may run a number that has no entry
            active = frozenset({os.getegid(), *os.getgroups()})
            return User(str(os.geteuid()), os.geteuid(), active, active)
    else:
        entry = pwd.getpwnam(name)
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    caller = entry.pw_uid == os.geteuid()
    return User(entry.pw_name, entry.pw_uid, groups, {os.getegid(), *os.getgroups()} if caller else groups)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
