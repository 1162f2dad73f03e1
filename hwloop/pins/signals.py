"""`Signal`: the event of a device, for threads, for tasks, and for whoever waits in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hwloop.core import registry as running
from hwloop.core.clock import REAL
from hwloop.pins.delivery import Delivery


class Signal(threading.Event):
    """An event that also calls its listeners."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[], object]] = []
        """Called after each `set()`, in its thread."""

    def set(self) -> None:
        super().set()
        for listener in tuple(self.listeners):
            listener()


def wait_for(
    signal: Signal, timeout: float | None, delivery: Delivery, wait: Callable[[float | None], bool] | None = None
) -> bool:
    """Wait for `signal` in the calling thread, on the board's clock; in real time by `wait(timeout)`.

    In a test the loop that serves rests between its runs, in this very thread. Then it runs until `signal` is set.
    """
    loop = delivery.loop
    run_until = getattr(loop, "run_until", None)
    if loop is not None and run_until is not None and running.thread_of(loop) == threading.get_ident():
        return bool(run_until(signal.is_set, timeout))
    if delivery.clock is REAL:
        return (wait or signal.wait)(timeout)
    condition = delivery.clock.condition()

    def wake() -> None:
        with condition:
            condition.notify_all()

    signal.listeners.append(wake)
    try:
        with condition:
            return bool(condition.wait_for(signal.is_set, timeout))
    finally:
        signal.listeners.remove(wake)
