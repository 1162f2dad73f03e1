"""Which board is in use: by argument, by environment, by what the machine has."""

from __future__ import annotations

import asyncio

import pytest

import hwloop
from firmware_sim import SimBoard, WiringError
from hwloop import board
from hwloop.errors import HardwareError


@pytest.fixture(autouse=True)
def no_board_chosen(monkeypatch):
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)


def test_without_a_chip_and_a_choice_the_error_names_the_simulated_board(monkeypatch):
    monkeypatch.setattr(board, "has_gpiochip", lambda: False)
    with pytest.raises(HardwareError, match=r"no GPIO chip on this machine; .* HWLOOP_BOARD=sim"):
        board.open_board()


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    with board.open_board() as opened:
        assert isinstance(opened, SimBoard)


def test_an_argument_goes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HWLOOP_BOARD", "nonsense")
    path = tmp_path / "board.toml"
    path.write_text('label = "mine"')
    with board.open_board(str(path)) as opened:
        assert opened.label == "mine"


def test_an_unknown_name_raises_and_names_the_known_ones():
    with pytest.raises(ValueError, match="use auto, linux, sim, or the path of a board file"):
        board.open_board("arduino")


def test_a_missing_board_file_is_named(tmp_path):
    with pytest.raises(WiringError, match="No such file"):
        board.open_board(str(tmp_path / "none.toml"))


def test_run_opens_a_board_by_name_and_closes_it():
    async def main():
        return board.current()

    opened = hwloop.run(main(), board="sim")
    assert isinstance(opened, SimBoard)
    assert opened._closed


def test_run_uses_a_board_given_and_leaves_it_open():
    async def main():
        task = asyncio.create_task(other())
        assert board.current() is await task
        return board.current()

    async def other():
        return board.current()

    with SimBoard() as mine:
        assert hwloop.run(main(), board=mine) is mine
        assert not mine._closed


def test_a_board_nobody_asks_for_is_never_opened(monkeypatch):
    monkeypatch.setenv("HWLOOP_BOARD", "nonsense")

    async def main():
        return 5

    assert hwloop.run(main()) == 5


def test_the_innermost_board_counts():
    with SimBoard() as outer, SimBoard() as inner, board.using(outer):
        with board.using(inner):
            assert board.current() is inner
        assert board.current() is outer


def test_an_error_says_what_was_tried_what_is_wrong_and_what_to_do():
    error = HardwareError("/dev/gpiochip0", "permission denied", "add the user to group gpio", errno=13)
    assert str(error) == "/dev/gpiochip0: permission denied; add the user to group gpio"
    assert isinstance(error, OSError)
    assert error.errno == 13
