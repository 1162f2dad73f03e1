"""Measure the lateness of timers and the latency of edges on this machine, on asyncio, hwloop and uvloop.

    hwloop bench                                          (about four minutes)
    hwloop bench --quick --only timer-idle edge-busy      (a few seconds)
    hwloop bench --gpio 17:27                             (two lines wired together: 17 is the input)

Every figure comes from a fresh process, and the loops take turns within a round. The tables show medians over the
rounds, and their ratios to asyncio and to the floor: the same work in plain Python without a loop. uvloop and
cyclictest (Debian: rt-tests) are measured where they are installed. The machine should have nothing else to do.

Ctrl-C ends it with the results so far.
"""

from __future__ import annotations

import argparse

from hwloop.cli import UsageError
from hwloop.cli.run import BOARD_HELP, chosen_board, open_named_board
from hwloop_bench import command, edges
from hwloop_bench.processes import Case


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpio", metavar="IN:OUT", help="also edges on two lines that are wired together")
    parser.add_argument("--board", metavar="BOARD", help=f"for --gpio: {BOARD_HELP}")
    command.add_common_arguments(parser, " ".join(case.name for case in command.CASES))


def execute(arguments: argparse.Namespace) -> int:
    cases = list(command.CASES)
    if arguments.gpio is not None:
        board = chosen_board(arguments.board)
        wire: dict[str, object] = {"lines": _lines(arguments.gpio), "board": board}
        open_named_board(board).close()  # each process opens it, and would fail in the same way
        title = f"edge of GPIO {arguments.gpio} to handler"
        cases += [
            Case("gpio-idle", f"{title}, idle", edges.wired, wire),
            Case(
                "gpio-busy",
                f"{title} under 500 busy callbacks of 0.1 ms",
                edges.wired,
                wire | command.BUSY_EDGE,
            ),
        ]
    return command.measure_all(cases, arguments)


def _lines(text: str) -> list[int | str]:
    """Return the input and the output of --gpio."""
    names = text.split(":")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UsageError(f"--gpio {text}: give an input and an output that are wired together, such as 17:27")
    return [int(name) if name.isdecimal() else name for name in names]
