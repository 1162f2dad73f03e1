"""`hwloop service install`: from arguments to the order of a service."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hwloop
from hwloop.cli import Failure, UsageError, say
from hwloop.cli.program import is_script
from hwloop.cli.unit import add_unit_arguments, chosen_devices, default_name, directory, run_options
from hwloop.deployment import interpreter
from hwloop.deployment.environment import Plan
from hwloop.deployment.installation import Services
from hwloop.deployment.interpreter import Interpreter
from hwloop.deployment.lock import read_lock
from hwloop.deployment.order import Order
from hwloop.deployment.own_wheel import pack_own_wheel
from hwloop.deployment.program import Program, ScriptProgram, check_requirement, digest_of, find_program, satisfies
from hwloop.deployment.quoting import check_name, check_user
from hwloop.deployment.script import files_below, read_file
from hwloop.deployment.visibility import Visibility

_SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
"""The packages of Debian's Python."""


def add_install_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = (
        "hwloop service install PROGRAM [--name NAME] [--board BOARD] [--realtime [PRIORITY]] [OPTION ...] "
        "[-- ARGS ...]"
    )
    parser.add_argument(
        "program",
        metavar="PROGRAM",
        help="a Python file (FILE:MAIN for a coroutine function in it), a project's directory with a pyproject.toml, "
        "a wheel, or a package such as 'door-alarm>=1.2'",
    )
    add_unit_arguments(parser)
    parser.add_argument(
        "--entry", metavar="NAME", default="", help="the script or module of a project or package to run"
    )
    parser.add_argument(
        "--include",
        metavar="PATH",
        action="append",
        default=[],
        help="a file or directory beside the program to copy too",
    )
    parser.add_argument(
        "--with", metavar="PACKAGE", action="append", default=[], dest="packages", help="a package to add"
    )
    parser.add_argument("--python", metavar="PYTHON", help="the Python of the environment (default: that of hwloop)")
    parser.add_argument(
        "--wheelhouse",
        metavar="DIR",
        type=directory,
        help="take packages from a directory of wheels, and nothing from an index",
    )
    parser.add_argument(
        "--constraint", metavar="FILE", type=Path, help="limit versions as in a constraints file of pip"
    )
    parser.add_argument(
        "--lock",
        metavar="FILE",
        type=Path,
        help="a requirements file with the versions and hashes of all packages; nothing else is installed or built",
    )
    parser.add_argument(
        "--system-site-packages", action="store_true", help="let the program see the packages of the system's Python"
    )
    parser.add_argument(
        "--guardian",
        action="store_true",
        help="have a guardian hold its outputs with keep=True (default: if its text has any)",
    )
    parser.add_argument("--upgrade", action="store_true", help="look for newer versions of the packages")
    parser.add_argument("--no-start", action="store_true", help="install it without starting it")


def install(services: Services, arguments: argparse.Namespace) -> int:
    """Install a program as a service."""
    program = find_program(arguments.program, arguments.entry)
    name = check_name(arguments.name) if arguments.name is not None else default_name(program.label, program.stem)
    python = _choose_python(program, arguments.python, arguments.root)
    extra = {**_included(program, arguments.include), **dict(_board_files(arguments.board))}
    current = services.current(name)
    generation = 0 if current is None else current.generation + arguments.upgrade
    order = Order(
        name=name,
        program=program,
        plan=_plan(program, python, arguments, generation),
        options=_options(arguments),
        extra=extra,
        devices=chosen_devices(arguments.device, arguments.board),
        user="" if arguments.dynamic_user else check_user(arguments.user),
        realtime=arguments.realtime,
        start_timeout=arguments.start_timeout,
        has_loop=not (isinstance(program, ScriptProgram) and not program.main and is_script(program.script.tree)),
        network=arguments.network,
        guarded=arguments.guardian,
        start=not arguments.no_start,
    )
    if not services.install(order):
        state = services.state(name).active
        note = "" if state in ("active", "unknown") else f"; it is {state}: hwloop service status {name}"
        say(f"{name}: installed already, exactly so; nothing changed{note}\n")
    elif note := program.look().note_on_outputs():
        say(f"hwloop service: note: {note}\n", sys.stderr)
    return 0


def _choose_python(program: Program, chosen: str | None, root: Path) -> Interpreter:
    """Return the Python of the environment. Raises `Failure` for one that the service could not use."""
    python = interpreter.inspect(chosen or interpreter.own_python())
    if not satisfies(python.version, program.requires_python):
        raise Failure(
            f"{program.label} needs Python {program.requires_python}; {python.executable} is {python.version_text}; "
            "choose another one with --python"
        )
    image = root != Path("/")
    if image and (problem := interpreter.missing_in_image(python, root)):
        raise Failure(
            f"{problem}; choose a Python that both have with --python, or install inside of the image: "
            f"chroot {root} hwloop service install …"
        )
    visibility = Visibility(str(root), booted=not image and os.path.isdir("/run/systemd/system"))
    if problem := python.obstacle(visibility):
        raise Failure(
            f"a service can't use the Python {python.executable}: {problem}; choose one that all users have, "
            "such as --python /usr/bin/python3 (on Debian: apt install python3 python3-venv)"
        )
    if problem := visibility.obstacle("/opt/hwloop/services"):
        raise Failure(f"services can't be installed in /opt/hwloop: {problem}; make /opt an ordinary directory")
    return python


def _plan(program: Program, python: Interpreter, arguments: argparse.Namespace, generation: int) -> Plan:
    for package in (*program.requirements, *arguments.packages):
        check_requirement(package)
    wheelhouse = arguments.wheelhouse
    if wheelhouse is not None and not any(wheelhouse.glob("*.whl")):
        raise UsageError(
            f"--wheelhouse {wheelhouse}: there are no wheels in it; make them with: pip wheel -w DIR PACKAGE"
        )
    lock = read_lock(Path(os.path.abspath(arguments.lock))) if arguments.lock else None
    if lock is not None:
        if arguments.constraint:
            raise UsageError("--lock has all versions already; leave out --constraint")
        if program.project is not None and program.project.is_dir():
            raise UsageError(
                f"--lock: {program.label} would be built by tools that no lock has; "
                f"install its wheel instead: pip wheel --no-deps {program.project}"
            )
        lock.check_has((*program.requirements, *arguments.packages))
    constraint = arguments.constraint and Path(os.path.abspath(arguments.constraint))
    # Debian's hwloop has its requirements from Debian as well, which no index has in these versions.
    of_system = Path(hwloop.__file__).parents[1] == _SYSTEM_PACKAGES and python.executable.startswith("/usr/bin/")
    return Plan(
        python=python,
        hwloop=None if of_system else pack_own_wheel(),
        requirements=(*program.requirements, *arguments.packages),
        project=program.project,
        project_digest=program.digest if program.project else "",
        wheelhouse=wheelhouse,
        constraints=constraint,
        constraints_digest=digest_of({"": read_file(constraint)}) if constraint else "",
        lock=lock,
        system_packages=arguments.system_site_packages or of_system,
        generation=generation,
    )


def _options(arguments: argparse.Namespace) -> Callable[[str], tuple[str, ...]]:
    board = arguments.board

    def options(files: str) -> tuple[str, ...]:
        return run_options(arguments, f"{files}/{os.path.basename(board)}" if _is_file(board) else board)

    return options


def _is_file(board: str | None) -> bool:
    return board is not None and board.endswith(".toml")


def _board_files(board: str | None) -> Iterator[tuple[str, bytes]]:
    """Yield a board file, and the files beside it that it names."""
    if board is None or not _is_file(board):
        return
    path = Path(os.path.abspath(board))
    data = read_file(path)
    yield path.name, data
    try:
        strings = list(_strings(tomllib.loads(data.decode())))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--board {board}: {error}") from None
    for text in strings:
        if "/" not in text and (path.parent / text).is_file():
            yield text, read_file(path.parent / text, below=path.parent)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _included(program: Program, paths: list[str]) -> dict[str, bytes]:
    """Return the files that --include names, by their paths relative to the program."""
    if not paths:
        return {}
    if not isinstance(program, ScriptProgram):
        raise UsageError("--include is for a program in a file; a project lists its files in its pyproject.toml")
    base, found = program.script.file.parent, dict[str, bytes]()
    for text in paths:
        path = Path(os.path.abspath(text))
        if not path.is_relative_to(base) or path == base:
            raise UsageError(f"--include {text}: it must be below {base}, as the program finds it there")
        files = files_below(path, base) if path.is_dir() else [(path.relative_to(base).as_posix(), path)]
        found.update((relative, read_file(file, below=base)) for relative, file in files)
    return found
