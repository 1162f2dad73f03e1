"""Make a small project: a program, its simulated board, tests, a scenario and a CI workflow.

    hwloop new door-alarm
    cd door-alarm
    pytest

The project passes its own tests as it stands, and each test shows one thing: a condition, a trace, a fault, a scenario.
Change the program and the board file to what you want to build. The name of the directory becomes the name of the
project. It can't be that of a package that the project needs. A directory that exists must be empty.

    hwloop new lamp --script lamp.py

With --script the project is for a script that you have, such as one with gpiozero: a copy of it, a board file with the
parts that its lines suggest, and three tests, which pass as they stand. The directory may be that of the script
(`hwloop new . --script lamp.py`), where nothing is overwritten. The script is run on the simulated board, to see what
it does.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from hwloop.cli import Failure, UsageError, say

_SUFFIX = ".txt"
"""Templates have this suffix, so that nothing takes them for modules and tests of hwloop, and `dot_` for a dot."""
_NAME = "PROJECT"

NEEDED = ("hwloop", "gpiod", "gpiozero", "lgpio", "pyserial", "pytest", "setuptools", "smbus2")
"""The packages that a project needs: pip would replace one by a project of its name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the directory to make; its name is that of the project")
    parser.add_argument(
        "--script",
        metavar="SCRIPT.py",
        help="make a board file and three tests for this script, which stays as it is",
    )


def execute(arguments: argparse.Namespace) -> int:
    if not arguments.directory:
        raise UsageError("the name of the directory is empty; '.' is the current one")
    directory = Path(arguments.directory)
    if arguments.script is not None:
        return _for_script(directory, Path(arguments.script))
    name = project_name(directory)
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            what = "is not empty" if directory.is_dir() else "is a file"
            raise Failure(f"{directory} {what}; name a new directory, or an empty one")
        files = write_project(directory, name)
    except OSError as error:
        raise Failure(f"{error.filename or directory}: {str(error.strerror).lower()}") from error
    say("".join(f"{file}\n" for file in files))
    say(f"made {name}: {len(files)} files; to run its tests: {_entering(directory)}pytest\n")
    return 0


def _for_script(directory: Path, script: Path) -> int:
    from hwloop.cli import new_script

    try:
        files, remarks = new_script.write_tests(directory, script)
    except OSError as error:
        raise Failure(f"{error.filename or directory}: {str(error.strerror).lower()}") from error
    say("".join(f"{file}\n" for file in files))
    for remark in remarks:
        say(f"hwloop new: {remark}\n", sys.stderr)
    say(f"made {len(files)} files for {script.name}; to run its tests: {_entering(directory)}pytest\n")
    return 0


def _entering(directory: Path) -> str:
    return "" if directory.resolve() == Path.cwd() else f"cd {shlex.quote(str(directory))}; "


def project_name(directory: Path) -> str:
    """Return the name of the project in `directory`. Raises `UsageError` for one that it can't have."""
    name = directory.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise UsageError(
            f"{name!r} can't be the name of a project; use letters, digits, '-', '_' and '.', for example door-alarm"
        )
    if re.sub(r"[-_.]+", "-", name).lower() in NEEDED:
        raise UsageError(
            f"{name!r} is the name of a package that the project needs; choose another one, for example door-alarm"
        )
    return name


def write_project(directory: Path, name: str) -> list[Path]:
    """Write the files of a project, and return their paths."""
    written = []
    for path, template in sorted(_templates(resources.files("hwloop.cli").joinpath("project"))):
        file = directory / path.removesuffix(_SUFFIX).replace("dot_", ".").replace(_NAME, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "x", encoding="utf-8") as output:
            output.write(template.read_text(encoding="utf-8").replace(_NAME, name))
        written.append(file)
    return written


def _templates(folder: Traversable, inside: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        path = os.path.join(inside, entry.name)
        if entry.is_dir():
            found += _templates(entry, path)
        elif entry.name.endswith(_SUFFIX):
            found.append((path, entry))
    return found
