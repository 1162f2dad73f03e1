"""List the parts that a board file of the simulated board can have: keys, wiring, and a line of use.

    hwloop parts                        all parts, by the way they are connected
    hwloop parts i2c serial             those of one or more kinds
    hwloop parts ads1115                one part in full, with a table for a board file
    hwloop parts my_package.parts:Pump  a part of your own
    hwloop parts --board board.toml --svg board.svg
                                        draw a board: its header, with each part at its lines

Parts of installed packages are listed too.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwloop.cli import Failure, UsageError, say
from hwloop.cli.term import Terminal
from hwloop.errors import suggestion

if TYPE_CHECKING:
    from firmware_sim.catalog import Key, PartType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part, or a kind of parts: lines, I2C, serial, ...")
    parser.add_argument("--json", action="store_true", help="print a JSON array of the parts")
    parser.add_argument("--board", metavar="FILE", help="the board file to draw, or sim")
    parser.add_argument("--svg", metavar="FILE", help="where to write the picture of --board; - for standard output")


def execute(arguments: argparse.Namespace) -> int:
    if (arguments.board is None) != (arguments.svg is None):
        raise UsageError("--board and --svg belong together: hwloop parts --board board.toml --svg board.svg")
    if arguments.board is not None:
        if arguments.names or arguments.json:
            raise UsageError("--svg draws a board; it takes no names and no --json")
        return _draw(arguments.board, arguments.svg)
    parts, failures = _chosen(arguments.names)
    if arguments.json:
        say(json.dumps([_plain(part) for part in parts], indent=2, ensure_ascii=False) + "\n")
    elif arguments.names and all(part.name in arguments.names for part in parts):
        for number, part in enumerate(parts):
            say("\n" * (number > 0))
            _show(part, Terminal(sys.stdout))
    else:
        _list(parts, Terminal(sys.stdout))
    for failure in failures:
        print(f"hwloop parts: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _draw(path: str, out: str) -> int:
    import hwloop
    from firmware_sim import SimBoard, WiringError
    from hwloop.cli.board_picture import picture

    clock = hwloop.VirtualClock()  # nothing happens on the board
    try:
        board = SimBoard.default(clock=clock) if path == "sim" else SimBoard(path, clock=clock)
    except WiringError as error:
        raise UsageError(str(error)) from error
    with board:
        text = picture(board)
    if out == "-":
        say(text)
        return 0
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{out}: {str(error.strerror).lower()}") from error
    say(f"{out}: {board.label}, {len(board.devices)} parts\n")
    return 0


def _chosen(wanted: list[str]) -> tuple[list[PartType], list[str]]:
    """Return the parts that the command line names, and the reasons for which others can't be described."""
    from firmware_sim.catalog import FAMILIES, names, part_type
    from firmware_sim.errors import WiringError

    known = names()
    families = {family.lower(): family for family in FAMILIES}
    listed = [name for name in wanted if name.lower() not in families]
    for name in listed:
        if name not in known and ":" not in name:
            meant = suggestion(name.lower(), [*known, *families])
            raise UsageError(f"no part {name!r}{meant}; 'hwloop parts' lists all")
    parts, failures = [], []
    for name in listed or known if len(listed) == len(wanted) else [*known, *listed]:
        try:
            part = part_type(name, Path())
        except WiringError as error:
            failures.append(str(error))
            continue
        if name in listed or not wanted or part.family.lower() in map(str.lower, wanted):
            parts.append(part)
    return parts, failures


def _list(parts: Iterable[PartType], terminal: Terminal) -> None:
    from firmware_sim.catalog import FAMILIES

    for family in FAMILIES:
        chosen = sorted((part for part in parts if part.family == family), key=lambda part: part.name)
        if not chosen:
            continue
        terminal.line((f"{family}:", "bold"))
        for part in chosen:
            _wrapped(terminal, f"  {terminal.paint(part.name, 'green')}  ", 6, part.summary)
            for label, text in (
                ("keys", ", ".join(_short(key) for key in part.keys)),
                ("wiring", part.wiring),
                *(("use", line) for line in part.example.splitlines()),
            ):
                if text:
                    _wrapped(terminal, f"      {label + ':':8}", 14, text)


def _show(part: PartType, terminal: Terminal) -> None:
    _wrapped(terminal, f"{terminal.paint(part.name, 'green')}  ", 2, part.summary)
    if part.keys:
        say("\n")
        terminal.line(("Keys:", "bold"))
    width = max((len(key.name) for key in part.keys), default=0)
    for key in part.keys:
        unit = f" {key.unit}" if key.unit else ""
        if key.required or key.default is None:
            value = f"{key.type}{f' ({key.unit})' if unit else ''}, {'required' if key.required else 'optional'}"
        else:
            value = f"{key.type}, default {default_text(key)}{unit}"
        _wrapped(terminal, f"  {key.name:{width}}  ", width + 4, f"{value}: {key.meaning}".rstrip(": "))
    in_test = "\n".join(f'board["{part.name}"].{action}    # {meaning}' for action, meaning in part.actions)
    for label, text in (
        ("Wiring", part.wiring),
        ("Use", part.example),
        ("In a test, with name = " + json.dumps(part.name), in_test),
        ("Board file", part.snippet),
    ):
        if text:
            say("\n")
            terminal.line((f"{label}:", "bold"))
            for line in text.splitlines():
                say(f"  {line}".rstrip() + "\n")  # not wrapped: it is to be copied


def _wrapped(terminal: Terminal, start: str, indent: int, text: str) -> None:
    """Print text after `start`; on a terminal, lines that follow are indented."""
    width = 10_000 if terminal.width is None else max(terminal.width, 40)
    lines = textwrap.wrap(f"{start}{text}", width, subsequent_indent=" " * indent, drop_whitespace=True)
    say("\n".join(lines or [start]) + "\n")


def default_text(key: Key) -> str:
    """Return the default of a key that has one, as a board file writes it."""
    if key.name == "address" and isinstance(key.default, int):
        return f"{key.default:#04x}"
    return json.dumps(key.default, ensure_ascii=False)


def _short(key: Key) -> str:
    if key.required:
        return key.name
    if key.default is None:
        return f"[{key.name}]"
    return f"{key.name} = {default_text(key)}{f' {key.unit}' if key.unit else ''}"


def _plain(part: PartType) -> dict[str, Any]:
    keys = []
    for key in part.keys:
        default = {} if key.required else {"default": key.default}
        keys.append({"name": key.name, "type": key.type, "required": key.required, **default, "unit": key.unit})
        keys[-1]["meaning"] = key.meaning
    fields = part._asdict()
    del fields["kind"]
    fields["actions"] = [{"name": action, "meaning": meaning} for action, meaning in part.actions]
    return fields | {"class": f"{part.kind.__module__}:{part.kind.__qualname__}", "keys": keys}
