"""The report of a failed test: the last second of the board as a waveform, its trace as files, and how to repeat it.

A failed assertion says which condition was false. The waveform shows what was on the wires meanwhile, and often that
explains the failure.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_sim.trace import text_waveform, write
from firmware_sim.trace.files import FORMATS
from hwloop.core.naming import error_text
from hwloop.trace_events import TraceEvent

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture
    from hwloop.testing.schedule import Schedule

SHOWN_NS = 1_000_000_000
"""The last part of the trace that a report shows, in nanoseconds."""


def waveform(board: BoardFixture) -> str:
    """Return the last second of the trace as a waveform; empty if nothing has happened on the board."""
    events = list(board.trace)
    if not events:
        return ""
    end_ns = max(board.clock.now_ns(), events[-1].when_ns) + 1
    start_ns = max(end_ns - SHOWN_NS, min(events[0].when_ns, end_ns - 1_000_000))
    return text_waveform(events, start_ns, end_ns, names=board.line_names, active_low=board.active_low_lines)


def repeating(node: str, seed: int) -> str:
    """Return the command that runs a test with a seed again."""
    test = re.sub(r"(?:\[seed\d+\]|-seed\d+(?=\]))$|(?<=\[)seed\d+-", "", node)
    return f"HWLOOP_SEED={seed} python -m pytest {shlex.quote(test)}"


def exploring(node: str, schedule: Schedule, others: Sequence[str]) -> str:
    """Return a schedule, a fault a line, and the command that runs a test under it again.

    `others` is the argument `faults=` with which the mark explores other faults; empty for none.
    """
    faults = [f"  {fault}" for fault in schedule.faults] or ["  no faults"]
    command = f"python -m pytest {shlex.quote(node)} --hwloop-schedule {shlex.quote(str(schedule))}"
    lines = [f"seed {schedule.seed}", *faults, "", "to run it again:", command]
    if others:
        lines += ["", f"to explore the other faults: faults={json.dumps(list(others))} in the mark"]
    return "\n".join(lines)


def write_artifacts(
    trace: Iterable[TraceEvent], names: Mapping[int, str], title: str, directory: str | os.PathLike[str]
) -> list[str]:
    """Write a trace in every format, into a directory named after the test or scenario. `names` are those of lines.

    Return the paths of the files, or why one could not be written.
    """
    folder = Path(directory) / re.sub(r"[^\w.=+-]+", "_", title).strip("_")
    events = list(trace)
    results = []
    for file in (folder / f"trace{suffix}" for suffix in FORMATS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(events, file, names=names)
            results.append(f"{file}")
        except Exception as error:
            results.append(f"{file} was not written: {error_text(error)}")
    return results
