"""Signals while a command waits for other processes: each is raised as `Ended`, so that these can be ended first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from hwloop.cli import Ended
from hwloop.cli.process import SIGNALS


@contextlib.contextmanager
def raised() -> Iterator[Callable[[], None]]:
    """Raise `Ended` in this block for a signal that ends a process. Yield a function that ends this, for a fork."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    before: dict[int, Any] = {
        each: signal.signal(each, on_signal) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()
