"""`import gpiod` where imports lead to a simulated board, whatever was imported before."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.libraries.gpiod.extension import Extension

pytest.importorskip("gpiod", reason="pip install gpiod")


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard({"device": [{"type": "led", "line": 17}]}) as board:
        yield board


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not imported gpiod."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "gpiod":
            monkeypatch.delitem(sys.modules, name)


def light(gpiod: Any) -> None:
    """Light the LED."""
    out, active = gpiod.line.Direction.OUTPUT, gpiod.line.Value.ACTIVE
    gpiod.request_lines("/dev/gpiochip0", {17: gpiod.LineSettings(direction=out, output_value=active)}).release()


def is_simulated(gpiod: Any) -> bool:
    return all(
        isinstance(part._ext, Extension) for part in (gpiod, gpiod.chip, gpiod.line_request, gpiod.line_settings)
    )


@pytest.mark.usefixtures("fresh")
def test_the_package_that_a_program_imports_has_the_boards_lines(board: SimBoard) -> None:
    with imports.led_to(board):
        gpiod = importlib.import_module("gpiod")
        light(gpiod)
        assert (board.line(17).level, board.line(17).consumer) == (1, None)
        assert gpiod.api_version == "2.3"
    assert "gpiod" not in sys.modules  # another program, without a board, gets the real one
    light(gpiod)


def test_a_package_that_was_imported_before_has_them_in_the_block_only(board: SimBoard) -> None:
    gpiod = importlib.import_module("gpiod")
    real = gpiod._ext
    assert not is_simulated(gpiod)
    with imports.led_to(board):
        assert importlib.import_module("gpiod") is gpiod
        assert is_simulated(gpiod)
        assert importlib.import_module("gpiod._ext") is gpiod._ext
        light(gpiod)
        assert board.line(17).level == 1
    assert sys.modules["gpiod._ext"] is gpiod._ext is gpiod.chip._ext is gpiod.line_settings._ext is real


def test_an_inner_block_has_its_own_board(board: SimBoard) -> None:
    gpiod = importlib.import_module("gpiod")
    with imports.led_to(board), SimBoard() as inner:
        with imports.led_to(inner):
            light(gpiod)
        assert (inner.line(17).level, board.line(17).level) == (1, 0)
        light(gpiod)
        assert board.line(17).level == 1


@pytest.mark.usefixtures("fresh")
def test_where_the_package_is_missing_the_error_says_how_to_get_it(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with imports.led_to(board):
        with pytest.raises(ModuleNotFoundError, match=r"No module named 'gpiod': .* pip install 'gpiod>=2\.2'"):
            importlib.import_module("gpiod")
        (tmp_path / "gpiod.py").write_text("LINE_REQ_DIR_IN = 1\n", encoding="utf-8")
        importlib.invalidate_caches()
        with pytest.raises(ImportError, match=r"gpiod\.py is of libgpiod 1, .* pip install"):
            importlib.import_module("gpiod")


@pytest.mark.usefixtures("fresh")
def test_bindings_of_libgpiod_1_that_were_imported_before_are_back_afterwards(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = types.ModuleType("gpiod")
    monkeypatch.setitem(sys.modules, "gpiod", old)
    with imports.led_to(board):
        assert is_simulated(importlib.import_module("gpiod"))
    assert sys.modules["gpiod"] is old


def test_a_closed_board_lets_a_program_release_its_lines(board: SimBoard) -> None:
    gpiod = importlib.import_module("gpiod")
    with imports.led_to(board):
        request = gpiod.request_lines("/dev/gpiochip0", {17: None})
        waiting = gpiod.Chip("/dev/gpiochip0")
        board.close()
        with pytest.raises(OSError, match="No such device"):
            waiting.read_info_event()
        waiting.close()
        request.release()
