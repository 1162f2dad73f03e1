"""Lines on a terminal: in colour and cut to its width; plain text everywhere else.

Text is plain where the output is not a terminal, NO_COLOR is set (no-color.org), or TERM is "dumb".
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Literal, TextIO

from hwloop.cli import say

Colour = Literal["bold", "dim", "red", "green", "yellow", "blue", "magenta", "cyan"]
_CODES: dict[Colour, int] = {
    "bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36,
}  # fmt: skip
_NARROWEST = 20


class Terminal:
    """An output for text.

    Attributes:
        colour: whether to use escape codes.
        width: columns of a terminal; None for a file or pipe, whose lines are not cut.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        interactive = stream.isatty()
        self.colour: bool = interactive and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.width: int | None = max(shutil.get_terminal_size().columns, _NARROWEST) if interactive else None

    def paint(self, text: str, colour: Colour) -> str:
        """Return `text` in a colour, if there are colours."""
        return f"\033[{_CODES[colour]}m{text}\033[0m" if self.colour else text

    def line(self, *parts: str | tuple[str, Colour]) -> None:
        """Print one line of plain and coloured text, cut to the width."""
        left = self.width
        shown = []
        for part in parts:
            text, colour = part if isinstance(part, tuple) else (part, None)
            if left is not None:
                text = text[:left]
                left -= len(text)
            shown.append(self.paint(text, colour) if colour else text)
        say("".join(shown) + "\n", self._stream)

    def table(self, rows: Sequence[Sequence[str]], *, left: int) -> None:
        """Print rows in columns, the first row as heads; the first `left` columns are left-aligned."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            cells = [
                cell.ljust(width) if index < left else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            text = "  ".join(cells).rstrip()
            self.line((text, "bold") if number == 0 else text)
