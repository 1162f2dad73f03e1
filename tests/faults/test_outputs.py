"""Outputs whose chip vanishes."""

from __future__ import annotations

import errno
import logging

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio
from hwloop.errors import HardwareError


def test_an_output_whose_chip_is_gone_raises_and_is_closed(board: SimBoard) -> None:
    with hwloop.board.using(board):
        relay = gpio.output(27, safe=0).open()
        relay.set(1)
        board.faults.inject("chip-vanishes")
        with pytest.raises(HardwareError, match=r"line 27: .* is gone: its driver was unbound") as caught:
            relay.close()
        assert caught.value.errno == errno.ENODEV
        relay.close()
    assert gpio.outputs() == []


@pytest.mark.parametrize("way", ["close", "make_safe", "board"])
def test_an_output_whose_chip_has_come_back_ends_at_its_safe_level(board: SimBoard, way: str) -> None:
    with hwloop.board.using(board):
        relay = gpio.output(27, safe=0).open()
        relay.set(1)
        board.faults.inject("chip-vanishes").end()
        # Another use of the chip makes the board open it again.
        gpio.output(26).open().close()
        with pytest.raises(HardwareError, match=r"line 27: .* is gone: its driver was unbound"):
            relay.set(1)
        assert board.line(27).level == 1
        if way == "board":
            board.close()
        elif way == "close":
            relay.close()
        else:
            gpio.make_safe()
            assert board.line(27).consumer is not None
            relay.set(1)
            assert board.line(27).level == 1
            relay.close()
    assert board.line(27).level == 0
    assert board.line(27).consumer is None
    assert gpio.outputs() == []


def test_an_output_that_somebody_else_has_taken_is_not_driven(
    board: SimBoard, caplog: pytest.LogCaptureFixture
) -> None:
    with hwloop.board.using(board):
        relay = gpio.output(27, safe=0).open()
        relay.set(1)
        board.faults.inject("chip-vanishes").end()
        other = gpio.output(27, initial=1).open()
        with pytest.raises(HardwareError, match=r"line 27: .* is gone"):
            relay.close()
        assert board.line(27).level == 1
        other.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
