"""`Trace`: the events of a board, in the order in which they were recorded."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TypeVar

from hwloop.trace_events import TraceEvent

_Event = TypeVar("_Event", bound=TraceEvent)


class Trace:
    """Records the events of a board in memory.

    Parameters:
        keep: how many events are kept, the last ones; None keeps all.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._events: collections.deque[TraceEvent] = collections.deque(maxlen=keep)

    def record(self, event: TraceEvent) -> None:
        """Add an event. Called from any thread."""
        self._events.append(event)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of one kind, such as `LineChange`."""
        return [event for event in self if isinstance(event, kind)]
