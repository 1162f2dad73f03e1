"""Tests of the reading lamp, without a change to the script."""

import pytest

pytestmark = pytest.mark.hwloop(board="reading_lamp.toml")


@pytest.fixture
def script(board):
    with board.script("reading_lamp.py") as script:
        yield script


def test_a_click_switches_the_lamp(board, script):
    board["button"].click()
    board.advance(1)
    assert board["lamp"].lit
    board["button"].click()
    board.advance(1)
    assert not board["lamp"].lit


def test_holding_the_button_dims_the_lamp(board, script):
    board["button"].click()
    board.advance(1)
    board["button"].press()
    board.advance(1.3)
    board["button"].release()
    board.advance(1)
    assert script.names["lamp"].value == pytest.approx(0.7, abs=0.02)


def test_the_lamp_fades_away_at_bedtime(board, script):
    board["button"].click()
    board.advance(45 * 60 - 1)
    assert script.names["lamp"].value == 1
    board.advance(2)
    assert 0 < script.names["lamp"].value < 0.7
    board.advance(2)
    assert not board["lamp"].lit
