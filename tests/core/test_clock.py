"""The clocks' arithmetic: nanoseconds of a time in seconds, and waits for a time."""

from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext

import pytest

from hwloop.core.clock import Clock, to_ns
from hwloop.virtual.clock import START_NS, VirtualClock


def test_seconds_become_nanoseconds_as_python_rounds() -> None:
    chance = random.Random(5)
    times = [number / 2e9 for number in range(-99, 100)] + [0.0, 1e-9, 2.0**52 / 1e9, 2.0**53 / 1e9, 1e18, 1e290, -1e18]
    times += [chance.uniform(-1, 1) * 10.0 ** chance.randrange(-12, 12) for _ in range(2000)]
    assert [to_ns(time) for time in times] == [round(time * 1e9) for time in times]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (math.nan, pytest.raises(ValueError, match="NaN")),
        (math.inf, pytest.raises(OverflowError, match="infinity")),
        (2, nullcontext()),
    ],
)
def test_nan_and_infinity_have_no_nanoseconds(time: float, expected: AbstractContextManager[object]) -> None:
    with expected:
        assert to_ns(time) == 2_000_000_000


class Recorder(Clock):
    """A clock that records how long it is slept on."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return 1000

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_a_wait_until_a_time_sleeps_for_the_rest() -> None:
    clock = Recorder()
    for when_ns in (3000, 1000, 10):
        clock.wait_until(when_ns)
    assert clock.slept == [2e-6]


def test_virtual_time_passes_in_a_wait_until_a_time_and_never_goes_back() -> None:
    clock = VirtualClock()
    clock.wait_until(START_NS + 5)
    assert clock.now_ns() == START_NS + 5
    clock.wait_until(START_NS)
    assert clock.now_ns() == START_NS + 5
