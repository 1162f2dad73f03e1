"""`Trace`: the events of a board, in the order in which they were recorded, and questions about them."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TypeVar

from firmware_sim.trace.line_levels import LineLevels
from hwloop.trace_events import Direction, I2cTransfer, LineChange, SerialData, SerialFrame, SpiTransfer, TraceEvent

_Event = TypeVar("_Event", bound=TraceEvent)


class Trace:
    """Records the events of a board in memory.

    Parameters:
        keep: how many events are kept, the last ones; None keeps all.
        seconds: for how long an event is kept, counted back from the last one; None keeps all.
    """

    def __init__(self, keep: int | None = None, *, seconds: float | None = None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"a trace keeps at least one event, not {keep!r}; None keeps all")
        if seconds is not None and not seconds > 0:
            raise ValueError(f"a trace keeps its events for more than 0 seconds, not {seconds!r}; None keeps all")
        self._events: collections.deque[TraceEvent] = collections.deque(maxlen=keep)
        self._span_ns = None if seconds is None else seconds * 1e9

    def record(self, event: TraceEvent) -> None:
        """Add an event. Called from any thread."""
        events = self._events
        events.append(event)
        if self._span_ns is not None:
            earliest_ns = event.when_ns - self._span_ns
            try:
                while events[0].when_ns < earliest_ns:
                    events.popleft()
            except IndexError:  # another thread has removed the last one
                pass

    def clear(self) -> None:
        """Forget all events."""
        self._events.clear()

    def __iter__(self) -> Iterator[TraceEvent]:
        """Iterate over the events that are there now, whatever is recorded meanwhile."""
        while True:
            try:
                return iter(tuple(self._events))
            except RuntimeError:  # another thread has recorded one meanwhile
                continue

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} events>"

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of one kind, such as `LineChange`."""
        return [event for event in self if isinstance(event, kind)]

    def between(self, start_ns: int, end_ns: int) -> Trace:
        """Return the trace from `start_ns` up to, but not including, `end_ns`.

        A transfer belongs to it if any part of it lies within.
        """
        part = Trace()
        for event in self:
            ended_ns = event.end_ns if isinstance(event, I2cTransfer | SpiTransfer) else event.when_ns
            if event.when_ns < end_ns and ended_ns >= start_ns:
                part.record(event)
        return part

    def edges(self, line: int) -> list[LineChange]:
        """Return the changes of a line. Raises TypeError for a line's name, which a trace does not have."""
        if not isinstance(line, int):
            raise TypeError(f"a trace has the numbers of lines, such as 17, and not {line!r}")
        return [event for event in self if isinstance(event, LineChange) and event.line == line]

    def level(self, line: int, when_ns: int) -> int | None:
        """Return the level of a line at a time; None if the line never changed.

        Before its first change the line had the other level. At the time of a change it has the new one.
        """
        return LineLevels(enumerate(self.edges(line))).at(when_ns)

    def pulses(self, line: int, level: int = 1) -> list[int]:
        """Return the widths (ns) of a line's pulses of `level`: those whose beginning and end are in the trace."""
        return LineLevels(enumerate(self.edges(line))).widths(level)

    def data(self, port: str, direction: Direction) -> bytes:
        """Return all bytes that have passed a serial port in one direction."""
        return b"".join(
            event.data
            for event in self
            if isinstance(event, SerialData) and event.port == port and event.direction == direction
        )

    def frames(self, port: str) -> list[SerialFrame]:
        """Return the frames that a serial port has delivered to the program."""
        return [event for event in self if isinstance(event, SerialFrame) and event.port == port]

    def transfers(self, bus: int, address: int | None = None) -> list[I2cTransfer]:
        """Return the transfers of an I2C bus; with an address, those with a message for that device."""
        return [
            event
            for event in self
            if isinstance(event, I2cTransfer)
            and event.bus == bus
            and (address is None or any(message.address == address for message in event.messages))
        ]

    def exchanges(self, bus: int, select: int | None = None) -> list[SpiTransfer]:
        """Return the transfers of an SPI bus; with a select line, those of its device."""
        return [
            event
            for event in self
            if isinstance(event, SpiTransfer) and event.bus == bus and select in (None, event.select)
        ]
