"""Wait reports: the place where each task waits, for the errors that end a program that waits for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from hwloop.core.naming import short_name

_LIBRARIES = (os.path.dirname(asyncio.__file__), os.path.dirname(os.path.dirname(__file__)))


def waits_of(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return a line for each task: its name, and the place in the program at which it waits."""
    named = sorted((task.get_name(), waits_at(task)) for task in tasks)
    return [f"  {name} waits {place}" for name, place in named] or ["  no task is left"]


def waits_at(task: asyncio.Task[Any]) -> str:
    """Return the innermost line that a task has come to, and its caller if that line is asyncio's or hwloop's."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            break
        if (frame := getattr(awaited, f"{kind}_frame")) is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    if not frames:
        return f"somewhere in {short_name(task.get_coro())}"
    ours = [place for place, frame in enumerate(frames) if not frame[0].startswith(_LIBRARIES)]
    shown = frames[ours[-1] if ours else 0 :]
    return "at " + ", called from ".join(f"{file}:{line} in {name}" for file, line, name in reversed(shown))
