"""Traces of a board: everything that happened on its lines, ports and buses, with its time.

trace = Trace()
with SimBoard("board.toml", tracer=trace) as board:
    ...
for change in trace.edges(17):
    print(change.when_ns, change.level, change.by)
assert_trace(trace, ["line 17 falls", "line 27 rises"])
write(trace, "run.csv")
"""

from __future__ import annotations

from firmware_sim.trace.expectations import assert_trace
from firmware_sim.trace.files import write
from firmware_sim.trace.golden import compare_with_golden
from firmware_sim.trace.text import text_waveform
from firmware_sim.trace.trace import Trace
from firmware_sim.trace.wording import describe

__all__ = ["Trace", "assert_trace", "compare_with_golden", "describe", "text_waveform", "write"]
