"""Print the systemd unit of a program, fitted to the devices that the program uses.

    hwloop unit door.py > hwloop-door.service
    hwloop unit door.py --device gpio --device /dev/ttyUSB0
    hwloop unit door.py --check            and show what systemd-analyze says about it

The unit runs the program where it is, with the hwloop that prints the unit. `hwloop service install` gives the program
an environment of its own, installs the same unit and starts it.

The devices come from --device; without it, from the text of the program and of the modules beside it.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwloop import plugins
from hwloop.board import BUILT_IN
from hwloop.cli import Failure, UsageError, say
from hwloop.cli.program import acts, calls_main, is_script, may_have_main
from hwloop.cli.run import open_named_board
from hwloop.core.realtime import RealTime
from hwloop.deployment import devices, interpreter
from hwloop.deployment.devices import Devices
from hwloop.deployment.program import ScriptProgram
from hwloop.deployment.quoting import check_name, check_user, guardian_name, name_from
from hwloop.deployment.script import ProgramError, files_below, parse, read_file, read_script
from hwloop.deployment.unit import DEFAULT_START_TIMEOUT, DEFAULT_USER, Unit
from hwloop.deployment.visibility import Visibility
from hwloop.errors import suggestion

_PATIENCE = 60.0
"""Seconds for systemd-analyze."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop unit PROGRAM.py[:MAIN] [--name NAME] [--board BOARD] [--realtime [PRIORITY]] [--device DEVICE ...] "
        "[--network | --no-network] [--user USER | --dynamic-user] [--start-timeout SECONDS] [--guardian] [--check] "
        "[-- ARGS ...]"
    )
    parser.add_argument("program", metavar="PROGRAM.py[:MAIN]", help="the program, as for `hwloop run`")
    add_unit_arguments(parser)
    parser.add_argument(
        "--guardian", action="store_true", help="print the unit of the guardian that holds outputs with keep=True"
    )
    parser.add_argument(
        "--check", action="store_true", help="print what `systemd-analyze verify` and `security` say about the unit"
    )


def add_unit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the lines of a unit depend on."""
    parser.add_argument("--name", metavar="NAME", help="the name of the service (default: that of the program)")
    parser.add_argument(
        "--board", metavar="BOARD", help="the board to run on, as for `hwloop run`; a board file is simulated"
    )
    parser.add_argument(
        "--realtime",
        nargs="?",
        const=RealTime.priority,
        type=_priority,
        default=0,
        metavar="PRIORITY",
        help=f"permit and use real time: SCHED_FIFO (1 to 99; {RealTime.priority}), locked memory",
    )
    parser.add_argument(
        "--device",
        action="append",
        metavar="DEVICE",
        help=f"a device that it may open: {', '.join(devices.KINDS)}, none, a path below /dev, or a board file for "
        "the devices of its parts (default: those that its text shows)",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--network",
        action="store_true",
        default=None,
        help="permit the network (default: if its text shows that it wants it)",
    )
    network.add_argument("--no-network", action="store_false", dest="network", help="forbid the network")
    user = parser.add_mutually_exclusive_group()
    user.add_argument("--user", metavar="USER", default=DEFAULT_USER, help=f"the user to run as ({DEFAULT_USER})")
    user.add_argument("--dynamic-user", action="store_true", help="a user that exists only while the service runs")
    parser.add_argument(
        "--start-timeout",
        type=_seconds,
        metavar="SECONDS",
        default=DEFAULT_START_TIMEOUT,
        help=f"how long a start may take until the program is ready ({DEFAULT_START_TIMEOUT:g})",
    )
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    path, colon, main = arguments.program.rpartition(":")
    if not (colon and main.isidentifier()) or os.path.exists(arguments.program):
        path, main = arguments.program, ""
    program = Path(os.path.abspath(path))
    board = arguments.board
    if board is not None and board.endswith(".toml"):
        board = os.path.abspath(board)
    try:
        name = check_name(arguments.name) if arguments.name is not None else default_name(program.name, program.stem)
        user = "" if arguments.dynamic_user else check_user(arguments.user)
        if program.is_dir() and not (program / "__main__.py").is_file():
            raise ProgramError(f"{program} has no __main__.py to run; install a project: hwloop service install {path}")
        look = look_at(program)
        tree = None if program.is_dir() else parse(read_file(program), program)
        notes = [*_notes_on_board(board), *_notes_on_main(path, main, tree), *filter(None, [look.note_on_outputs()])]
        unit = Unit(
            name=name,
            program=program.name,
            hwloop=str(interpreter.own_command()),
            arguments=(f"{program}:{main}" if main else str(program), *run_options(arguments, board)),
            devices=chosen_devices(arguments.device, arguments.board) or look.devices(),
            mounts=(str(program), str(interpreter.own_command())),
            user=user,
            realtime=arguments.realtime,
            start_timeout=arguments.start_timeout,
            has_loop=bool(main) or tree is None or not is_script(tree),
            guarded=arguments.guardian or look.keeps_outputs,
            unguarded=look.unguarded,
            reloads=look.reloads,
            network=look.reason_for_network(arguments.network),
        )
        files = unit.files()
    except (ValueError, ProgramError) as error:
        raise UsageError(str(error)) from None
    for note in notes:
        print(f"hwloop unit: note: {note}", file=sys.stderr)
    visibility = Visibility(booted=os.path.isdir("/run/systemd/system"))
    for used, executable in ((unit.hwloop, True), (interpreter.own_python(), True), (str(program), False)):
        if obstacle := visibility.obstacle(used, executable=executable):
            print(f"hwloop unit: note: {obstacle}; hwloop service install puts copies where they can", file=sys.stderr)
    if unit.guarded and not arguments.guardian:
        print(
            f"hwloop unit: note: the outputs with keep=True need a guardian, {guardian_name(name)}; to print its unit: "
            "--guardian",
            file=sys.stderr,
        )
    if arguments.check:
        return check(files)
    say(unit.guardian_text() if arguments.guardian else unit.text())
    return 0


def _notes_on_board(board: str | None) -> list[str]:
    """Return why a service may not find its board. Raises `UsageError` for a board file with a mistake."""
    if board is None or board in BUILT_IN:
        return []
    if board.endswith(".toml") or os.path.exists(board):
        open_named_board(board).close()
    elif board not in plugins.installed(plugins.BOARDS, BUILT_IN):
        meant = suggestion(board.lower(), BUILT_IN)
        return [f"no package that is installed here has a board {board!r}, which the service needs{meant}"]
    return []


def _notes_on_main(path: str, main: str, tree: ast.Module | None) -> list[str]:
    """Return why a service may have nothing to run. Raises `UsageError` if `main` is not in the file."""
    if tree is None or may_have_main(tree, main or "main"):
        return []
    if main:
        raise UsageError(f"{path}: there is no coroutine function {main!r} in it")
    if acts(tree) or calls_main(tree):
        return []
    return [f"{path} starts nothing and has no 'async def main():', so the service may have nothing to run"]


def default_name(label: str, stem: str) -> str:
    """Return the name of the service of a program, from its file or package. Raises `UsageError` if that gives none."""
    try:
        return name_from(stem)
    except ValueError:
        raise UsageError(f"{label!r} gives no name for a service; add one: --name NAME") from None


def run_options(arguments: argparse.Namespace, board: str | None) -> tuple[str, ...]:
    """Return the words of `hwloop run` after the program: the chosen options, and the arguments of the program."""
    words = ["--board", board] if board else []
    if arguments.realtime:
        words.append("--realtime")
        if arguments.realtime != RealTime.priority:
            words.append(str(arguments.realtime))
    return (*words, *(("--", *arguments.rest) if arguments.rest else ()))


def chosen_devices(names: Sequence[str] | None, board: str | None) -> Devices | None:
    """Return the devices that the options name; None where they name none. Raises ValueError and `UsageError`."""
    if not names:
        simulated = board is not None and (board == "sim" or board.endswith(".toml"))
        return devices.of_kinds((), "none, because the board is simulated") if simulated else None
    kinds, others = set[str](), list[str]()
    for name in names:
        if name.endswith(".toml"):
            kinds |= _kinds_of_board(name)
        elif name != "none":
            others.append(name)
    return devices.named([*(kind for kind in devices.KINDS if kind in kinds and kind not in others), *others])


def _kinds_of_board(path: str) -> set[str]:
    """Return the kinds of devices that the parts of a board file are connected to."""
    from firmware_sim import SimBoard, WiringError

    try:
        board = SimBoard(path)
    except WiringError as error:
        raise UsageError(f"--device {error}") from None
    with board:
        used = {
            "gpio": bool(board.line_devices),
            "i2c": any(bus.devices() for bus in board.buses.values()),
            "spi": any(bus.devices() for bus in board.spi_buses.values()),
            "serial": bool(board.ports),
            "input": bool(board.nodes.entries("/dev/input")),
        }
    return {kind for kind, is_used in used.items() if is_used}


def look_at(program: Path) -> devices.Look:
    """Look at the text of a program: a file with the modules beside it, or the files of a directory.

    Raises `ProgramError`.
    """
    if program.is_dir():
        files = [(name, path) for name, path in files_below(program, program) if name.endswith(".py")]
        look = devices.Look({name.partition("/")[0].removesuffix(".py") for name, _ in files})
        for _, path in files:
            look.read(parse(read_file(path), path))
        return look
    return ScriptProgram(read_script(program)).look()


def check(files: Mapping[str, str]) -> int:
    """Print what systemd-analyze says about units, and return 1 if it found mistakes."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        raise Failure("--check needs systemd-analyze, which is not here; on Debian: apt install systemd")
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, name) for name in files]
        for path in paths:
            path.write_text(files[path.name], encoding="utf-8")
        verified = _output(analyze, "verify", "--man=no", *map(str, paths))
        rated = {path.name: _output(analyze, "security", "--offline=true", "--no-pager", str(path)) for path in paths}
    mistakes = verified.stdout + verified.stderr
    say(f"verify: {mistakes.strip().replace(f'{directory}/', '') or 'no mistakes'}\n")
    for name, done in rated.items():
        say(f"security of {name}:\n{done.stdout or done.stderr}")
    return int(bool(verified.returncode or mistakes.strip()))


def _output(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, env=os.environ | {"SYSTEMD_COLORS": "0"}
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{command[0]} {command[1]} did not end in {_PATIENCE:g} s; try it again") from None


def _priority(text: str) -> int:
    """Convert an argument for argparse."""
    try:
        return RealTime(priority=int(text)).priority
    except ValueError:
        raise argparse.ArgumentTypeError(f"a priority is 1 to 99, not {text!r}; the program comes before it") from None


def directory(text: str) -> Path:
    """Convert an argument for argparse: an empty variable of a shell must not mean the current directory."""
    if not text or not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"there is no directory {text!r}")
    return Path(os.path.abspath(text))


def _seconds(text: str) -> float:
    """Convert an argument for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"a start takes 1 to 86400 seconds, not {text!r}")
    return seconds
