"""Traces as files: the format follows from the suffix of the file's name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from hwloop.trace_events import TraceEvent

Writer = Callable[[list[TraceEvent], IO[str], Mapping[int, str]], None]

# Imported when a file of this format is written.
FORMATS = {
    ".csv": "firmware_sim.trace.table:write_table",
    ".vcd": "firmware_sim.trace.vcd:write_vcd",
}
"""The writers, by suffix: a function of the events, the open file and the names of lines."""


def check_suffix(path: str | os.PathLike[str]) -> Writer:
    """Return the writer for a file. Raises ValueError if its suffix is not one of `FORMATS`."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{os.fspath(path)}: no format of traces has the suffix {suffix!r}; use {', '.join(FORMATS)}")
    module, _, name = FORMATS[suffix].partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def write(
    events: Iterable[TraceEvent], path: str | os.PathLike[str], *, names: Mapping[int, str] | None = None
) -> None:
    """Write a trace to a file: `.csv` is a table, `.vcd` is for GTKWave, PulseView and sigrok-cli.

    `names` are the names of lines, by number, such as `board.line_names`. The file appears when it is complete.

    Raises ValueError for another suffix, OSError if the file can't be written.
    """
    writer = check_suffix(path)
    partial = Path(f"{os.fspath(path)}.part")
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            writer(list(events), file, names or {})
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
