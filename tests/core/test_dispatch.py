"""The dispatcher's parts, on a loop that does not run; tests/promises has the traces of what it runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwloop import EventLoop
from hwloop.core.dispatch import Dispatcher


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def dispatcher(loop: EventLoop) -> Dispatcher:
    return loop._dispatcher


def test_a_slice_is_used_up_when_its_time_has_passed(loop: EventLoop, dispatcher: Dispatcher) -> None:
    loop.time = lambda: 2.0  # type: ignore[method-assign]
    dispatcher.poll(loop)
    dispatcher.slice = 0.5
    dispatcher.slice_began = 1.75
    assert not dispatcher.slice_used_up()
    dispatcher.slice_began = 1.5
    assert dispatcher.slice_used_up()


def test_a_clock_that_is_replaced_in_a_callback_has_the_loop_poll_after_the_batch(
    loop: EventLoop, dispatcher: Dispatcher
) -> None:
    """It may have leapt, and asyncio asks it after each batch."""
    polls: list[bool] = []
    loop.call_soon(dispatcher.clock_replaced)
    loop.call_soon(lambda: polls.append(loop._run_queue.poll_after_batch))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert polls == [True]
