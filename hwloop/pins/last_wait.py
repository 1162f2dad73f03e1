"""The last wait of a program: for a handler, or a step of blinking, that still runs while its device is closed.

gpiozero waits ten seconds for such code before it closes the device, and says nothing. Whoever has pressed Ctrl-C takes
that for a program that hangs. So the wait is logged, with the line at which the code is, and a further signal ends it.
Where the end of the process is bounded, as that of a service, the wait is no longer than that of other threads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

logger: logging.Logger = logging.getLogger("hwloop")

_SILENT = 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LIBRARIES = frozenset({"hwloop", "firmware_sim", "gpiozero"})


_leaving = False
_given_up = False
_over_at = math.inf
"""When no code is waited for any more, by `time.monotonic()`."""


def bound(seconds: float) -> None:
    """Wait for `seconds` from now at most, for everything that the program leaves running at its end."""
    global _over_at
    _over_at = min(_over_at, time.monotonic() + seconds)


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """Close the devices of a program that has ended in this block."""
    global _leaving, _given_up
    _leaving = True
    try:
        yield
    finally:
        _leaving = _given_up = False


def wait_for_end(what: str, thread: threading.Thread | None, ended: Callable[[float], bool], timeout: float) -> bool:
    """Wait until code of the program has ended. Return False if it has not within `timeout` seconds.

    `ended(seconds)` waits for that long at most and returns whether it has ended; `what` and the thread in which it
    runs are for the message. At the end of the program code that has not ended counts as ended, so that the other
    devices are closed, and nothing is waited for any more; a signal has the same effect at once.
    """
    global _given_up
    if not _leaving:
        return ended(timeout)
    began = time.monotonic()
    until = min(began + timeout, max(_over_at, began + _SILENT))
    while not _given_up and (left := until - time.monotonic()) > 0:
        if ended(min(_SILENT, left)):
            return True
        if not (place := _place(thread)):
            continue  # it is about to end
        left = until - time.monotonic()
        if round(left) == 0:
            logger.warning("%s still runs at %s; its device is closed, and the process ends without it", what, place)
            break
        logger.warning(
            "%s still runs at %s; its device is closed when it has ended, or in %.0f s; a further signal, such as "
            "Ctrl-C, ends the wait",
            what,
            place,
            left,
        )
        with contextlib.suppress(KeyboardInterrupt), _interrupted_by_signals():
            if ended(until - time.monotonic()):
                return True
        break
    _given_up = True
    return True


def _place(thread: threading.Thread | None) -> str:
    """Return "FILE:LINE in FUNCTION" of the innermost line of the program in a thread; empty if there is none."""
    frame: FrameType | None = None if thread is None else sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root not in _LIBRARIES and root not in sys.stdlib_module_names:
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return ""


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """In this block, in the main thread, SIGINT and SIGTERM raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
