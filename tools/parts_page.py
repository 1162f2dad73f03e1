#!/usr/bin/env python3
"""Write the table of parts in docs/parts.md, and the pictures of the boards in examples/: `tools/parts_page.py`.

tests/test_parts_page.py fails while a file differs from what this writes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import hwloop
from firmware_sim import SimBoard
from firmware_sim.catalog import FAMILIES, Key, PartType, part_type
from firmware_sim.wiring import DEVICES
from hwloop.cli.board_picture import picture
from hwloop.cli.parts import default_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "parts.md"
PICTURES = ROOT / "docs" / "images" / "boards"
BEGIN, END = "<!-- parts: written by tools/parts_page.py -->\n", "<!-- end of parts -->\n"
HEADINGS = {
    "lines": "Parts on lines",
    "analog": "Parts on the inputs of an ADC",
    "I2C": "I2C parts",
    "SPI": "SPI parts",
    "1-Wire": "1-Wire parts",
    "serial": "Parts on serial ports",
    "other": "Other parts",
}


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file with the text that it should have."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    yield PAGE, before + BEGIN + "".join(_tables()) + END + rest.split(END)[1]
    for board in sorted((ROOT / "examples").glob("*.toml")):
        text = board.read_text(encoding="utf-8")
        if "[[device]]" in text:
            with SimBoard(board, clock=hwloop.VirtualClock()) as simulated:
                yield PICTURES / f"{board.stem}.svg", picture(simulated)


def _tables() -> Iterator[str]:
    parts = [part_type(name) for name in DEVICES]
    for family in FAMILIES:
        if chosen := [part for part in parts if part.family == family]:
            yield f"\n### {HEADINGS[family]}\n\n"
            yield "| type | part | keys; a key without a value is required |\n|---|---|---|\n"
            yield from (_row(part) for part in chosen)
    yield "\n"


def _row(part: PartType) -> str:
    summary = re.sub(r"^(An?|The|One or more) ", "", part.summary).rstrip(".")
    return f"| `{part.name}` | {summary} | {', '.join(_key(key) for key in part.keys)} |\n"


def _key(key: Key) -> str:
    if key.required or key.default is None:
        return f"`{key.name}`" + ("" if key.required else " (none)")
    return f"`{key.name} = {default_text(key)}`" + (f" {key.unit}" if key.unit else "")


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for file, text in list(files()):
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
