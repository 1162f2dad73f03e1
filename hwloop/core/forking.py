"""Forking: a child gets its own copies of the kernel objects that its parent's loops wait with.

A forked child inherits the parent's descriptors, and those of epoll, timerfd and a socket pair refer to the same
objects that the parent waits with: a child that waits takes the parent's wakeups, and one that only closes its copy of
the loop removes the parent's descriptors from the set. Of the parent's threads, only the one that forked exists in the
child. So right after a fork, each loop in the child gets a new epoll set, alarm and self-pipe under the old numbers,
and forgets what belongs to the parent. A loop that was made before the fork can then run in both processes.

asyncio does a part of this from Python 3.12 on: the child has no running loop and no wakeup descriptor. hwloop does the
same on every Python version.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from hwloop.core import registry
from hwloop.core import signal_wakeup as signals


def renew_self_pipe(ssock: Any, csock: Any) -> None:
    """Replace the pair of sockets with which other threads wake a loop."""
    if not (isinstance(ssock, socket.socket) and isinstance(csock, socket.socket)):
        return
    for fresh, old in zip(socket.socketpair(), (ssock, csock), strict=True):
        with fresh:
            fresh.setblocking(False)
            os.dup2(fresh.fileno(), old.fileno(), inheritable=False)


def _in_child() -> None:
    loops = registry.loops()
    signals.clear_if_of(loops)
    if asyncio.events._get_running_loop() in loops:
        asyncio.events._set_running_loop(None)
    for loop in loops:
        loop.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
