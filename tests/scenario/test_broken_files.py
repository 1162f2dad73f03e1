"""Broken scenario files: the message of each names the file, the line and the key, and says what would be right.

Each file of broken/ ends with its message, after `#>`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop.testing.scenario import ScenarioError, parse
from hwloop.testing.scenario.player import Player

from .conftest import BOARD

FILES = sorted(Path(__file__).with_name("broken").glob("*.toml"))


def test_there_are_forty_and_more() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_broken_file_says_what_is_wrong_where(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _, message = file.read_text(encoding="utf-8").partition("\n#> ")
    monkeypatch.chdir(file.parent)
    with SimBoard(BOARD, clock=hwloop.VirtualClock()) as board, pytest.raises(ScenarioError) as error:
        Player(board, parse(f"{text}\n", file.name))
    expected = message.rstrip("\n")
    if expected.endswith("…"):  # the words of Python's own parser differ between versions
        assert str(error.value).startswith(expected.removesuffix("…"))
    else:
        assert str(error.value) == expected
    assert re.match(rf"{re.escape(file.name)}:\d+: ", str(error.value))
