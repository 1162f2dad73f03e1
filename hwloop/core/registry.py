"""Which of our loops run now, who wants to know when one begins or ends, and who supervises them.

A library with threads of its own can serve the program from a loop only while there is one, and has to know when that
changes (`hwloop.pins`). asyncio tells a thread of the loop that runs in it and nobody of one that begins; so each
`hwloop.EventLoop` is listed here for as long as it runs. Followers are held weakly and told in the loop's own thread,
just before its first callback and just after its last.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from hwloop.core.ordered_sets import WeakOrderedSet

if TYPE_CHECKING:
    from hwloop.core.event_loop import EventLoop


class Follower(Protocol):
    """What `follow` takes."""

    def loop_started(self, loop: EventLoop) -> None:
        """`loop` is about to run in this thread."""

    def loop_ended(self, loop: EventLoop) -> None:
        """`loop` ran in this thread, and has stopped."""


class Supervisor(Protocol):
    """Who ends the runs of this program in order when a signal comes: `hwloop run`."""

    def run_main(self, loop: EventLoop, run: Callable[[Any], Any], future: Any) -> Any:
        """Do what `loop.run_until_complete(future)` is to do, by `run`, which is asyncio's own."""


supervisor: Supervisor | None = None
"""The one of this process, if there is one."""

_made: weakref.WeakSet[EventLoop] = weakref.WeakSet()
_guard = threading.Lock()
_loops: list[tuple[EventLoop, int]] = []
_followers = WeakOrderedSet()


def made(loop: EventLoop) -> None:
    """Note a new loop."""
    _made.add(loop)


def loops() -> list[EventLoop]:
    """All loops of ours that there are, whether they run or not."""
    return list(_made)


def _forget() -> None:
    """In a forked child none of these loops runs, whatever thread was about to change the list."""
    global _guard
    _guard = threading.Lock()
    _loops.clear()
    _followers.clear()


os.register_at_fork(after_in_child=_forget)


def follow(follower: Follower) -> list[EventLoop]:
    """Tell `follower` from now on; the loops that run already, oldest first."""
    with _guard:
        _followers.add(follower)
        return [loop for loop, _ in _loops]


def unfollow(follower: Follower) -> None:
    """Tell it no more. Harmless when repeated."""
    with _guard:
        _followers.discard(follower)


def thread_of(loop: EventLoop) -> int | None:
    """The identifier of the thread in which `loop` runs; None if it doesn't."""
    with _guard:
        return next((thread for listed, thread in _loops if listed is loop), None)


@contextlib.contextmanager
def listed(loop: EventLoop) -> Iterator[None]:
    """List `loop` while this block runs it."""
    entry = (loop, threading.get_ident())
    with _guard:
        _loops.append(entry)
        followers = list(_followers)
    try:
        for follower in followers:
            follower.loop_started(loop)
        yield
    finally:
        with _guard:
            if entry in _loops:  # it is not, in a child that was forked meanwhile
                _loops.remove(entry)
            followers = list(_followers)
        for follower in followers:
            follower.loop_ended(loop)
