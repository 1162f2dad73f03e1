"""A trace as a waveform of characters, for the report of a failed test.

    time                      │1.00 s            │1.05 s            │1.10 s
    17 door                   ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔┃▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔
    27 lamp                   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔╲▁▁▁▁▁▁▁▁▁▁
    /dev/ttyAMA0 received            │'$GPRMC,1…           │'$GPRMC,2'
    i2c 1                               │0x76 w f7 r 00 80

A column stands for a span of time: `╱` and `╲` are one edge in it, `┃` several. A text begins at its column, and is cut
where the next one begins; `‖` marks several that begin in one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from firmware_sim.trace.line_levels import LineLevels, lines_of
from firmware_sim.trace.wording import data_text, transfer_text
from hwloop.trace_events import (
    FaultChange,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    TraceEvent,
)

_LEVELS = {0: "▁", 1: "▔"}
_EDGES = {0: "╲", 1: "╱"}
_LONGEST_LABEL = 32
_NARROWEST = 20
"""Columns that the graph has at least, however long the labels are."""


def text_waveform(
    events: Iterable[TraceEvent],
    start_ns: int,
    end_ns: int,
    width: int = 100,
    *,
    names: Mapping[int, str] | None = None,
) -> str:
    """Return a window of a trace as a waveform of characters: a row for each line, port, bus, and for faults.

    Parameters:
        events: the trace. Events before the window give the levels at its beginning.
        start_ns, end_ns: the window, in nanoseconds of the board's clock.
        width: characters in a row.
        names: the names of lines, by number, such as `board.line_names`. By default a line has the name of the part
            that has driven it.

    Raises ValueError for an empty window.
    """
    if end_ns <= start_ns:
        raise ValueError(f"a window ends after it begins, not at {end_ns} ns after {start_ns} ns")
    events = list(events)
    lines = lines_of(events)
    known = line_names(events) | dict(names or {})
    labels = {line: f"{line} {_short(known[line], line)}" if line in known else f"{line}" for line in lines}
    texts = _texts([event for event in events if start_ns <= event.when_ns < end_ns], (end_ns - start_ns) // 40)
    margin = 2 + min(_LONGEST_LABEL, max(map(len, ("time", *labels.values(), *texts))))
    window = _Window(start_ns, end_ns, max(_NARROWEST, width - margin))
    rows = [("time", window.axis())]
    rows += [(labels[line], window.levels(levels)) for line, levels in lines.items()]
    rows += [(label, window.texts(items)) for label, items in texts.items()]
    return "\n".join(f"{label[: margin - 2].ljust(margin)}{graph}".rstrip() for label, graph in rows)


def line_names(events: Iterable[TraceEvent]) -> dict[int, str]:
    """Return a name for each line that a part has driven, by the line's number: the part's own."""
    nobody = ("", "program", "another process", "wire", "outside")
    return {event.line: event.by for event in events if isinstance(event, LineChange) and event.by not in nobody}


def _short(name: str, line: int) -> str:
    """Return "button" for "the button on line 17"."""
    return name.removeprefix("the ").removesuffix(f" on line {line}")


class _Window:
    """Columns that stand for a span of time."""

    def __init__(self, start_ns: int, end_ns: int, columns: int) -> None:
        self._start_ns, self._end_ns = start_ns, end_ns
        self._columns = columns

    def column(self, when_ns: int) -> int:
        return (when_ns - self._start_ns) * self._columns // (self._end_ns - self._start_ns)

    def axis(self) -> str:
        """Return the marks of the time axis, at round times."""
        column_ns = (self._end_ns - self._start_ns) / self._columns
        exponent = 0
        while True:
            for factor in (1, 2, 5):
                step_ns = factor * 10**exponent
                decimals = max(0, 9 - exponent)
                label = f"│{self._end_ns / 1e9:.{decimals}f} s"
                if step_ns >= (len(label) + 2) * column_ns:
                    first = -(-self._start_ns // step_ns)
                    times = range(first * step_ns, self._end_ns, step_ns)
                    return self._place([(self.column(when), f"│{when / 1e9:.{decimals}f} s") for when in times])
            exponent += 1

    def levels(self, levels: LineLevels) -> str:
        """Return the graph of a line."""
        inside: dict[int, list[int]] = {}
        for when_ns, level in levels.within(self._start_ns, self._end_ns):
            inside.setdefault(self.column(when_ns), []).append(level)
        level = levels.at(self._start_ns - 1) or 0
        row = ""
        for column in range(self._columns):
            edges = inside.get(column, ())
            row += _LEVELS[level] if not edges else _EDGES[edges[0]] if len(edges) == 1 else "┃"
            level = edges[-1] if edges else level
        return row

    def texts(self, items: Iterable[tuple[int, str]]) -> str:
        """Return texts, each at its time."""
        marked: dict[int, str] = {}
        for when_ns, text in items:
            column = self.column(when_ns)
            marked[column] = f"‖{marked[column][1:]} {text}" if column in marked else f"│{text}"
        return self._place(sorted(marked.items()))

    def _place(self, items: list[tuple[int, str]]) -> str:
        row = ""
        ends = [column for column, _ in items[1:]] + [self._columns]
        for (column, text), end in zip(items, ends, strict=True):
            room = end - column - (end < self._columns)
            if len(text) > room:
                text = text[: max(1, room - 1)] + ("…" if room > 1 else "")
            row = row.ljust(column) + text
        return row


def _texts(events: Iterable[TraceEvent], gap_ns: int) -> dict[str, list[tuple[int, str]]]:
    """Return the events that are shown as texts: their times and texts, by the label of their row."""
    rows: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for event in _joined(events, gap_ns):
        row: tuple[int, str] | None = None
        if isinstance(event, SerialData):
            row, text = (1, f"{event.port} {event.direction}"), data_text(event.data)
        elif isinstance(event, SerialFrame):
            row, text = (1, f"{event.port} frames"), data_text(event.data)
        elif isinstance(event, I2cTransfer):
            row, text = (2, f"i2c {event.bus}"), transfer_text(event)
        elif isinstance(event, FaultChange):
            row, text = (3, "faults"), f"{event.fault} {event.target}" + ("" if event.begins else " ends")
        elif isinstance(event, Printed):
            row, text = (4, event.stream), event.text
        if row is not None:
            rows.setdefault(row, []).append((event.when_ns, text))
    return {row[1]: rows[row] for row in sorted(rows)}


def _joined(events: Iterable[TraceEvent], gap_ns: int) -> list[TraceEvent]:
    """Return the events with serial data in one piece where less than `gap_ns` lies between two pieces."""
    joined = list[TraceEvent]()
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for event in events:
        if isinstance(event, SerialData):
            place, when_ns = last.get((event.port, event.direction), (-1, 0))
            if place >= 0 and event.when_ns - when_ns < gap_ns:
                whole = joined[place]
                assert isinstance(whole, SerialData)
                joined[place] = whole._replace(data=whole.data + event.data)
            else:
                place = len(joined)
                joined.append(event)
            last[event.port, event.direction] = place, event.when_ns
        else:
            joined.append(event)
    return joined
