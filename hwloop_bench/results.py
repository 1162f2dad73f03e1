"""The results of several rounds, in which the loops take turns: medians, ratios, histograms."""

from __future__ import annotations

import collections
import contextlib
import functools
import statistics
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from hwloop_bench import processes
from hwloop_bench.processes import CYCLICTEST, FLOOR, Answer, Case, Died


class Results:
    """The measurements so far.

    Attributes:
        cases: the cases with figures, in order.
        failures: what went wrong, as text.
        realtime: the real-time settings that were granted and refused, if requested.
    """

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.failures: list[str] = []
        self.realtime: list[str] = []
        self._runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        self._histograms: dict[tuple[str, str], collections.Counter[int]] = {}

    def add(self, case: Case, loop: str, answer: Answer) -> None:
        self.cases[case.name] = case
        self._runs.setdefault((case.name, loop), []).append(answer.figures)
        self._histograms.setdefault((case.name, loop), collections.Counter()).update(answer.histogram)
        self.realtime += [grant for grant in answer.realtime if grant not in self.realtime]

    def loops(self, case: str) -> list[str]:
        """Return the loops that have figures in a case."""
        return [loop for name, loop in self._runs if name == case]

    def medians(self, case: str, loop: str) -> dict[str, float]:
        """Return each figure's median over the rounds; nothing without rounds."""
        runs = self._runs.get((case, loop), [])
        names = dict.fromkeys(name for run in runs for name in run)
        return {name: statistics.median(run[name] for run in runs if name in run) for name in names}

    def ratio(self, case: str, figure: str, loop: str = "hwloop", to: str = "asyncio") -> float | None:
        """Return a figure's median on one loop divided by that on another; None if one is missing or the latter 0."""
        ours, theirs = self.medians(case, loop).get(figure), self.medians(case, to).get(figure)
        return None if ours is None or not theirs else ours / theirs

    def histogram(self, case: str, loop: str) -> Mapping[int, int]:
        """Return the number of latencies of all rounds by `bucket`."""
        return self._histograms.get((case, loop), {})

    def as_json(self) -> dict[str, object]:
        """Return rounds, medians, ratios to asyncio and histograms of every case and loop as plain data."""
        return {
            "cases": {
                name: {
                    "title": case.title,
                    "loops": {
                        loop: {
                            "rounds": self._runs[name, loop],
                            "median": self.medians(name, loop),
                            "ratio": {
                                figure: ratio
                                for figure in self.medians(name, loop)
                                if (ratio := self.ratio(name, figure, loop)) is not None
                            },
                            "histogram_us": {
                                str(low): count for low, count in sorted(self.histogram(name, loop).items())
                            },
                        }
                        for loop in self.loops(name)
                    },
                }
                for name, case in self.cases.items()
            },
            "failures": self.failures,
            "realtime": self.realtime,
        }


def take_turns(
    cases: Sequence[Case], loops: Sequence[str], rounds: int, seconds: float, results: Results, realtime: bool = False
) -> Iterator[Case]:
    """Measure each case in `rounds` rounds, in which the loops take turns, and yield each case when it is done.

    Measurements and failures are added to `results` at once. A loop whose process died is left out of the other rounds
    of that case. Loops of a case that runs them together don't take turns.
    """
    for case in cases:
        running = [loop for loop in loops if loop not in (FLOOR, CYCLICTEST) or loop in case.floors]
        for _ in range(rounds):
            with contextlib.closing(_measured(case, tuple(running), seconds, realtime)) as answers:
                for loop, answer in answers:
                    try:
                        results.add(case, loop, answer())
                    except Died as error:
                        results.failures.append(f"{case.name} on {loop} {error}")
                        running.remove(loop)
        yield case


def _measured(
    case: Case, loops: Sequence[str], seconds: float, realtime: bool
) -> Generator[tuple[str, Callable[[], Answer]]]:
    """Yield each loop with the function that returns its answer: one after the other, or all at the same time."""
    if not case.together:
        for loop in loops:
            yield loop, functools.partial(processes.measure, case, loop, seconds, realtime)
        return
    with contextlib.ExitStack() as stack:
        blocks = [(loop, processes.started(case, loop, seconds, realtime)) for loop in loops]
        yield from [(loop, stack.enter_context(block)) for loop, block in blocks]
