"""Base classes that the compiled core has otherwise: asyncio's handles, and the base of the loop's hot calls.

An extension type can't be derived from a Python class with slots, as asyncio's handles are, nor from one with a
dictionary, as its loop is. So the compiled core has extension types in their place (`bases.pyx`): handles which behave
as asyncio's do and which `isinstance` takes for them, and for the loop one beside which asyncio's stands. Its queues
of handles are deques there as well, whose methods C calls directly.
"""

from __future__ import annotations

import asyncio
import collections
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop
else:
    from asyncio import SelectorEventLoop

CORE = "pure"
"""How this core runs, as `loop.statistics().core` reports it: "pure" or "compiled"."""

AnyHandle = asyncio.Handle
AnyTimerHandle = asyncio.TimerHandle
HandleQueue = collections.deque
LoopBase = SelectorEventLoop


def waiting_half(epoll: select.epoll) -> select.epoll:
    """Return what the loop waits with: the set itself, or in the compiled core an object with its `poll` alone.

    That one keeps the interpreter lock in a poll that does not wait, see `hwloop.core.gil_poll`.
    """
    return epoll
