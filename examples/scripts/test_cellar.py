"""Tests of the damp cellar, without a change to the script."""

import pytest

pytestmark = pytest.mark.hwloop(board="cellar.toml")


@pytest.fixture
def cellar(board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the script writes its file there
    with board.script("cellar.py") as script:
        yield script


def test_the_fan_runs_while_it_is_damp(board, cellar):
    board.advance(60)
    assert not cellar.names["fan"].value
    board["air"].humidity = 70.0
    board.advance_until(lambda: cellar.names["fan"].value, within=32)
    board["air"].humidity = 50.0
    board.advance_until(lambda: not cellar.names["fan"].value, within=32)


def test_the_alarm_blinks_after_an_hour(board, cellar):
    board["air"].humidity = 80.0
    board.advance(3590)
    assert not board.trace.edges(25)
    board.advance(60)
    assert len(board.trace.pulses(25)) > 10


def test_the_file_has_a_row_every_thirty_seconds(board, cellar, tmp_path):
    board.advance(595)
    rows = (tmp_path / "cellar.csv").read_text().splitlines()
    assert len(rows) == 20
    assert rows[0].endswith(",50.0")
