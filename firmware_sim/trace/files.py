"""Traces as files: the format follows from the suffix of the file's name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from firmware_sim.trace.rows import Span, checked_span
from hwloop.trace_events import I2cTransfer, SpiTransfer, TraceEvent

Writer = Callable[[list[TraceEvent], IO[str], Mapping[int, str], Span], None]

# Imported when a file of this format is written.
FORMATS = {
    ".vcd": "firmware_sim.trace.vcd:write_vcd",
    ".csv": "firmware_sim.trace.table:write_table",
    ".json": "firmware_sim.trace.wavedrom:write_wavedrom",
    ".svg": "firmware_sim.trace.svg:write_svg",
}
"""The writers, by suffix: a function of the events, the open file, the names of lines and the window."""


def writer_for(path: str | os.PathLike[str]) -> Writer:
    """Return the writer for a file.

    Raises ValueError if its suffix is not one of `FORMATS`, ImportError if the writer needs a package that is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{os.fspath(path)}: no format of traces has the suffix {suffix!r}; use {', '.join(FORMATS)}")
    module, _, name = FORMATS[suffix].partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def write(
    events: Iterable[TraceEvent],
    path: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
) -> None:
    """Write a trace to a file. Its suffix is the format: `.vcd`, `.csv`, `.json` (WaveDrom) or `.svg` (a picture).

    The file appears when it is complete.

    Parameters:
        events: the trace.
        path: the file.
        names: the names of lines, by number, such as `board.line_names`.
        start_ns, end_ns: the window that is written, in nanoseconds of the board's clock; by default all of the trace.

    Raises ValueError for another suffix or an empty window, ImportError for `.vcd` if pyvcd is not installed, and
    OSError if the file can't be written.
    """
    writer = writer_for(path)
    events = list(events)
    first_ns = min((event.when_ns for event in events), default=0)
    ends = (event.end_ns if isinstance(event, I2cTransfer | SpiTransfer) else event.when_ns for event in events)
    last_ns = max(ends, default=0)
    margin_ns = 1 + (last_ns - first_ns) // 50
    span = checked_span(
        first_ns - margin_ns if start_ns is None else start_ns, last_ns + margin_ns if end_ns is None else end_ns
    )
    partial = Path(f"{os.fspath(path)}.part")
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            writer(events, file, names or {}, span)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
