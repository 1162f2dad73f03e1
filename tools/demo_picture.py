#!/usr/bin/env python3
"""Draw docs/demo.png: run `hwloop demo` in a terminal of 88 columns and draw its last lines.

    .venv/bin/python tools/demo_picture.py        (needs rsvg-convert: apt install librsvg2-bin)

Run it on an idle machine: the picture shows the figures of this run.
"""

from __future__ import annotations

import html
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, LINES = 88, 46
COLOURS = {"1": "#ffffff", "2": "#8a8f98", "31": "#ff6b68", "32": "#7ec16e", "33": "#d9b44a", "34": "#6ca8f0"}
COLOURS |= {"35": "#c792ea", "36": "#56b6c2"}
WIDTH, HEIGHT, SIZE = 9.2, 19, 15
"""Pixels: of a character, of a line, of the font."""


def output() -> str:
    """Run the demo in a pseudo-terminal and return its output."""
    received = []

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        received.append(data)
        return data

    os.environ.update(TERM="xterm", COLUMNS=str(COLUMNS))
    os.environ.pop("NO_COLOR", None)
    status = pty.spawn([sys.executable, "-m", "hwloop", "demo"], read)
    if status:
        sys.exit(f"the demo ended with status {os.waitstatus_to_exitcode(status)}")
    return b"".join(received).decode()


def svg(text: str) -> str:
    """Return the last lines of a terminal's output as SVG."""
    lines = ["\033[2m$\033[0m hwloop demo", "\033[2m…\033[0m", *text.replace("\r", "").splitlines()[-LINES:]]
    width, height = COLUMNS * WIDTH + 24, len(lines) * HEIGHT + 24
    drawn = []
    for number, line in enumerate(lines):
        first, *painted = re.split(r"\033\[(\d+)m", line)
        parts = [("0", first), *zip(painted[::2], painted[1::2], strict=True)]
        spans = "".join(_span(part, colour) for colour, part in parts if part)
        drawn.append(f'<text x="12" y="{12 + HEIGHT * (number + 0.75):.0f}" xml:space="preserve">{spans}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'font-family="DejaVu Sans Mono, monospace" font-size="{SIZE}">'
        f'<rect width="100%" height="100%" rx="6" fill="#1e2127"/>{"".join(drawn)}</svg>'
    )


def _span(text: str, colour: str) -> str:
    weight = ' font-weight="bold"' if colour == "1" else ""
    return f'<tspan fill="{COLOURS.get(colour, "#d5d8dd")}"{weight}>{html.escape(text)}</tspan>'


def main() -> None:
    picture = ROOT / "docs" / "demo.png"
    command = ["rsvg-convert", "--output", str(picture)]
    subprocess.run(command, input=svg(output()), text=True, check=True)
    print(f"{picture.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
