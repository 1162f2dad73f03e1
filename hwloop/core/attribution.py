"""Attribution: the name and the place, in the program's own code, of whatever a handle runs.

A report is useful if it names a line that its reader wrote. The loop often runs something else: the step of a task, the
timer that ends a sleep, the reader of a source, a transport. So this module looks behind the handle for the task, the
source's callbacks or the protocol. All of that is user code, which may raise; then a shorter name is used. Tables of
statistics are keyed by these names, so they never hold an address or a count.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from types import FrameType
from typing import Any

from hwloop.core.naming import clipped, named_place, place_of, short_name

_LIBRARIES = (os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(__file__)), "<frozen ")
_CALLBACKS_SHOWN = 3


class Culprit:
    """The name and the place of the code that a handle runs.

    Attributes:
        name: the short name of the task, the source or the callback, by which occurrences are counted.
        shown: for messages: the name with the place of its code.
        task: the task, if the handle is a step of one.
    """

    __slots__ = ("name", "shown", "task")

    def __init__(self, name: str, shown: str, task: asyncio.Task[Any] | None = None) -> None:
        self.name: str = name
        self.shown: str = shown
        self.task: asyncio.Task[Any] | None = task


def culprit(handle: Any) -> Culprit:
    """Return the culprit for `handle`. Raises nothing but SystemExit and KeyboardInterrupt."""
    try:
        return _of_source(handle.source) if getattr(handle, "source", None) is not None else _of_callback(handle)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        name = short_name(handle._callback)
        return Culprit(name, name)


def task_of(handle: Any) -> asyncio.Task[Any] | None:
    """Return the task that a handle steps, or whose sleep it ends; None if there is none."""
    try:
        owner = getattr(handle._callback, "__self__", None)
        return owner if isinstance(owner, asyncio.Task) else _sleeper(handle)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # a callback or an argument with attributes that raise
        return None


def task_name(task: asyncio.Task[Any]) -> str:
    """Return the name that a task was given, or that of its coroutine."""
    name = task.get_name()
    if name.startswith("Task-") and name[5:].isdecimal():  # asyncio's default
        return short_name(task.get_coro())
    return clipped(name)


def waits_at(task: asyncio.Task[Any] | None) -> str:
    """Return the line of the program at which a task is suspended, as "now waiting at program.py:12 in main"."""
    awaited: Any = None if task is None or task.done() else task.get_coro()
    frames = []
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        frames.append(frame)
        awaited = awaited.cr_await
    own = [frame for frame in frames if not is_library(frame)]
    return f"now waiting at {place((own or frames)[-1])}" if frames else ""


def place(frame: FrameType) -> str:
    """Return file, line and function of a frame, as "program.py:12 in main"."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def is_library(frame: FrameType) -> bool:
    """Return whether a frame's code is Python's, an installed package's or hwloop's, and not the program's."""
    file = frame.f_code.co_filename
    return file.startswith(_LIBRARIES) or "site-packages" in file or "dist-packages" in file


def _of_callback(handle: Any) -> Culprit:
    callback = handle._callback
    if callback is None:
        return Culprit(_CANCELLED, _CANCELLED)
    if (task := task_of(handle)) is not None:
        return _of_task(task)
    callback = inspect.unwrap(callback)
    owner = getattr(callback, "__self__", None)
    if hasattr(owner, "on_readable") or hasattr(owner, "at_end"):  # a timer of a source or of a poll
        return _of_source(owner)
    transport = getattr(owner, "_transport", owner)  # ours has its reader apart
    if isinstance(transport, asyncio.BaseTransport):
        protocol = transport.get_protocol()
        method = "data_received" if hasattr(protocol, "data_received") else "buffer_updated"
        return _named(getattr(type(protocol), method, type(protocol)))
    wrapped: Any = getattr(owner, "__wrapped__", None)
    return _named(callback if wrapped is None else wrapped)


_CANCELLED = "a callback that has cancelled itself"


def _named(function: Any) -> Culprit:
    return Culprit(short_name(function), named_place(function))


def _of_source(source: Any) -> Culprit:
    name = short_name(source)
    added = getattr(source, "callbacks", ())
    callbacks = [named_place(callback) for callback in added] if isinstance(added, tuple) else []
    reader = getattr(source, "on_readable", None)
    if not callbacks and (place := place_of(reader)) and not _is_ours(reader):
        return Culprit(name, f"{name} ({place})")
    callbacks[_CALLBACKS_SHOWN:] = ["others"] if len(callbacks) > _CALLBACKS_SHOWN else []
    return Culprit(name, f"{name}: {' or '.join(callbacks)}" if callbacks else name)


def _is_ours(function: Any) -> bool:
    return getattr(function, "__module__", "").partition(".")[0] == __name__.partition(".")[0]


def _of_task(task: asyncio.Task[Any]) -> Culprit:
    name = task_name(task)
    code = getattr(task.get_coro(), "cr_code", None)
    place = "" if code is None else f" ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"
    return Culprit(name, f"{name}{place}", task)


def _sleeper(handle: Any) -> asyncio.Task[Any] | None:
    """The task that waits for the future that a callback is given: how `asyncio.sleep` ends."""
    future = handle._args[0] if handle._args else None
    return next(_waiters(future), None) if asyncio.isfuture(future) else None


def _waiters(future: Any) -> Iterator[asyncio.Task[Any]]:
    for done, _ in getattr(future, "_callbacks", None) or ():
        task = getattr(done, "__self__", None)
        if isinstance(task, asyncio.Task):
            yield task
