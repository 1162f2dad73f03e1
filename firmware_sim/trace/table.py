"""A trace as a table, in CSV: for spreadsheets and scripts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from typing import IO

from firmware_sim.trace.rows import Span
from firmware_sim.trace.wording import exchange_text, transfer_text
from hwloop.trace_events import FaultChange, I2cTransfer, LineChange, SerialData, SerialFrame, SpiTransfer, TraceEvent

COLUMNS = ("seconds", "kind", "where", "name", "value", "detail")


def write_table(events: Iterable[TraceEvent], file: IO[str], names: Mapping[int, str], span: Span) -> None:
    """Write one row for each event: its time, kind and place, its value, and its cause, direction or error."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for event in (event for event in events if span.holds(event)):
        # Whole nanoseconds: a float has fewer digits than the clock of a machine that has run for months.
        when = f"{event.when_ns // 1_000_000_000}.{event.when_ns % 1_000_000_000:09}"
        table.writerow((when, *_row(event, names)))


def _row(event: TraceEvent, names: Mapping[int, str]) -> tuple[object, ...]:
    if isinstance(event, LineChange):
        return "line", event.line, names.get(event.line, ""), event.level, event.by
    if isinstance(event, SerialData):
        return "serial", event.port, "", event.data.hex(" "), event.direction
    if isinstance(event, SerialFrame):
        return "frame", event.port, "", event.data.hex(" "), ""
    if isinstance(event, I2cTransfer):
        return "i2c", event.bus, "", transfer_text(event._replace(error="")), event.error
    if isinstance(event, SpiTransfer):
        return "spi", event.device, "", exchange_text(event._replace(error="")), event.error
    if isinstance(event, FaultChange):
        return "fault", event.target, event.fault, "begins" if event.begins else "ends", event.detail
    return "output", event.stream, "", event.text, ""
