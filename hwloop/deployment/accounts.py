"""The user that services run as, and the groups of the devices: made where they are missing, and removed after use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from hwloop.deployment.commands import CommandError, clean_environment
from hwloop.deployment.files import make_directory, read_text, remove, write_file
from hwloop.deployment.layout import Layout


class Accounts(Protocol):
    """The users and groups of a machine."""

    def add(self, user: str, groups: Iterable[str]) -> list[str]:
        """Add those that are missing, and return them: "user hwloop", "group gpio". "" is no user."""

    def remove_added(self) -> list[str]:
        """Remove those that `add` has added and nobody else has come to use, and return them."""


class SystemAccounts:
    """The accounts of a machine or an image, by systemd-sysusers and the usual commands.

    A record beside the services holds what was added, so that it can be removed with the last of them.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._record = layout.services / "accounts.json"

    def add(self, user: str, groups: Iterable[str]) -> list[str]:
        lines, added = list[str](), list[str]()
        for group in groups:
            if group not in self._names("group"):
                lines.append(f"g {group} -")
                added.append(f"group {group}")
        if user and user not in self._names("passwd"):
            lines.append(f'u {user} - "Programs on hwloop" /var/lib/hwloop')
            added.append(f"user {user}")
        if lines:
            make_directory(self._layout.root / "etc", root=self._layout.root)
            root = [f"--root={self._layout.root}"] if self._layout.is_image else []
            self._run(["systemd-sysusers", *root, "-"], "\n".join(lines) + "\n")
            everything = [*self._added(), *added]
            write_file(self._record, json.dumps(everything).encode(), root=self._layout.root)
        return added

    def remove_added(self) -> list[str]:
        removed = []
        root = ["--prefix", str(self._layout.root)] if self._layout.is_image else []
        for each in sorted(self._added(), reverse=True):  # users before groups
            kind, _, name = each.partition(" ")
            known = self._names("passwd" if kind == "user" else "group")
            if name not in known or (kind == "group" and known[name][2]):
                continue
            try:
                self._run(["userdel" if kind == "user" else "groupdel", *root, "--", name])
            except CommandError:
                continue  # a process or a user still has it
            removed.append(each)
            own = self._names("group").get(name)  # userdel leaves it where login.defs says so
            if kind == "user" and own is not None and not own[2]:
                self._run(["groupdel", *root, "--", name])
        remove(self._record)
        return removed

    def _added(self) -> list[str]:
        return list(json.loads(read_text(self._record) or "[]"))

    def _names(self, file: str) -> dict[str, list[str]]:
        """Return the entries of /etc/passwd or /etc/group by their names."""
        text = read_text(Path(self._layout.root, "etc", file)) or ""
        entries = (line.split(":") for line in text.splitlines() if line.count(":") >= 3)
        return {name: rest for name, *rest in entries}

    def _run(self, command: list[str], text: str = "") -> None:
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, env=clean_environment())
        except FileNotFoundError:
            raise CommandError(f"{command[0]} not found; on Debian: apt install systemd passwd") from None
        if done.returncode:
            raise CommandError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
