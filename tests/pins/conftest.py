"""A board in virtual time with a pin factory, one in real time, and what acts on their lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from pins_bench import Bench, bench_on

import hwloop
from firmware_sim import SimBoard


@pytest.fixture
def virtual() -> Iterator[Bench]:
    """A bench in virtual time."""
    with bench_on(SimBoard(clock=hwloop.VirtualClock())) as bench:
        yield bench


@pytest.fixture
def real() -> Iterator[Bench]:
    """A bench in real time, with or without a loop."""
    with bench_on(SimBoard()) as bench:
        yield bench


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """`until(condition)` waits for another thread to bring it about."""

    def until(condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    return until
