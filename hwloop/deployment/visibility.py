"""Paths that a shell sees and a service does not: hidden by its unit, gone after a restart, or closed to its user.

A Python of uv or pyenv lives below a home directory, which a hardened unit hides (ProtectHome=, systemd.exec(5)) and
whose mode keeps other users out. A service that starts by hand and fails at the next boot is worse than one that can't
be installed, so all of this is checked before anything is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Directories that a unit hides, by ProtectHome= and PrivateTmp=."""
_PART_OF_SYSTEM = ("/", "/usr")
_UNITS = ("/run/systemd/generator", "/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


class Mount(NamedTuple):
    """A mounted file system (proc_pid_mountinfo(5))."""

    point: str
    options: frozenset[str]
    kind: str


class Visibility:
    """The paths that a service on a machine can see.

    Parameters:
        root: the directory that holds the machine's files; "/" for this machine.
        booted: whether systemd runs on it, so that its mounts can be compared with those of the next boot.
    """

    def __init__(self, root: str = "/", *, booted: bool = False) -> None:
        self._root = root
        self._booted = booted

    def obstacle(self, path: str, *, executable: bool = False) -> str:
        """Return why a service could not use a path of the machine; "" if it can."""
        real = self._real(path)
        for each in dict.fromkeys((path, real)):
            for hidden in HIDDEN:
                if within(each, hidden):
                    leads = f" (it leads to {real})" if each != path else ""
                    return f"{path}{leads} is below {hidden}, which services can't see"
        for closed in self._closed(real, executable=executable):
            return f"{closed} may not be {'entered' if closed != real else 'read'} by other users than its owner"
        return self._mounted(real, executable=executable) if self._root == "/" else ""

    def _real(self, path: str) -> str:
        real = os.path.realpath(os.path.join(self._root, path.lstrip("/")))
        return "/" + os.path.relpath(real, self._root) if self._root != "/" else real

    def _closed(self, real: str, *, executable: bool) -> Iterator[str]:
        """Yield the directories on the way to a path that other users may not enter, and the path if it is closed."""
        parts = real.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            path = "/" + "/".join(parts[:count])
            try:
                mode = os.stat(os.path.join(self._root, path.lstrip("/"))).st_mode
            except OSError:
                return
            last = count == len(parts)
            wanted = 0o001 if not last else (0o005 if executable else 0o004)
            if mode & wanted != wanted:
                yield path

    def _mounted(self, real: str, *, executable: bool) -> str:
        mount = next((each for each in reversed(self.mounts()) if within(real, each.point)), None)
        if mount is None or mount.point in _PART_OF_SYSTEM:
            return ""
        if mount.kind in ("tmpfs", "ramfs"):
            return f"{real} is in memory ({mount.point} is a {mount.kind}), and gone after a restart"
        if executable and "noexec" in mount.options:
            return f"{real} can't be executed: {mount.point} is mounted with noexec"
        if mount.kind.startswith("fuse.") and "allow_other" not in mount.options:
            return f"{real} is on {mount.point} ({mount.kind}), which nobody sees but the user that mounted it"
        if self._booted and not self._comes_back(mount.point):
            return f"{real} is on {mount.point}, which was mounted by hand and is missing after a restart"
        return ""

    def mounts(self) -> list[Mount]:
        """Return the mounted file systems, deeper ones last."""
        found = []
        for line in self._text("/proc/self/mountinfo").splitlines():
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if len(fields) > 5 and len(kind) > 2:
                options = frozenset((*fields[5].split(","), *kind[2].split(",")))
                found.append(Mount(_unescaped(fields[4]), options, kind[0]))
        return sorted(found, key=lambda mount: len(mount.point.rstrip("/")))

    def _comes_back(self, point: str) -> bool:
        """Return whether systemd mounts a file system at boot."""
        for line in self._text("/etc/fstab").splitlines():
            fields = line.split()
            if len(fields) > 3 and not line.startswith("#") and _unescaped(fields[1]).rstrip("/") == point.rstrip("/"):
                return "noauto" not in fields[3].split(",")
        escaped = "-".join(
            re.sub(r"[^A-Za-z0-9_.:]", lambda each: "".join(f"\\x{byte:02x}" for byte in each[0].encode()), part)
            for part in point.strip("/").split("/")
        )
        return any(os.path.exists(f"{self._root.rstrip('/')}{unit}/{escaped}.mount") for unit in _UNITS)

    def _text(self, path: str) -> str:
        try:
            with open(os.path.join(self._root, path.lstrip("/")), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return ""


def within(path: str, directory: str) -> bool:
    """Return whether a path is a directory or below it. Looks at the text only."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _unescaped(text: str) -> str:
    """Return a field of mountinfo or fstab without its octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
