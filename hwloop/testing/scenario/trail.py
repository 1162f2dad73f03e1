"""`Trail`: what has happened on a board since the last step of a scenario, for its expectations.

Expectations come in the order in which their events must come. So each looks at the events after those that the one
before it has used, and a step that acts on the board begins anew: what happened before it can't be its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop.trace_events import I2cTransfer, LineChange, Printed, SerialData, TraceEvent

RECENT, RECENT_SECONDS = 20_000, 1.5

Kind = type[LineChange | SerialData | I2cTransfer | Printed]


class Trail:
    """Follows the events of a board, for as long as it is open. A tracer that the board has gets them too.

    Attributes:
        recent: the events of the last seconds, for reports.
    """

    def __init__(self, board: SimBoard) -> None:
        self.recent: Trace = Trace(RECENT, seconds=RECENT_SECONDS)
        self._board = board
        self._next = board.tracer
        self._wanted: set[type] = set()
        self._events: list[TraceEvent] = []
        self._first = 0  # the number of the first of them
        self._is_open = False
        self._on_event: Callable[[TraceEvent], object] | None = None

    def want(self, kind: Kind) -> None:
        """Keep the events of a kind; others are passed on only."""
        self._wanted.add(kind)

    def open(self, on_event: Callable[[TraceEvent], object]) -> None:
        """Begin to follow. `on_event` is called after each event, with the board's lock held."""
        with self._board.timeline.lock:
            self._next = self._board.tracer
            self._is_open = True
            self._on_event = on_event
            self._board.tracer = self

    def close(self) -> None:
        """Give the board back its tracer. Harmless when repeated."""
        with self._board.timeline.lock:
            if self._is_open and self._board.tracer is self:
                self._board.tracer = self._next
            self._is_open = False
            self._on_event = None

    def record(self, event: TraceEvent) -> None:
        """Take an event of the board."""
        if self._next is not None:
            self._next.record(event)
        if not self._is_open:
            return
        self.recent.record(event)
        if type(event) in self._wanted:
            self._events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def begin_anew(self) -> None:
        """Forget the events so far: a step acts on the board."""
        self._first += len(self._events)
        self._events.clear()

    @property
    def end(self) -> int:
        """The number of the next event to come."""
        return self._first + len(self._events)

    def since(self, number: int = 0) -> Iterator[tuple[int, TraceEvent]]:
        """Yield the events from that number on, with their numbers."""
        skipped = max(0, number - self._first)
        yield from enumerate(self._events[skipped:], self._first + skipped)

    def use(self, number: int, rest: TraceEvent | None = None) -> None:
        """Forget the events up to that number, because an expectation was met by them.

        `rest` is the part of the last of them that comes after what was expected.
        """
        count = number - self._first + 1
        if count > 0:
            self._events[:count] = [] if rest is None else [rest]
            self._first += count if rest is None else count - 1
