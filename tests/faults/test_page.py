"""docs/faults.md lists each fault with its keys and their defaults."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from firmware_sim.faults import FAULTS, Fault
from hwloop import plugins

PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = {row[1]: (row[2], row[3]) for row in re.finditer(r"^\| `([\w-]+)` \| (.*) \| (.*)\|$", PAGE, re.MULTILINE)}


def test_the_page_lists_each_fault() -> None:
    assert ROWS.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_the_keys_of_a_fault_are_those_of_its_dataclass(name: str) -> None:
    kind = plugins.load_class(FAULTS[name])
    assert issubclass(kind, Fault)
    written = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.init:
            default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}".replace("'", '"')
            written.append(f"`{field.name}{default}`")
    text, keys = ROWS[name]
    assert keys.strip() == ", ".join(written)
    occasion = "" if kind.occasion == "beginning" else f"A probability counts for each {kind.occasion}."
    assert ("A probability counts" in text, occasion in text) == (bool(occasion), True)
    assert ("It is over at once." in text) == kind.momentary
