"""The source table: the sources that are registered with a loop.

A source is anything with `fileno()` and `on_readable()`, in the manner of `selectors`. All of that is user code: it may
raise, and it may compare equal to anything, so the table keys sources by identity.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from hwloop.core.descriptors import READ, DescriptorTable
from hwloop.core.handles import Pollable, Watcher
from hwloop.core.naming import short_name
from hwloop.core.urgency import Priority, as_deadline, as_priority

if TYPE_CHECKING:
    from hwloop.core.statistics import SourceStatistics


class SourceTable:
    """The registered sources of one loop."""

    def __init__(self, descriptors: DescriptorTable) -> None:
        self._descriptors = descriptors
        self._watchers: dict[int, Watcher] = {}  # by the source's identity
        self._unreadable: set[int] = set()  # the sources whose statistics have failed

    def watcher_for(self, source: Pollable, loop: Any) -> Watcher:
        """Return a watcher for `source`. Raises ValueError or TypeError as `EventLoop.register` does."""
        if id(source) in self._watchers:
            raise ValueError(f"{short_name(source)} is registered already")
        on_readable = getattr(source, "on_readable", None)
        if not callable(on_readable) or inspect.iscoroutinefunction(on_readable):
            raise TypeError(f"a source needs an on_readable() that is a plain function; {short_name(source)} has none")
        priority = as_priority(getattr(source, "priority", Priority.NORMAL))
        deadline = getattr(source, "deadline", None)
        if deadline is not None and as_deadline(deadline) == float("inf"):
            deadline = None
        watcher = Watcher(on_readable, (), loop, priority, source, deadline)
        watcher.fd = source.fileno()
        key = self._descriptors.keys.get(watcher.fd)
        if key is not None and key.data[0] is not None and not self._descriptors.drop_stale(watcher.fd):
            raise ValueError(f"descriptor {watcher.fd} of {short_name(source)} is watched already")
        return watcher

    def add(self, watcher: Watcher) -> None:
        """Watch the descriptor of a source."""
        self._descriptors.set(watcher.fd, READ, watcher)
        self._watchers[id(watcher.source)] = watcher

    def remove(self, source: Pollable) -> None:
        """Stop watching `source`. Raises KeyError if it is not registered."""
        watcher = self._watchers.pop(id(source), None)
        if watcher is None:
            raise KeyError(f"{short_name(source)} is not registered")
        self._unreadable.discard(id(source))
        self._descriptors.remove_watcher(watcher)

    def watcher_of(self, source: Pollable) -> Watcher:
        """Return the watcher of a source. Raises KeyError if it is not registered."""
        watcher = self._watchers.get(id(source))
        if watcher is None:
            raise KeyError(f"{short_name(source)} is not registered")
        return watcher

    def sources(self) -> list[Pollable]:
        """Return the sources in order of registration."""
        return [watcher.source for watcher in self._watchers.values() if watcher.source is not None]

    def statistics(self, loop: Any) -> tuple[SourceStatistics, ...]:
        """Return the statistics of each source that keeps them; a failure to return them is reported once."""
        from hwloop.core.statistics import SourceStatistics

        kept = [self._statistics(source, loop) for source in self.sources()]
        return tuple(one for one in kept if isinstance(one, SourceStatistics))

    def discard(self, source: Pollable, loop: Any) -> None:
        """Close `source` if it can be closed, and remove it; a failure to close is reported."""
        try:
            close = getattr(source, "close", None)
            if close is not None:
                close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            loop.call_exception_handler({"message": f"closing {short_name(source)} failed", "exception": error})
        finally:
            if id(source) in self._watchers:  # a source of hwloop's has unregistered itself
                self.remove(source)

    def _statistics(self, source: Any, loop: Any) -> Any:
        try:
            return source.statistics() if hasattr(source, "statistics") else None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if id(source) not in self._unreadable:
                self._unreadable.add(id(source))
                message = f"the statistics of {short_name(source)} can't be read (reported once)"
                loop.call_exception_handler({"message": message, "exception": error})
            return None
