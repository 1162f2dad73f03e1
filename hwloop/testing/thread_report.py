"""Wait reports of threads: the lines of the program at which they wait, for tests that fail."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from types import FrameType

from hwloop.testing.places import is_of_project

_SHOWN = 3
"""Lines of a thread that are shown, at most."""


def thread_waits(threads: Iterable[threading.Thread]) -> list[str]:
    """Return a line for each thread that is in a function of the program: its name, and where it waits."""
    frames = sys._current_frames()
    here = threading.get_ident()
    lines = []
    for thread in threads:
        if thread.ident is None or thread.ident == here or not (places := _places(frames.get(thread.ident))):
            continue
        name = "a handler" if thread.name == HANDLERS else thread.name
        lines.append(f"  {name} waits at {', called from '.join(places[:_SHOWN])}")
    del frames  # no cycle keeps the locals of other threads
    return lines


HANDLERS = "lgpio callbacks"
"""The name of the thread in which lgpio calls the handlers of gpiozero."""


def _places(frame: FrameType | None) -> list[str]:
    """Return the lines of the program in a stack, the innermost first."""
    places = []
    while frame is not None:
        if is_of_project(frame.f_code.co_filename):
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        frame = frame.f_back
    return places
