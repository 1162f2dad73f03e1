"""The cost of a trace for each edge: on a simulated line, and on the way of the edges of a real board to the program.

    python benchmarks/tracing.py [--quick]

Each round measures the same edges without a tracer and with one, in turn; the result is the median of the rounds.
Without a tracer a real board has no object of the trace on the way, so its column is the plain stream.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop.board_interface import Board
from hwloop.boards.traced_lines import TracedEdges
from hwloop.lines import Edge, EdgeStream, LineName, Losses
from hwloop.trace_events import Tracer

BATCH = 50


class Prepared(EdgeStream):
    """A stream that always has the same edges, so that nothing but the trace is measured."""

    losses = Losses()

    def __init__(self) -> None:
        self._edges = [Edge(17, number % 2, number, number, 0) for number in range(BATCH)]

    def fileno(self) -> int:
        return -1

    def read(self) -> list[Edge]:
        return self._edges

    def level(self, line: LineName) -> int:
        return 0

    def close(self) -> None:
        pass


def simulated(tracer: Tracer | None, edges: int) -> None:
    with SimBoard(tracer=tracer, lines="") as board:
        line = board.line(17)
        for number in range(edges):
            line.drive(1 - number % 2)


def real(tracer: Tracer | None, edges: int) -> None:
    board, stream = Board(), Prepared()
    board.tracer = tracer
    read = stream.read if tracer is None else TracedEdges(board, stream, {17: 17}, active_low=False).read
    for _ in range(edges // BATCH):
        read()


def cost(run: Callable[[Tracer | None, int], None], edges: int, rounds: int) -> tuple[float, float]:
    """Return the microseconds of an edge without a tracer and with one."""
    without, traced = [], []
    for _ in range(rounds):
        for tracer, times in ((None, without), (Trace(keep=100_000), traced)):
            start = time.process_time()
            run(tracer, edges)
            times.append((time.process_time() - start) / edges * 1e6)
    return statistics.median(without), statistics.median(traced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer edges and rounds")
    quick = parser.parse_args().quick
    print(f"{'µs an edge':24} {'without':>8} {'traced':>8} {'more':>8}")
    for name, run in (("simulated line", simulated), ("real board", real)):
        without, traced = cost(run, 2_000 if quick else 20_000, 3 if quick else 15)
        print(f"{name:24} {without:8.2f} {traced:8.2f} {traced - without:8.2f}")


if __name__ == "__main__":
    main()
