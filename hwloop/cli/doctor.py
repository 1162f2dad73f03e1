"""Show what this machine can do for programs on hwloop, what stands in the way, and the command that mends it.

    hwloop doctor
    hwloop doctor door.py                  also whether the program finds its lines, ports, buses and packages here
    hwloop doctor door.py --board sim      ... and on the simulated board
    hwloop doctor --user hwloop            with the rights of the user that a service runs as

It changes nothing. A line begins with `ok`, `note` (good to know), `warning` (works, not as well as it could) or
`problem` (can't work like this); the status is 1 if there is a problem.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence

from hwloop import doctor
from hwloop.boards import chip_discovery
from hwloop.boards.linux import LinuxBoard
from hwloop.cli import UsageError, say
from hwloop.cli.run import BOARD_HELP, open_named_board
from hwloop.cli.term import Colour, Terminal
from hwloop.doctor.finding import Finding, Status
from hwloop.doctor.machine import Machine
from hwloop.doctor.program import Places, examine
from hwloop.errors import HardwareError

_STATUS_WIDTH = 9
_COLOURS: dict[Status, Colour] = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", nargs="?", metavar="PROGRAM", help="a Python file whose needs are checked too")
    parser.add_argument("--board", metavar="BOARD", help=BOARD_HELP)
    parser.add_argument(
        "--user", metavar="USER", default="", help="check the rights of this user (default: the caller)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array of the findings")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.board is not None and arguments.program is None:
        raise UsageError("--board is the board of a program; name the program too: hwloop doctor PROGRAM --board BOARD")
    try:
        machine = Machine(user=arguments.user)
    except KeyError:
        raise UsageError(f"--user {arguments.user}: there is no such user") from None
    places = None
    if arguments.program is not None:
        places = find_places(machine, arguments.board or os.environ.get("HWLOOP_BOARD") or "auto")
    findings = doctor.examine(machine)
    if places is not None:
        findings += examine(machine, arguments.program, places)
    if arguments.json:
        say(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False) + "\n")
    else:
        show(findings, Terminal(sys.stdout))
    return int(any(finding.status == "problem" for finding in findings))


def find_places(machine: Machine, board: str) -> Places:
    """Return what a board offers: a simulated one, or this machine for "auto" and "linux".

    Raises `UsageError` for a board that can't be opened or does not show what it offers.
    """
    if board not in ("auto", "linux"):
        from firmware_sim import SimBoard

        with open_named_board(board) as opened:
            if not isinstance(opened, SimBoard):
                raise UsageError(f"--board {board}: its package alone knows what it offers; leave --board out")
            return Places(opened.label, len(opened.chip), list(opened.ports), list(opened.buses), lambda line: "")
    lines = 0
    try:
        lines = chip_discovery.choose_chip(machine.chips()).lines
    except HardwareError:
        pass  # among the findings about the machine
    patterns = ("/dev/serial/by-id/*", "/dev/serial[0-9]*", "/dev/tty[A-Z]*[0-9]*")
    ports = [port for pattern in patterns for port in machine.find(pattern)]
    buses = [int(node.rpartition("-")[2]) for node in machine.find("/dev/i2c-[0-9]*")]
    return Places("this machine", lines, ports, buses, user_of_line)


def user_of_line(line: int) -> str:
    """Return the name under which a line of the header is used; "" for one that is free. Raises `HardwareError`."""
    board = LinuxBoard()
    try:
        info = board.gpio().line_info(line)
        return (info.consumer or "another program") if info.used else ""
    finally:
        board.close()


def show(findings: Sequence[Finding], terminal: Terminal) -> None:
    """Print findings, each with its remedy below, and a summary. A remedy is not wrapped, so that it can be copied."""
    width = max(len(finding.topic) for finding in findings)
    indent = " " * (_STATUS_WIDTH + width + 2)
    for finding in findings:
        lines = textwrap.wrap(finding.text, max((terminal.width or 120) - len(indent), 30))
        status = terminal.paint(finding.status.ljust(_STATUS_WIDTH), _COLOURS[finding.status])
        say(f"{status}{finding.topic:<{width}}  {lines[0]}\n")
        for rest in lines[1:]:
            say(f"{indent}{rest}\n")
        if finding.remedy:
            say(f"{indent}{terminal.paint(f'→ {finding.remedy}', 'dim')}\n")
    problems = sum(finding.status == "problem" for finding in findings)
    summary = "no problem found" if not problems else f"{problems} problem{'s' if problems > 1 else ''} found"
    terminal.line((summary, "bold"))
