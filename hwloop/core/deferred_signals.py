"""Deferred signals: blocks that no signal handler interrupts, so that no exception of a handler leaves a relay on.

Python runs the handler of a signal between any two bytecodes of the main thread. An exception of the handler
(KeyboardInterrupt for Ctrl-C) interrupts whatever ran there: between setting a safe level and releasing the line, or
between claiming a line and noting that it is claimed. Blocking signals in the kernel does not help, because another
thread of the process may take the signal, and Python still runs the handler in the main thread. So the handlers
themselves are replaced for the block. They run at its end, in the order in which the signals came.
"""

from __future__ import annotations

import asyncio.unix_events
import signal
import threading
from types import FrameType
from typing import Any

_HARMLESS = getattr(asyncio.unix_events, "_sighandler_noop", None)
"""asyncio's handler for `loop.add_signal_handler`, which raises nothing; it is left in place, with its SA_RESTART."""
_NUMBERS = sorted(signal.valid_signals())


class DeferredSignals:
    """A context manager that defers all Python signal handlers of the main thread to its end. May be nested.

    In another thread it does nothing: handlers never run there.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[int, Any]] = []
        self._came: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler) and handler is not _HARMLESS:
                    self._replaced.append((number, handler))
                    signal.signal(number, self._note)
        except BaseException:  # from a handler that is not replaced yet
            self._restore()
            raise

    def __exit__(self, *exc_info: object) -> None:
        handlers = dict(self._replaced)
        self._restore()
        self._deliver(handlers)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append((number, frame))

    def _restore(self) -> None:
        for number, handler in self._replaced:
            if signal.getsignal(number) == self._note:  # the block has not set another
                signal.signal(number, handler)
        self._replaced.clear()

    def _deliver(self, handlers: dict[int, Any]) -> None:
        """Run the handlers that were due, even if one of them raises."""
        if self._came:
            number, frame = self._came.pop(0)
            try:
                handlers[number](number, frame)
            finally:
                self._deliver(handlers)
