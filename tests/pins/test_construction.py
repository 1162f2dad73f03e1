"""A button that is pressed while its object is being made: gpiozero's devices are complete only after several steps.

gpiozero lets the pin report changes first, and makes the thread for holds last. With its own factory for lgpio a press
in between raises AttributeError in lgpio's callback thread ('NoneType' object has no attribute 'holding'), which ends
the thread, and with it all events of the program. With hwloop's factories the press is an edge like any other.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType

import gpiozero
import pytest
from pins_bench import bench_on

from firmware_sim import SimBoard
from hwloop.pins import LoopFactory


def at_call(number: int, action: Callable[[], object]) -> Callable[[FrameType, str, object], None]:
    """Return a profiler that calls `action` at the call of this number in gpiozero or the pin factories."""
    calls = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call" and ("gpiozero" in (file := frame.f_code.co_filename) or "/hwloop/pins/" in file):
            calls += 1
            if calls == number:
                sys.setprofile(None)
                action()

    return profile


def settle(factory: LoopFactory) -> None:
    """Wait until the thread that delivers has seen all edges, unless it waits for this one."""
    loop = factory.delivery.serving_loop()
    if loop is not None:
        seen = threading.Event()
        loop.call_soon_threadsafe(lambda: loop.call_soon(lambda: loop.call_soon(seen.set)))
        seen.wait(0.05)


@pytest.mark.parametrize("first", range(3))
@pytest.mark.slow
def test_a_press_at_any_step_of_making_a_button_is_an_edge_like_any_other(
    until: Callable[..., None], caplog: pytest.LogCaptureFixture, first: int
) -> None:
    number, reached = 1 + first, True
    while reached:
        with bench_on(SimBoard()) as bench:
            reached = False

            def press() -> None:
                nonlocal reached
                reached = True
                bench.press()
                settle(bench.factory)

            sys.setprofile(at_call(number, press))
            try:
                button = gpiozero.Button(17)
            finally:
                sys.setprofile(None)
            assert button.is_pressed == reached, number
            seen: list[str] = []
            button.when_pressed = lambda: seen.append("pressed")  # noqa: B023
            button.when_released = lambda: seen.append("released")  # noqa: B023
            if reached:
                bench.release()
                until(lambda: seen[-1:] == ["released"])  # noqa: B023
            bench.press()
            until(lambda: seen[-1:] == ["pressed"])  # noqa: B023
            # The press while it was made may be delivered to the handler that was set soon after.
            wanted = ["released", "pressed"] if reached else ["pressed"]
            assert seen in (wanted, ["pressed", *wanted][: len(wanted) + reached]), number
        number += 10
    assert number > 100
    assert not caplog.records
