"""The registry of running loops, of their followers, and of the supervisor of their runs.

A library with threads of its own can serve the program from a loop only while one runs, and has to know when that
changes (`hwloop.pins`). asyncio shows the running loop to its own thread only, and reports neither begin nor end. So
each `hwloop.EventLoop` is listed here while it runs. Followers are held weakly and called in the loop's own thread,
just before its first callback and just after its last.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

Loop: TypeAlias = Any
"""A `hwloop.EventLoop`, which stands above this module."""


class Follower(Protocol):
    """An object that `follow` accepts."""

    def loop_started(self, loop: Loop) -> None:
        """`loop` is about to run in this thread."""

    def loop_ended(self, loop: Loop) -> None:
        """`loop` ran in this thread, and has stopped."""


class Supervisor(Protocol):
    """Ends the runs of this program in order when a signal comes: `hwloop run`."""

    def run_main(self, loop: Loop, run: Callable[[Any], Any], future: Any) -> Any:
        """Run `loop.run_until_complete(future)`; `run` is asyncio's own method."""


supervisor: Supervisor | None = None
"""The supervisor of this process, if there is one."""

_made: weakref.WeakSet[Loop] = weakref.WeakSet()
_guard = threading.Lock()
_loops: list[tuple[Loop, int]] = []
_followers: weakref.WeakKeyDictionary[Follower, None] | None = None  # once there are any; in the order of addition


def made(loop: Loop) -> None:
    """Note a new loop."""
    _made.add(loop)


def loops() -> list[Loop]:
    """Return all hwloop loops that exist, running or not."""
    return list(_made)


def _forget() -> None:
    """Forget everything in a forked child: none of the loops runs there, and the lock may have been held."""
    global _guard, _followers
    _guard = threading.Lock()
    _loops.clear()
    _followers = None


os.register_at_fork(after_in_child=_forget)


def follow(follower: Follower) -> list[Loop]:
    """Call `follower` from now on. Return the loops that run already, oldest first."""
    global _followers
    with _guard:
        if _followers is None:
            _followers = weakref.WeakKeyDictionary()
        _followers[follower] = None
        return [loop for loop, _ in _loops]


def unfollow(follower: Follower) -> None:
    """Call it no more. Harmless when repeated."""
    with _guard:
        if _followers is not None:
            _followers.pop(follower, None)


def thread_of(loop: Loop) -> int | None:
    """Return the identifier of the thread in which `loop` runs; None if it does not run."""
    with _guard:
        return next((thread for listed, thread in _loops if listed is loop), None)


def started(loop: Loop) -> None:
    """List `loop`, which is about to run in this thread. Call `ended` even if this raises."""
    with _guard:
        _loops.append((loop, threading.get_ident()))
        followers = () if _followers is None else list(_followers)
    for follower in followers:
        follower.loop_started(loop)


def ended(loop: Loop) -> None:
    """List `loop` no more: it has stopped."""
    entry = (loop, threading.get_ident())
    with _guard:
        if entry in _loops:  # not in a child that was forked meanwhile
            _loops.remove(entry)
        followers = () if _followers is None else list(_followers)
    for follower in followers:
        follower.loop_ended(loop)
