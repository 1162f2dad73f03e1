"""A board in virtual time, whose faults are looked at from the outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.trace import Trace

BOARD = {
    "device": [
        {"type": "button", "name": "door", "line": 17, "resistor": True},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "bme280", "name": "climate"},
        {"type": "gps", "name": "gps", "port": "/dev/ttyAMA0"},
        {"type": "modbus-temperature", "name": "heater", "port": "/dev/ttyUSB0"},
    ]
}


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard(BOARD, clock=hwloop.VirtualClock(), tracer=Trace()) as board:
        yield board


@pytest.fixture
def trace(board: SimBoard) -> Trace:
    assert isinstance(board.tracer, Trace)
    return board.tracer
