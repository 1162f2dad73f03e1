"""Sets that iterate in the order of addition.

A set iterates in the order of hashes, and by default an object's hash is its address, which differs from run to run.
Wherever the order of iteration decides the order of callbacks, these two take the place of `set` and `WeakSet`, so
that a program with a seed has the same trace each time.
"""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

T = TypeVar("T")


class OrderedSet(dict[T, None]):
    """The part of a set's interface that asyncio uses: add, discard, iterate."""

    def add(self, item: T) -> None:
        self[item] = None

    def discard(self, item: T) -> None:
        self.pop(item, None)


class WeakOrderedSet(weakref.WeakKeyDictionary[Any, None]):
    """A `WeakSet` that iterates in the order of addition."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)
