"""The pytest plugin: the fixture `board`, async tests and fixtures in virtual time, and reports of failures.

pytest loads this module in every run, also in those that never use it. So it imports nothing but pytest: the board and
the loop are imported by the first test that needs them.
"""

from __future__ import annotations

import argparse
import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture
    from hwloop.testing.schedule import Schedule

_TEST = pytest.StashKey[Callable[..., Coroutine[Any, Any, object]]]()
_BOARD = pytest.StashKey["BoardFixture"]()
_PASSED = pytest.StashKey[bool]()
_SEED = "hwloop_seed"


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[BoardFixture]:
    """A fresh simulated board on which the test runs a program, in virtual time (hwloop)."""
    from hwloop.testing.fixture import BoardFixture
    from hwloop.testing.settings import settings_of

    settings = settings_of(request.node)
    made = BoardFixture(settings)
    request.node.stash[_BOARD] = made
    with made.in_use():
        if (schedule := _schedule(request.node)) is not None:
            schedule.inject(made.faults)
        yield made
        if request.node.stash.get(_PASSED, False):
            made.raise_pending()
    if made.leftovers and settings.leftovers and request.node.stash.get(_PASSED, False):
        left = "".join(f"\n  {each}" for each in made.leftovers)
        pytest.fail(f"the test has left behind:{left}", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hwloop", "programs on a simulated board (hwloop)")
    group.addoption(
        "--hwloop-realtime",
        action="store_true",
        dest="hwloop_realtime",
        help="run the tests that use the fixture board in real time",
    )
    group.addoption(
        "--hwloop-seeds",
        type=_count,
        metavar="N",
        dest="hwloop_seeds",
        help="run each test that uses the fixture board with N seeds, 0 to N-1, which decide the order of tasks",
    )
    group.addoption(
        "--hwloop-artifacts",
        metavar="DIR",
        dest="hwloop_artifacts",
        help="write the trace of each failed test into DIR: VCD for GTKWave and PulseView, WaveDrom, SVG, CSV",
    )
    group.addoption(
        "--hwloop-update-golden",
        action="store_true",
        dest="hwloop_update_golden",
        help="write the golden files of board.assert_golden() instead of comparing with them",
    )
    group.addoption(
        "--hwloop-schedule",
        metavar="SCHEDULE",
        dest="hwloop_schedule",
        type=_checked_schedule,
        help="run the tests that explore schedules of faults under this one only, as the report of a failure says",
    )
    parser.addini("hwloop_board", "the board file of the fixture board, relative to the ini file")


def _explores(item: pytest.Item) -> bool:
    """Return whether a test runs under schedules of faults."""
    return uses_board(item) and bool(_asked_runs(item))


def _asked_runs(item: pytest.Item) -> object:
    """Return the argument `explore` of the closest mark that has one."""
    given = (mark.kwargs["explore"] for mark in item.iter_markers("hwloop") if "explore" in mark.kwargs)
    return next(given, 0)


def _schedule(item: pytest.Item) -> Schedule | None:
    if not _explores(item):
        return None
    from hwloop.testing.settings import SCHEDULE

    return item.stash[SCHEDULE]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not _explores(item):
        return None
    from hwloop.testing.settings import exploration_of

    try:
        runs, faults = exploration_of(item)
    except pytest.UsageError:
        return None  # the fixture raises it again, and the test fails
    try:
        from hwloop.testing.explored_test import Exploration, ExploredTest
    except ImportError as error:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.hwloop(explore=...) needs the package hypothesis: "
            "pip install 'hwloop[explore]'"
        ) from error
    from hwloop.testing.schedule import parse

    test = ExploredTest(item, _BOARD)
    if text := item.config.getoption("hwloop_schedule"):
        test.report(parse(text), nextitem)
    else:
        test.explore(Exploration(runs, faults), nextitem)
    return True


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"the number of seeds is 1 or more, not {text!r}")
    return int(text)


def _checked_schedule(text: str) -> str:
    from hwloop.testing.schedule import ScheduleError, parse

    try:
        parse(text)
    except ScheduleError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "hwloop(board=, seed=, clock=, limit=, backend=, explore=, faults=, leftovers=, date=): settings of the "
        "fixture board: the board file, the seed of the task order, 'virtual' or 'real' time, the seconds after which "
        "the test fails, the way to the lines, the number of schedules of faults that the test runs under and the "
        "names of the faults, whether leaving something behind fails it, and the date at which a program without a "
        "loop begins",
    )
    # Registered last, so that its hooks come before those of other plugins that run async tests.
    config.pluginmanager.register(_AsyncTests(), "hwloop-async-tests")


def _is_ours(definitions: Any) -> bool:
    """Return whether the fixture `board` is that of this plugin, and not another one of the same name."""
    found = definitions.get("board")
    return bool(found) and found[-1].func.__module__ == __name__


def uses_board(item: object) -> bool:
    """Return whether a test uses the fixture `board` of this plugin, directly or through another fixture."""
    return (
        isinstance(item, pytest.Function)
        and "board" in item.fixturenames
        and _is_ours(item._fixtureinfo.name2fixturedefs)
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = metafunc.config.getoption("hwloop_seeds")
    if _asked_runs(metafunc.definition):
        return  # its schedules have seeds of their own
    if seeds and "board" in metafunc.fixturenames and _is_ours(metafunc._arg2fixturedefs):
        metafunc.fixturenames.append(_SEED)
        metafunc.parametrize(_SEED, range(seeds), ids=[f"seed{seed}" for seed in range(seeds)], indirect=True)


@pytest.fixture
def hwloop_seed(request: pytest.FixtureRequest) -> int:
    """The seed of a test that runs with several (--hwloop-seeds)."""
    return cast("int", request.param)


def pytest_itemcollected(item: pytest.Item) -> None:
    if uses_board(item) and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.stash[_TEST] = item.obj


class _AsyncTests:
    """Runs async tests and fixtures of tests that use the board, before any other plugin does."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        __tracebackhide__ = True
        function = pyfuncitem.stash.get(_TEST, None)
        if function is None:
            return None
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        pyfuncitem.stash[_BOARD].session.call(function(**arguments))
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        original = fixturedef.func
        is_generator = inspect.isasyncgenfunction(original)
        if (
            not (is_generator or inspect.iscoroutinefunction(original))
            or fixturedef.scope != "function"
            or not uses_board(request.node)
        ):
            return (yield)
        board = cast("BoardFixture", request.getfixturevalue("board"))

        @functools.wraps(original)
        def on_loop(*arguments: Any, **named: Any) -> object:
            made: Any = original(*arguments, **named)
            if not is_generator:
                return board.session.call(made)
            request.addfinalizer(lambda: board.session.call(_exhaust(made, fixturedef.argname)))
            return board.session.call(anext(made))

        # `functools.wraps` makes it look async to whoever unwraps it, and other plugins do.
        del on_loop.__wrapped__
        on_loop.__dict__.clear()
        fixturedef.func = on_loop  # type: ignore[misc]
        try:
            return (yield)
        finally:
            fixturedef.func = original  # type: ignore[misc]


async def _exhaust(generator: Any, name: str) -> None:
    """Run an async generator fixture to its end."""
    async for _ in generator:
        raise ValueError(f"the fixture {name} yields more than once")


def _failed(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Return whether a test has failed; one that explores also if it was expected to."""
    return report.failed or (report.skipped and hasattr(report, "wasxfail") and _explores(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    board = item.stash.get(_BOARD, None)
    if board is not None and call.when == "call":
        item.stash[_PASSED] = report.passed
    if call.excinfo is not None and _explores(item):
        from hwloop.testing.explored_test import ERROR

        if not isinstance(call.excinfo.value, pytest.skip.Exception | pytest.xfail.Exception):
            item.stash.setdefault(ERROR, call.excinfo.value)
    if board is not None and _failed(item, report) and call.when in ("setup", "call"):
        from hwloop.testing import report as reports

        if text := reports.waveform(board):
            report.sections.append(("the last second on the board", text))
        if (schedule := _schedule(item)) is not None:
            from hwloop.testing.fault_names import all_but
            from hwloop.testing.settings import exploration_of

            text = reports.exploring(item.nodeid, schedule, all_but(schedule, exploration_of(item)[1]))
            report.sections.append(("the smallest schedule that fails", text))
        elif (seed := board.seed) is not None:
            report.sections.append(("to run it again", reports.repeating(item.nodeid, seed)))
        if directory := item.config.getoption("hwloop_artifacts"):
            directory = item.config.invocation_params.dir / directory
            files = reports.write_artifacts(board.trace, board.line_names, item.nodeid, directory)
            report.sections.append(("the trace", "\n".join(files)))
    return report
