"""Short names for reports: of callbacks, tasks, sources, and any other object that user code passes to the loop.

Naming an object for a report runs user code: a `__repr__`, a `name` property. It may raise, and it may return a
megabyte. A report must neither end the loop nor keep that megabyte, so every message and every table of statistics
takes its names from here.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import Any

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep

LONGEST = 80
"""Characters of a name, at most."""


def short_name(thing: object) -> str:
    """Return a name for `thing` on one line of at most `LONGEST` characters. Raises nothing but an exit.

    An object's own `name` comes first (sources have one), then the qualified name of a function, method or class, then
    its `repr`.
    """
    try:
        return clipped(_name(thing))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        return clipped(f"<{type(_function(thing)).__qualname__} object>")


def place_of(callback: object) -> str:
    """Return where a callback's function is defined, as "program.py:12"; empty where that is unknown."""
    try:
        code = getattr(inspect.unwrap(_function(callback)), "__code__", None)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        return ""
    return "" if code is None else f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


def _name(thing: Any) -> str:
    thing = _function(thing)
    for attribute in ("name", "__qualname__"):
        name = getattr(thing, attribute, None)
        if isinstance(name, str) and name:
            return name if len(name) <= LONGEST else name.rpartition("<locals>.")[2]
    return repr(thing)


def _function(callback: Any) -> Any:
    """The function behind partials."""
    while isinstance(callback, functools.partial | functools.partialmethod):
        callback = callback.func
    return callback


def clipped(name: str) -> str:
    """Return `name` on one line of at most `LONGEST` characters."""
    name = " ".join(name[: 4 * LONGEST].split())
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def named_place(callback: object) -> str:
    """Return a callback's short name and where its function is defined, as "on_press (program.py:12)"."""
    place = place_of(callback)
    return f"{short_name(callback)} ({place})" if place else short_name(callback)


def users_place(callback: object) -> str:
    """Return where a callback's function is defined, or, if that is in hwloop itself, where the program is now.

    A partial of a bus's own method, say, is named by the line of the program that handed it over.
    """
    try:
        code = getattr(inspect.unwrap(_function(callback)), "__code__", None)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        code = None
    if code is not None and not code.co_filename.startswith(_PACKAGE):
        return place_of(callback)
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return "" if frame is None else f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def error_text(error: BaseException) -> str:
    """Return an exception as one line of at most 300 characters: its message, or its type where that says more.

    A `HardwareError` is a whole sentence; of others the type is half of what they say. Raises nothing but an exit.
    """
    kind = type(error).__name__
    try:
        text = str(error)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        text = ""
    text = " ".join(text[:1200].split())
    if not isinstance(error, OSError):
        text = f"{kind}: {text}" if text else kind
    return (text or kind) if len(text) <= 300 else f"{text[:299]}…"
