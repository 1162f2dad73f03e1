"""The rows of a picture of a trace: the level of each line, and the texts of ports, buses, faults and output.

The text waveform, WaveDrom's files and SVG show the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from firmware_sim.trace.line_levels import LineLevels, lines_of
from firmware_sim.trace.wording import data_text, exchange_text, printable, transfer_text
from hwloop.trace_events import (
    FaultChange,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    SpiTransfer,
    TraceEvent,
)

_NOBODY = ("", "program", "another process", "wire", "outside")
"""Causes of changes that are no part."""


class Span(NamedTuple):
    """A window of a trace, in nanoseconds of the board's clock. Its end does not belong to it."""

    start_ns: int
    end_ns: int

    def holds(self, event: TraceEvent) -> bool:
        """Return whether an event begins in the window."""
        return self.start_ns <= event.when_ns < self.end_ns

    def ticks(self, apart_ns: float) -> tuple[range, int]:
        """Return round times that are at least `apart_ns` apart, and the decimals that they have in seconds."""
        exponent = 0
        while 5 * 10**exponent < apart_ns:
            exponent += 1
        step_ns = next(factor * 10**exponent for factor in (1, 2, 5) if factor * 10**exponent >= apart_ns)
        return range(-(-self.start_ns // step_ns) * step_ns, self.end_ns, step_ns), max(0, 9 - exponent)


class Item(NamedTuple):
    """A text in a row."""

    start_ns: int
    end_ns: int
    """When the bytes or the transfer were over; the same as `start_ns` for what takes no time."""
    text: str


@dataclass(frozen=True)
class Rows:
    """The rows of a picture, by their labels, in the order in which they are shown."""

    lines: Mapping[str, LineLevels]
    texts: Mapping[str, Sequence[Item]]


def checked_span(start_ns: int, end_ns: int) -> Span:
    """Return a window. Raises ValueError for one that is empty."""
    if end_ns <= start_ns:
        raise ValueError(f"a window ends after it begins, not at {end_ns} ns after {start_ns} ns")
    return Span(start_ns, end_ns)


def rows_of(events: Iterable[TraceEvent], span: Span, names: Mapping[int, str], gap_ns: float) -> Rows:
    """Return the rows for a window of a trace.

    Parameters:
        events: the trace. Events before the window give the levels at its beginning.
        span: the window.
        names: the names of lines. A line without one has the name of the part that has driven it.
        gap_ns: serial data with less than this between two pieces is one text.
    """
    events = list(events)
    known = {event.line: event.by for event in events if isinstance(event, LineChange) and event.by not in _NOBODY}
    known.update(names)
    lines = {_label(line, known.get(line, "")): levels for line, levels in lines_of(events).items()}
    return Rows(lines, _texts([event for event in events if span.holds(event)], gap_ns))


def _label(line: int, name: str) -> str:
    """Return "17 button" for "the button on line 17"."""
    return f"{line} {printable(name.removeprefix('the ').removesuffix(f' on line {line}'))}".strip()


def _texts(events: Iterable[TraceEvent], gap_ns: float) -> dict[str, list[Item]]:
    rows: dict[tuple[int, str], list[Item]] = {}
    for event in events:
        row = _row(event)
        if row is not None:
            rows.setdefault(row, []).append(_item(event))
    pieces: dict[str, list[SerialData]] = {}
    for event in events:
        if isinstance(event, SerialData):
            pieces.setdefault(f"{event.port} {event.direction}", []).append(event)
    rows |= {(1, label): _joined(data, gap_ns) for label, data in pieces.items()}
    return {row[1]: rows[row] for row in sorted(rows)}


def _row(event: TraceEvent) -> tuple[int, str] | None:
    """Return the place and the label of the row of a text; None for lines and serial data."""
    if isinstance(event, SerialFrame):
        return 1, f"{event.port} frames"
    if isinstance(event, I2cTransfer):
        return 2, f"i2c {event.bus}"
    if isinstance(event, SpiTransfer):
        return 2, f"spi {event.device}"
    if isinstance(event, FaultChange):
        return 3, "faults"
    if isinstance(event, Printed):
        return 4, event.stream
    return None


def _item(event: TraceEvent) -> Item:
    if isinstance(event, I2cTransfer):
        return Item(event.when_ns, event.end_ns, transfer_text(event))
    if isinstance(event, SpiTransfer):
        return Item(event.when_ns, event.end_ns, exchange_text(event))
    if isinstance(event, FaultChange):
        text = f"{event.fault} {event.target}" + ("" if event.begins else " ends")
        return Item(event.when_ns, event.when_ns, printable(text))
    if isinstance(event, SerialFrame):
        return Item(event.when_ns, event.when_ns, data_text(event.data))
    assert isinstance(event, Printed)
    return Item(event.when_ns, event.when_ns, printable(event.text))


def _joined(pieces: Iterable[SerialData], gap_ns: float) -> list[Item]:
    """Return serial data as texts; pieces with less than `gap_ns` between them are one."""
    joined = list[tuple[int, int, bytes]]()
    for piece in pieces:
        took_ns = 0
        if piece.settings is not None:
            took_ns = round(len(piece.data) * piece.settings.bits * 1e9 / piece.settings.baudrate)
        # A received piece has the time of its end, a sent one that of its beginning.
        start_ns = piece.when_ns - took_ns if piece.direction == "received" else piece.when_ns
        end_ns, data = start_ns + took_ns, piece.data
        if joined and start_ns - joined[-1][1] < gap_ns:
            start_ns, _, before = joined.pop()
            data = before + data
        joined.append((start_ns, end_ns, data))
    return [Item(start_ns, end_ns, data_text(data)) for start_ns, end_ns, data in joined]
