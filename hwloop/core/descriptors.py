"""The descriptor table: the watched descriptors of a loop, in asyncio's selector and in the kernel's sets behind it.

The selector is the only table, and it is used as asyncio uses it, call by call. So whatever a program does to a
descriptor behind the loop's back (close it, open another one under its number, remove it late or never), the calls
return and raise as on asyncio's loop, and a number that is forgotten there is forgotten here.

One fact of epoll decides the rest (epoll(7), "Questions and answers"): a set holds open file descriptions, not
numbers. Closing a number removes nothing while a duplicate, in this process or in a child, keeps the description open.
The kernel then goes on reporting it under its old number, nothing can remove it, and a loop that waits with it spins.
Such a set is replaced by a fresh one with the same descriptors, under the same number. So is the set of a forked child,
whose calls would otherwise change the set of its parent.
"""

from __future__ import annotations

import io
import os
import select
import selectors
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwloop.core import clock

if TYPE_CHECKING:
    from hwloop.core.handles import Watcher

    Pair = tuple[Watcher | None, Watcher | None]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
IN, OUT = 1, 4  # EPOLLIN, EPOLLOUT; selectors without epoll are translated to these


class DescriptorTable:
    """The watched descriptors of one loop.

    Attributes:
        keys: the selector's keys by number; the data of a key is its reader and its writer.
        epoll: the selector's epoll set; None with another selector.
        alarm: a timerfd in that set; None where the system has none.
        waker: an eventfd in that set, by which other threads end a wait; None until the first of them has done so.
        waker_fd: its number; -1 without one.
        urgent: an epoll set of only those descriptors that have a priority or a deadline; None while there are none.
            If many descriptors are ready, a poll of `epoll` finds only some of them.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector: Any = selector
        # The dictionary behind get_map(), which is slow. A selector that a user wrote may have the public half only.
        numbers = getattr(selector, "_fd_to_key", None)
        self.keys: Mapping[Any, Any] = numbers if isinstance(numbers, dict) else selector.get_map()
        self.epoll: select.epoll | None = None
        self.alarm: clock.Alarm | None = None
        self.waker: io.FileIO | None = None
        self.waker_fd: int = -1
        self.urgent: select.epoll | None = None
        if type(selector) is getattr(selectors, "EpollSelector", None):
            self.epoll = self._selector._selector  # type: ignore[attr-defined]
            try:
                self.alarm = clock.Alarm()
            except (OSError, ImportError):
                pass  # this system has none: waits are as precise as the selector's
            else:
                self.epoll.register(self.alarm.fileno(), select.EPOLLIN | select.EPOLLET)
        self._suspects: set[int] = set()  # numbers that the kernel's set may still report for an earlier descriptor

    def close(self) -> None:
        """Close what the selector does not own. Harmless when repeated."""
        for kernels in (self.urgent, self.alarm, self.waker):
            if kernels is not None:
                kernels.close()
        self.epoll = self.urgent = self.alarm = self.waker = None

    def add_waker(self) -> None:
        """Make the waker, unless there is one. Without epoll, or if the process has no descriptor left, there is none.

        asyncio's socket wakes the loop as well, but takes longer, and has to be read each time: as the set is asked to
        (EPOLLET), it reports each write to the waker, read or not.
        """
        if self.epoll is None or self.waker is not None:
            return
        try:
            self.waker = io.FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "w")
            self.epoll.register(self.waker, select.EPOLLIN | select.EPOLLET)
        except (AttributeError, OSError):
            self._drop_waker()
        else:
            self.waker_fd = self.waker.fileno()

    def _drop_waker(self) -> None:
        if self.waker is not None:
            self.waker.close()
        self.waker = None
        self.waker_fd = -1

    # As asyncio's `_add_reader` and its three siblings.

    def set(self, fd: Any, event: int, watcher: Watcher) -> None:
        """Watch `fd`, a number or an object with one, for one direction; a watcher of that direction is replaced."""
        key = self._find(fd)
        if key is not None and key.data[0] is not None and key.data[0].source is not None and self.drop_stale(key.fd):
            key = None  # a source's, which asyncio does not have; its way of failing is no example here
        if key is None:
            if self._suspects and _number(fd) in self._suspects:
                self.renew()
            pair = (watcher, None) if event == READ else (None, watcher)
            number, old = self._selector.register(fd, event, pair).fd, None
        else:
            number = key.fd
            reader, writer = key.data
            old, pair = (reader, (watcher, writer)) if event == READ else (writer, (reader, watcher))
            self._modify(fd, number, key.events | event, pair)
            if old is not None:
                old.cancel()
        watcher.fd = number
        if not watcher.is_ordinary or (old is not None and not old.is_ordinary):
            self._note_urgency(number)

    def remove(self, fd: Any, event: int) -> bool:
        """Stop watching `fd` for one direction. Returns whether it was watched for it."""
        key = self._find(fd)
        if key is None:
            return False
        reader, writer = key.data
        removed, pair = (reader, (None, writer)) if event == READ else (writer, (reader, None))
        if mask := key.events & ~event:
            self._modify(fd, key.fd, mask, pair)
        else:
            self._unregister(fd, key.fd)
        if removed is None:
            return False
        removed.cancel()
        if not removed.is_ordinary:
            self._note_urgency(key.fd)
        return True

    def remove_watcher(self, watcher: Watcher) -> None:
        """Stop watching for `watcher`, unless its number belongs to another watcher by now. Raises nothing."""
        watcher.cancel()
        if (key := self.keys.get(watcher.fd)) is not None:
            reader, writer = key.data
            if watcher is reader or watcher is writer:
                try:
                    self.remove(key.fd, READ if watcher is reader else WRITE)
                except OSError:
                    pass  # closed before: with this, its other direction is forgotten too

    def drop_stale(self, number: int) -> bool:
        """Forget a number that has been closed since it was registered, opened again or not. Return whether it was."""
        key = self.keys.get(number)
        if key is None or self.epoll is None or self._is_current(number, key.events):
            return False
        self._unregister(number, number)
        return True

    def renew(self, *, forked: bool = False) -> None:
        """Replace the kernel's set by a fresh one, which reports only descriptors that are registered now.

        With `forked`, the set and the alarm belong to the parent of this process and are left alone.
        """
        if not isinstance(self._selector, getattr(selectors, "EpollSelector", ())):
            return  # poll(2) and select(2) keep nothing in the kernel
        selector: Any = self._selector
        try:
            fresh = select.epoll()
        except OSError:
            return  # the process has no descriptor left; the old set still works, as on asyncio's loop
        if self.alarm is not None:
            if forked:
                self.alarm.renew()
            fresh.register(self.alarm.fileno(), select.EPOLLIN | select.EPOLLET)
        if forked:
            self._drop_waker()
        elif self.waker is not None:
            fresh.register(self.waker, select.EPOLLIN | select.EPOLLET)
        for number, key in list(self.keys.items()):
            if not forked and self.epoll is not None and not self._is_current(number, key.events):
                continue  # the new owner of this number did not ask for it
            try:
                fresh.register(number, _mask(key.events))
            except OSError:
                pass  # closed, which the selector does not know yet
        os.dup2(fresh.fileno(), selector.fileno(), inheritable=False)
        fresh.close()
        self._suspects.clear()
        if self.urgent is not None:
            self.urgent.close()
            self.urgent = None
            for number in list(self.keys):
                self._note_urgency(number)

    def _find(self, fd: Any) -> Any:
        """Return the key of `fd`, or None. Raises ValueError if it is neither a descriptor nor registered."""
        if fd.__class__ is int and fd >= 0 and self.keys.__class__ is dict:
            return self.keys.get(fd)
        if sys.version_info >= (3, 13):  # asks a selector that a user wrote, or a mock, as this version of asyncio does
            return self._selector.get_map().get(fd)
        try:
            return self._selector.get_key(fd)
        except KeyError:
            return None

    def _modify(self, fd: Any, number: int, mask: int, pair: Pair) -> None:
        try:
            self._selector.modify(fd, mask, pair)
        except OSError:
            self._suspects.add(number)  # the selector has forgotten it, and the kernel may not have
            raise

    def _unregister(self, fd: Any, number: int) -> None:
        if self.epoll is None:
            self._selector.unregister(fd)
            return
        keys: Any = self.keys
        del keys[number]  # as the selector does, and see what the kernel says
        try:
            self.epoll.unregister(number)
        except OSError:
            self._suspects.add(number)

    def _is_current(self, number: int, events: int) -> bool:
        """Return whether the kernel's set has the number with its present open file description."""
        assert self.epoll is not None
        try:
            self.epoll.modify(number, _mask(events))
        except OSError:
            return False
        return True

    def _note_urgency(self, number: int) -> None:
        """Update the set of urgent descriptors for a number that was registered or removed."""
        if self.epoll is None:
            return  # other selectors report everything that is ready
        key = self.keys.get(number)
        reader, writer = (None, None) if key is None else key.data
        mask = (IN if reader and not reader.is_ordinary else 0) | (OUT if writer and not writer.is_ordinary else 0)
        try:
            if self.urgent is None:
                self.urgent = select.epoll()
            try:
                self.urgent.unregister(number)
            except OSError:
                pass
            if mask:
                self.urgent.register(number, mask)
        except OSError:
            pass  # it is found with the ordinary ones


def _number(fd: Any) -> int:
    """Return the number of a descriptor; -1 if it is none, which the selector will reject."""
    try:
        return fd if isinstance(fd, int) else int(fd.fileno())
    except (AttributeError, TypeError, ValueError):
        return -1


def _mask(events: int) -> int:
    return (IN if events & READ else 0) | (OUT if events & WRITE else 0)
