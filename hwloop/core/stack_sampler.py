"""The stack sampler: another thread looks where a callback is while it runs.

The loop's thread can't look, because it is busy with that very callback. So, if the program asks for it, a thread wakes
at a steady pace and checks whether the loop is still in the slice that it saw the last time; if so, it notes the line.
A callback that lasts two periods or more is always seen. Sampling needs the interpreter lock, which a busy thread
releases every 5 ms (sys.setswitchinterval) and most blocking calls at once.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import FrameType
from typing import Any, Protocol

from hwloop.core.attribution import is_library, place

_CALLERS = 2


class Slices(Protocol):
    """The part of a dispatcher that a sampler reads."""

    slice_began: float


class Waits(Protocol):
    """The part of a poller that a sampler reads."""

    is_sleeping: bool


class Sampler:
    """A thread that looks at a loop every `period` seconds until `stop()`."""

    def __init__(self, loop: Any, slices: Slices, waits: Waits, period: float) -> None:
        self._loop = loop
        self._slices = slices
        self._waits = waits
        self._period = period
        self._seen: tuple[float, str, str] = (0.0, "", "")
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._run, name="hwloop-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait until it has ended."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def forget_thread(self) -> None:
        """In a forked child, which does not have the thread: let `start` start another."""
        self._thread = None

    def found(self) -> str:
        """Return where the callback was that ends the loop's current slice; empty if it was not seen."""
        began, where, _ = self._seen
        return where if began == self._slices.slice_began else ""

    def stack(self) -> str:
        """Return the whole stack of calls at that moment, as a traceback, if the loop is in debug mode."""
        began, _, stack = self._seen
        return stack if began == self._slices.slice_began else ""

    def _run(self) -> None:
        last = 0.0
        while not self._stopping.wait(self._period):
            began = self._slices.slice_began
            if began == last and not self._waits.is_sleeping:
                frame = sys._current_frames().get(self._loop._thread_id)
                if frame is not None and not _is_the_loop(frame):
                    stack = "".join(traceback.format_stack(frame)) if self._loop.get_debug() else ""
                    self._seen = (began, f"at {places(frame)}", stack)
                del frame  # or it would keep the callback's variables alive
            last = began


def _is_the_loop(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in (
        "hwloop.core.dispatch",
        "hwloop.core.event_loop",
        "hwloop.core.debug",
        "hwloop.core.poller",
    )


def places(frame: FrameType) -> str:
    """Return file, line and function of a frame and its nearest callers, up to the first in the program's code."""
    found = [place(frame)]
    seen = not is_library(frame)
    caller = frame.f_back
    while caller is not None and not _is_the_loop(caller):
        if len(found) <= _CALLERS or (not seen and not is_library(caller)):
            found.append(place(caller))
            seen = seen or not is_library(caller)
        caller = caller.f_back
    return ", called from ".join(found)
