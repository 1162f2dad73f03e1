"""A board in virtual time with a pin factory, one in real time, and what acts on their lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gpiozero
import pytest
from pins_bench import Bench

import hwloop
from firmware_sim import SimBoard
from hwloop.pins import LoopFactory


def _bench(monkeypatch: pytest.MonkeyPatch, board: SimBoard) -> Iterator[Bench]:
    with board:
        factory = LoopFactory(board)
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        yield Bench(board, factory)
        factory.close()


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """In virtual time."""
    yield from _bench(monkeypatch, SimBoard(clock=hwloop.VirtualClock()))


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """In real time, with or without a loop."""
    yield from _bench(monkeypatch, SimBoard())


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """`until(condition)` waits for another thread to bring it about."""

    def until(condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    return until
