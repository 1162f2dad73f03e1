"""Commands that an installation runs: a list of words, an environment without traps, and an error that says why.

sudo may pass on variables that lead pip, uv or Python elsewhere: PYTHONPATH, PIP_TARGET, a virtual environment. And
root must not execute a program that somebody else could replace, so `find_tool` rejects those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwloop.deployment.files import UnsafePathError, check_trusted

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEADING_ASTRAY = (
    "PYTHON", "VIRTUAL_ENV", "CONDA", "LD_", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV", "PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_BREAK_SYSTEM_PACKAGES", "PIP_NO_DEPS",
    "PIP_IGNORE_INSTALLED", "PIP_REPORT", "UV_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_SYSTEM_PYTHON", "UV_PROJECT",
    "UV_WORKING_DIRECTORY", "UV_NO_DEPS", "UV_LINK_MODE", "UV_BREAK_SYSTEM_PACKAGES", "HWLOOP_", "NOTIFY_SOCKET",
    "WATCHDOG_", "TEMP", "TMP",
)  # fmt: skip
"""Beginnings of variables that no command gets."""
_SHOWN = 12
"""The last lines of a failed command that its error has."""


class CommandError(Exception):
    """A command failed; the message has the command and the last lines of its output."""


def clean_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for a command: the caller's, without those that lead it astray."""
    source = os.environ if environment is None else environment
    kept = {name: value for name, value in source.items() if not name.startswith(_LEADING_ASTRAY)}
    return kept | {"PATH": PATH, "LC_ALL": "C.UTF-8"}


def run(command: Sequence[str], directory: Path, name: str = "") -> str:
    """Run a command in a directory and return its standard output.

    Raises `CommandError`, which calls it `name`, by default the name of its file.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            umask=0o022,
        )
    except OSError as error:
        raise CommandError(f"{command[0]}: {(error.strerror or str(error)).lower()}") from error
    if done.returncode:
        lines = [line for text in (done.stdout, done.stderr) for line in text.strip().splitlines()][-_SHOWN:]
        shown = "\n".join(f"    {line}" for line in lines) or f"    (status {done.returncode})"
        raise CommandError(f"{name or os.path.basename(command[0])} failed:\n{shown}")
    return done.stdout


def find_tool(name: str) -> str:
    """Return the path of a program that the caller may execute without risk; "" where there is none."""
    found = shutil.which(name) or ""
    if not found or os.geteuid() != 0:
        return found
    try:
        check_trusted(Path(found))
    except UnsafePathError:
        return ""
    return found
