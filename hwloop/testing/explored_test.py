"""A test that runs under many schedules of faults: `@pytest.mark.hwloop(explore=N)`.

Each run is a whole run of the test, with fresh fixtures. The first has no faults; it shows what the program uses
and how long it takes. Then the bug hunter draws schedules. Only the last run is reported: that of the smallest schedule
that fails, or of none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from firmware_sim.errors import FaultError
from hwloop.testing.drawing import Targets, schedules
from hwloop.testing.explore import explore
from hwloop.testing.schedule import Schedule
from hwloop.testing.settings import PROBLEM, SCHEDULE

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture

LONGEST = 600.0
"""Seconds of a run in which faults begin, at most."""

ERROR = pytest.StashKey[BaseException]()
"""The exception with which the run has failed."""
RUNS = pytest.StashKey[int]()
"""The runs after which the smallest failing schedule was known."""


@dataclasses.dataclass(frozen=True)
class Exploration:
    """The arguments of the mark."""

    runs: int
    faults: tuple[str, ...] | None
    """The names of the faults that are drawn; None for all."""


class ExploredTest:
    """Runs one test under schedules of faults.

    Parameters:
        item: the test.
        board: where pytest keeps the board of its last run.
    """

    def __init__(self, item: pytest.Item, board: pytest.StashKey[BoardFixture]) -> None:
        self._item = item
        self._board = board

    def explore(self, exploration: Exploration, nextitem: pytest.Item | None) -> None:
        """Run the test under schedules, and report the run of the smallest that fails, or that without faults."""
        found = None
        if not self._fails(Schedule()):
            try:
                drawn = schedules(self._targets(), exploration.faults)
            except FaultError as error:
                self._item.stash[PROBLEM] = f"faults: {error}"
            else:
                found = explore(self._play, drawn, runs=exploration.runs)
        if found is not None:
            self._item.stash[RUNS] = found.runs
        self.report(Schedule() if found is None else found.schedule, nextitem)

    def report(self, schedule: Schedule, nextitem: pytest.Item | None) -> None:
        """Run the test under one schedule, and report it as any other test."""
        hook, item = self._item.ihook, self._item
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._run(schedule, nextitem):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _play(self, schedule: Schedule) -> None:
        if self._fails(schedule):
            raise self._item.stash[ERROR]

    def _fails(self, schedule: Schedule) -> bool:
        # The next item says which fixtures stay: those of the module and above it.
        parent: Any = self._item.parent
        return any(report.failed for report in self._run(schedule, parent))

    def _run(self, schedule: Schedule, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        item: Any = self._item
        item.stash[SCHEDULE] = schedule
        item._report_sections.clear()  # what earlier runs have logged
        item._initrequest()  # fixtures of the function are made anew
        return runtestprotocol(item, log=False, nextitem=nextitem)

    def _targets(self) -> Targets:
        board = self._item.stash[self._board]
        seconds = (board.clock.now_ns() - board.began_ns) / 1e9
        devices = [(number, address) for number, bus in sorted(board.buses.items()) for address in bus.addresses]
        return Targets(board.lines_used, sorted(board.ports), sorted(board.buses), devices, min(seconds, LONGEST))
