"""Pythons: the one that runs hwloop, and the one that a service's environment is made from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from hwloop.deployment.visibility import Visibility

LEAST = (3, 11)
_PATIENCE = 60.0
"""Seconds for a Python to start; on a Pi Zero with a slow card it takes some."""
_QUESTIONS = """
import json, os, sys, sysconfig
base = getattr(sys, "_base_executable", "") or sys.executable
print(json.dumps({
    "executable": base, "version": list(sys.version_info[:3]), "library": sysconfig.get_path("stdlib"),
    "abi": f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')} {sysconfig.get_platform()}",
}))
"""


class InterpreterError(Exception):
    """A Python can't be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that is no virtual environment.

    Attributes:
        executable: its path, without links: python3 may lead to another version after an update of the system.
        version: three numbers.
        library: the directory of its standard library.
        abi: its implementation, version and platform, which compiled packages depend on.
    """

    executable: str
    version: tuple[int, int, int]
    library: str
    abi: str

    @property
    def version_text(self) -> str:
        """The version as text: "3.13.5"."""
        return ".".join(map(str, self.version))

    def obstacle(self, visibility: Visibility) -> str:
        """Return why a service could not use this Python; "" if it can."""
        return visibility.obstacle(self.executable, executable=True) or visibility.obstacle(self.library)


def inspect(python: str) -> Interpreter:
    """Return the Python with a path, or the one that a virtual environment was made from. Raises `InterpreterError`."""
    remedy = "choose another one with --python, for example --python /usr/bin/python3"
    try:
        # -I: no variables of the environment, nothing from the current directory.
        done = subprocess.run([python, "-I", "-c", _QUESTIONS], capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode:
            problem = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
            raise InterpreterError(f"{python} does not work as Python: {problem}; {remedy}")
        said = json.loads(done.stdout)
        found = Interpreter(os.path.realpath(said["executable"]), tuple(said["version"]), said["library"], said["abi"])
    except OSError as error:
        raise InterpreterError(f"{python}: {(error.strerror or str(error)).lower()}; {remedy}") from None
    except subprocess.TimeoutExpired:
        raise InterpreterError(f"{python} did not start in {_PATIENCE:g} s; {remedy}") from None
    except (ValueError, KeyError, TypeError):
        raise InterpreterError(f"{python} does not answer as Python does; {remedy}") from None
    if found.version[:2] < LEAST:
        raise InterpreterError(
            f"{python} is Python {found.version_text}; hwloop needs {'.'.join(map(str, LEAST))} or later; {remedy}"
        )
    return found


def own_python() -> str:
    """Return the path of the Python that runs this process, or that its virtual environment was made from."""
    return getattr(sys, "_base_executable", "") or sys.executable


def own_command() -> Path:
    """Return the path of the `hwloop` command of this installation. Raises ValueError where there is none."""
    called = Path(sys.argv[0])
    for path in (Path(sysconfig.get_path("scripts"), "hwloop"), called):
        if path.name == "hwloop" and os.access(path, os.X_OK):
            return Path(os.path.abspath(path))
    raise ValueError(
        f"there is no command hwloop in {sysconfig.get_path('scripts')}; "
        "install hwloop with pip, pipx, uv or Debian's package"
    )


def missing_in_image(python: Interpreter, root: Path) -> str:
    """Return why an environment that this machine's Python makes would not work in an image; "" if it would."""
    inside = Path(root, python.executable.lstrip("/"))
    real = Path(os.path.realpath(inside))
    if not real.is_file() or not real.is_relative_to(os.path.realpath(root)):
        return f"{root} has no {python.executable}"
    ours, theirs = _machine(Path(python.executable)), _machine(real)
    if ours != theirs:
        return f"the Python of {root} is for another processor than this machine's"
    return ""


def _machine(path: Path) -> bytes:
    """Return the class and the machine of a program, from its header (elf(5))."""
    with open(path, "rb") as file:
        header = file.read(20)
    return header[4:6] + header[18:20]
