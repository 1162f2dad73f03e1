"""A board with one part, in virtual time, and smbus2's own `SMBus` on its bus 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from smbus2 import i2c_msg

import firmware_sim
import hwloop
from firmware_sim import SimBoard


class Rig:
    """A board with one part."""

    def __init__(self, kind: str, **keys: object) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard({"device": [{"type": kind, "name": "part", **keys}]}, clock=self.clock)
        self.board.bus(1).clock = 100_000_000  # transfers take no time to speak of
        self.part: Any = self.board["part"]
        self.smbus = firmware_sim.SMBus(1, self.board)
        self.address: int = getattr(self.part, "address", 0)

    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def write(self, *data: int) -> None:
        """Write bytes in one message."""
        self.smbus.i2c_rdwr(i2c_msg.write(self.address, data))

    def read(self, count: int, *first: int) -> bytes:
        """Read bytes; with bytes to write first, after a repeated start."""
        answer = i2c_msg.read(self.address, count)
        before = [i2c_msg.write(self.address, first)] if first else []
        self.smbus.i2c_rdwr(*before, answer)
        return bytes(answer)

    def word(self, register: int) -> int:
        """Read a 16-bit register, the high byte first."""
        return int.from_bytes(self.read(2, register))

    def level(self, line: int) -> int:
        return self.board.line(line).level

    def close(self) -> None:
        self.smbus.close()
        self.board.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    """Make a board with one part: `make("ads1115", inputs=[1.0])`."""
    rigs: list[Rig] = []

    def make_rig(kind: str, **keys: object) -> Rig:
        rigs.append(Rig(kind, **keys))
        return rigs[-1]

    yield make_rig
    for rig in rigs:
        rig.close()
