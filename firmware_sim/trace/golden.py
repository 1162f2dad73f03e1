"""Golden files: a trace as text that a test compares with the one of an earlier run.

The file has an event on each line, with its time in seconds from the first event. In virtual time it is the same on
every run and every machine, and a change of the program shows in the diff of the file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from firmware_sim.trace.wording import describe_fully, seconds
from hwloop.trace_events import TraceEvent


def compare_with_golden(
    events: Iterable[TraceEvent],
    path: str | os.PathLike[str],
    update: bool = False,
    *,
    how: str = "write the file with compare_with_golden(..., update=True)",
) -> None:
    """Raise AssertionError, with the difference, unless the trace is as in the golden file `path`.

    With `update` the file is written instead. `how` is the advice for a file that is missing or out of date.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    file, found = Path(path), golden_text(events)
    if update:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found, encoding="utf-8")
        return
    try:
        golden = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AssertionError(f"there is no golden file {file} yet; {how}") from None
    if found != golden:
        difference = difflib.unified_diff(
            golden.splitlines(), found.splitlines(), str(file), "this run", lineterm="", n=2
        )
        advice = f"if it is right now, {how}, and look at what has changed in it"
        raise AssertionError(f"the trace is not as in the golden file {file}; {advice}\n" + "\n".join(difference))


def golden_text(events: Iterable[TraceEvent]) -> str:
    """Return a trace as the text of a golden file."""
    events = list(events)
    start_ns = events[0].when_ns if events else 0
    return "".join(f"{seconds(event.when_ns - start_ns):>14}  {describe_fully(event)}\n" for event in events)
