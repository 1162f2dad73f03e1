"""Tests of the traffic lights, without a change to the script."""

import pytest

pytestmark = pytest.mark.hwloop(board="crossing.toml")


@pytest.fixture
def crossing(board):
    with board.script("crossing.py") as script:
        yield script


def lit(board):
    return [name for name in ("red", "amber", "green") if board[name].lit]


def test_cars_have_green_until_somebody_presses_the_button(board, crossing):
    board.advance(3600)
    assert lit(board) == ["green"]


def test_pedestrians_get_their_turn(board, crossing):
    board["button"].click()
    board.advance_until(lambda: lit(board) == ["amber"], within=2.5)
    board.advance_until(lambda: lit(board) == ["red"], within=3.1)
    board.advance_until(lambda: lit(board) == ["green"], within=20)
    assert len(board.trace.pulses(15)) == 10  # the buzzer
    assert len(board.trace.pulses(10)) == 4  # amber: once for the cars to stop, three times for them to go


def test_the_lights_are_never_red_and_green_at_once(board, crossing):
    for _ in range(3):
        board["button"].click()
        for _ in range(200):
            board.advance(0.1)
            assert not {"red", "green"} <= set(lit(board))
