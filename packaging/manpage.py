"""The man page hwloop(1), made from the help texts of the command, so that it can't differ from them."""

from __future__ import annotations

import argparse
import importlib
import os
import textwrap

import hwloop
from hwloop.cli import COMMANDS

_HEAD = r""".TH HWLOOP 1 "" "hwloop @version@" "User Commands"
.SH NAME
hwloop \- asyncio event loop for hardware
.SH SYNOPSIS
.B hwloop
.RB [ \-\-debug ]
.I COMMAND
\&...
.br
.B hwloop
.I COMMAND
.B \-\-help
.SH DESCRIPTION
hwloop runs Python programs that watch GPIO lines, serial ports, I2C and SPI devices on one asyncio event loop, on a
Raspberry Pi or on a simulated board.
"""

_TAIL = r""".SH ENVIRONMENT
.TP
.B HWLOOP_BOARD
The board, where
.B \-\-board
does not choose it:
.BR auto ,
.BR linux ,
.BR sim ,
or a board file.
.TP
.B HWLOOP_GPIO
The library for GPIO lines:
.B gpiod
or
.BR lgpio .
.SH FILES
.TP
.I /etc/hwloop/NAME/environment
Variables of the service NAME.
.TP
.I /opt/hwloop/services
Services that
.B hwloop service install
has installed.
.SH EXIT STATUS
0 for success, 1 for a failure, 2 for wrong arguments. A process that a signal ended dies of that signal.
.SH SEE ALSO
.BR systemd.service (5),
.BR journalctl (1)
"""


def man_page() -> str:
    """Return the page in the language of man(7)."""
    parts = [_HEAD.replace("@version@", hwloop.__version__), ".SH COMMANDS\n"]
    for name, text in COMMANDS.items():
        sentence = f"{text[0].upper()}{text[1:]}."
        parts.append(f".SS hwloop {name}\n{_escaped(sentence)}.PP\n.nf\n{_help(name)}.fi\n")
    return "".join([*parts, _TAIL])


def _help(name: str) -> str:
    """Return the usage and the options of a command."""
    os.environ["COLUMNS"] = "72"  # for argparse: a page of 80 columns has a margin
    os.environ["NO_COLOR"] = "1"  # Python 3.14 colours help texts
    parser = argparse.ArgumentParser(prog=f"hwloop {name}", add_help=False)
    importlib.import_module(f"hwloop.cli.{name}").add_arguments(parser)
    lines = parser.format_help().splitlines()
    return _escaped("\n".join(textwrap.fill(line, 72, subsequent_indent=" " * 11) for line in lines))


def _escaped(text: str) -> str:
    """Return text as troff prints it."""
    lines = (line.replace("\\", "\\e").replace("-", "\\-") for line in text.rstrip().splitlines())
    return "".join(f"\\&{line}\n" if line.startswith((".", "'")) else f"{line}\n" for line in lines)
