"""A test that runs under many schedules of faults: `@pytest.mark.hwloop(explore=N)`.

Each run is a whole run of the test, with fresh fixtures. The first has no faults; it shows what the program uses
and how long it takes. Then the bug hunter draws schedules. Only the last run is reported: that of the smallest schedule
that fails, or of none; only that one stops in the debugger of --pdb.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from firmware_sim.errors import FaultError
from hwloop.core.naming import error_text
from hwloop.testing.drawing import schedules
from hwloop.testing.explore import explore
from hwloop.testing.schedule import Schedule
from hwloop.testing.settings import PROBLEM, SCHEDULE
from hwloop.testing.targets import Targets

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture

ERROR = pytest.StashKey[BaseException]()
"""The first exception with which the run has failed, whether or not the test is marked xfail."""

_DEBUGGERS = ("pdbinvoke", "pdbtrace")
"""The plugins of pytest that stop at a failure (--pdb) and at the beginning of a test (--trace)."""


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
        self._exit: BaseException | None = None

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
            if self._exit is not None:
                raise self._exit
        if found is None:
            self.report(Schedule(), nextitem)
        else:
            self.report(found.schedule, nextitem, failed_with=found.error)

    def report(
        self, schedule: Schedule, nextitem: pytest.Item | None, *, failed_with: BaseException | None = None
    ) -> None:
        """Run the test under one schedule, and report it as any other test.

        `failed_with` is the exception of an earlier run: if this run passes, the report says that both have happened.
        """
        hook, item = self._item.ihook, self._item
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._run(schedule, nextitem)
        if failed_with is not None and ERROR not in item.stash:
            for report in reports:
                if report.when == "call":
                    report.outcome = "failed"
                    report.longrepr = (
                        f"The test failed under this schedule, and passed when it ran again: {schedule}\n"
                        f"It failed with {error_text(failed_with)}\n"
                        "Something besides the schedule decides; look for real time, threads, or state of other runs."
                    )
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _play(self, schedule: Schedule) -> None:
        if self._exit is None and self._fails(schedule):
            raise self._item.stash[ERROR]

    def _fails(self, schedule: Schedule) -> bool:
        # The next item says which fixtures stay: those of the module and above it.
        parent: Any = self._item.parent
        try:
            with without_debugger(self._item.config):
                self._run(schedule, parent)
        except pytest.exit.Exception as error:
            self._exit = error  # Hypothesis would take it for a failure
            return False
        return ERROR in self._item.stash

    def _run(self, schedule: Schedule, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        item: Any = self._item
        item.stash[SCHEDULE] = schedule
        if ERROR in item.stash:
            del item.stash[ERROR]
        item._report_sections.clear()  # what earlier runs have logged
        item._initrequest()  # fixtures of the function are made anew
        return runtestprotocol(item, log=False, nextitem=nextitem)

    def _targets(self) -> Targets:
        board = self._item.stash[self._board]
        return Targets.of(board, board.began_ns)


@contextlib.contextmanager
def without_debugger(config: pytest.Config) -> Iterator[None]:
    """Run tests in this block as if --pdb and --trace were not given."""
    manager = config.pluginmanager
    plugins = {name: manager.unregister(name=name) for name in _DEBUGGERS if manager.has_plugin(name)}
    asked, config.option.usepdb = config.option.usepdb, False
    try:
        yield
    finally:
        config.option.usepdb = asked
        for name, plugin in plugins.items():
            manager.register(plugin, name)
