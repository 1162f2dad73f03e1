"""Traces of a board: everything that happened on its lines, ports and buses, with its time.

trace = Trace()
with SimBoard("board.toml", tracer=trace) as board:
    ...
for change in trace.of(LineChange):
    print(change.when_ns, change.line, change.level, change.by)
"""

from __future__ import annotations

from firmware_sim.trace.trace import Trace

__all__ = ["Trace"]
