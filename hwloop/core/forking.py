"""A fork: what a child must not share with its parent's loops, and what its copies of them get instead.

A forked child has the parent's descriptors, and those of epoll, timerfd and a socket pair refer to the very objects
that the parent waits with: a child that waits takes the parent's wakeups, and one that only closes its copy of the loop
takes the parent's descriptors out of the set. Of the parent's threads it has none but the one that forked. So right
after a fork each loop in the child gets an epoll set, an alarm and a self-pipe of its own, under the numbers of the old
ones, and forgets what belongs to the parent. A loop that was made before the fork can then run in both processes.

asyncio does a part of this from Python 3.12 on: the child has no running loop and no wakeup descriptor. Here it is the
same on each Python.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from hwloop.core import registry as running
from hwloop.core import signal_wakeup as signals


def renew_self_pipe(ssock: Any, csock: Any) -> None:
    """Put a new pair of sockets in the place of a loop's own."""
    if not (isinstance(ssock, socket.socket) and isinstance(csock, socket.socket)):
        return
    for fresh, old in zip(socket.socketpair(), (ssock, csock), strict=True):
        with fresh:
            fresh.setblocking(False)
            os.dup2(fresh.fileno(), old.fileno(), inheritable=False)


def _in_child() -> None:
    loops = running.loops()
    signals.clear_if_of(loops)
    if asyncio.events._get_running_loop() in loops:
        asyncio.events._set_running_loop(None)
    for loop in loops:
        loop._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
