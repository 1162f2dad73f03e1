"""A trace as a waveform of characters, for the report of a failed test.

    time                   │1.00 s   │1.01 s   │1.02 s   │1.03 s   │1.04 s   │1.05 s
    17 door                ▔▔▔▔▔▔▔▔▔▔┃▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔
    27 lamp                ▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔╲▁▁▁▁▁▁▁▁▁
    /dev/ttyAMA0 received         │'$GPRMC,120…│'$GPRMC\\r\\n'
    i2c 1                                         │0x76 w f7 r 00 80

A column stands for a span of time: `╱` and `╲` are one edge in it, `┃` several. A text begins at its column, and is cut
where the next one begins; `‖` marks several that begin in one column. A line whose part is on while it is low has `▄`
there, and a legend says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping

from firmware_sim.trace.line_levels import LineLevels
from firmware_sim.trace.rows import Item, Span, checked_span, rows_of
from hwloop.trace_events import TraceEvent

_LEVELS = {0: "▁", 1: "▔"}
_ON_LOW = {0: "▄", 1: "▔"}
"""The levels of a line whose part is on, or pressed, while the line is low."""
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
    active_low: Collection[int] = (),
) -> str:
    """Return a window of a trace as a waveform of characters: a row for each line, port, bus, and for faults.

    Parameters:
        events: the trace. Events before the window give the levels at its beginning.
        start_ns, end_ns: the window, in nanoseconds of the board's clock.
        width: characters in a row.
        names: the names of lines, by number, such as `board.line_names`. By default a line has the name of the part
            that has driven it.
        active_low: the lines whose parts are on while they are low, such as `board.active_low_lines`.

    Raises ValueError for an empty window.
    """
    span = checked_span(start_ns, end_ns)
    rows = rows_of(events, span, names or {}, (end_ns - start_ns) / 40)
    margin = 2 + min(_LONGEST_LABEL, max(map(len, ("time", *rows.lines, *rows.texts))))
    window = _Window(span, max(_NARROWEST, width - margin))
    shown = [("time", window.axis())]
    inverted = [label for label in rows.lines if int(label.split()[0]) in active_low]
    for label, levels in rows.lines.items():
        shown.append((label, window.levels(levels, _ON_LOW if label in inverted else _LEVELS)))
    shown += [(label, window.texts(items)) for label, items in rows.texts.items()]
    if inverted:
        shown.append(("", f"▄ low, which is on or pressed (active_low): {', '.join(inverted)}"))
    return "\n".join(f"{label[: margin - 2].ljust(margin)}{graph}".rstrip() for label, graph in shown)


class _Window:
    """Columns that stand for a span of time."""

    def __init__(self, span: Span, columns: int) -> None:
        self._span = span
        self._columns = columns

    def column(self, when_ns: int) -> int:
        start_ns, end_ns = self._span
        return max(0, (when_ns - start_ns) * self._columns // (end_ns - start_ns))

    def axis(self) -> str:
        """Return the marks of the time axis, at round times."""
        start_ns, end_ns = self._span
        room = 8
        while True:  # finer times have longer labels
            times, decimals = self._span.ticks(room * (end_ns - start_ns) / self._columns)
            longest = len(f"│{end_ns / 1e9:.{decimals}f} s") + 2
            if longest <= room:
                marks = [(self.column(when), f"│{when / 1e9:.{decimals}f} s") for when in times]
                whole = [mark for mark in marks if mark[0] + len(mark[1]) <= self._columns]
                return self._place(whole or [(0, f"│{start_ns / 1e9:.{decimals}f} s")])
            room = longest

    def levels(self, levels: LineLevels, drawn: Mapping[int, str]) -> str:
        """Return the graph of a line; `drawn` has the character of each level."""
        inside: dict[int, list[int]] = {}
        for when_ns, level in levels.within(*self._span):
            inside.setdefault(self.column(when_ns), []).append(level)
        level = levels.at(self._span.start_ns - 1) or 0
        row = ""
        for column in range(self._columns):
            edges = inside.get(column, ())
            row += drawn[level] if not edges else _EDGES[edges[0]] if len(edges) == 1 else "┃"
            level = edges[-1] if edges else level
        return row

    def texts(self, items: Iterable[Item]) -> str:
        """Return texts, each at its time."""
        marked: dict[int, str] = {}
        for item in items:
            column = self.column(item.start_ns)
            marked[column] = f"‖{marked[column][1:]} {item.text}" if column in marked else f"│{item.text}"
        return self._place(sorted(marked.items()))

    def _place(self, items: list[tuple[int, str]]) -> str:
        row = ""
        for (column, text), (end, _) in itertools.pairwise([*items, (self._columns, "")]):
            room = end - column - (end < self._columns)
            if len(text) > room:
                text = text[: max(1, room - 1)] + ("…" if room > 1 else "")
            row = row.ljust(column) + text
        return row
