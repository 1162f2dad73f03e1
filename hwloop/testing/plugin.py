"""The pytest plugin: the fixture `board`, and async tests that use it in virtual time.

pytest loads this module in every run, also in those that never use it. So it imports nothing but pytest: the board and
the loop are imported by the first test that needs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from hwloop.testing.fixture import BoardFixture

_TEST = pytest.StashKey[Callable[..., Coroutine[Any, Any, object]]]()


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[BoardFixture]:
    """A fresh simulated board on which the test runs a program, in virtual time (hwloop)."""
    from hwloop.testing.fixture import BoardFixture
    from hwloop.testing.settings import settings_of

    made = BoardFixture(settings_of(request.node))
    with made.in_use():
        yield made


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hwloop", "programs on a simulated board (hwloop)")
    group.addoption(
        "--hwloop-realtime",
        action="store_true",
        dest="hwloop_realtime",
        help="run the tests that use the fixture board in real time",
    )
    parser.addini("hwloop_board", "the board file of the fixture board, relative to the ini file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "hwloop(board=, seed=, clock=, limit=, backend=): settings of the fixture board: the board file, the seed of "
        "the task order, 'virtual' or 'real' time, and the seconds after which the test fails",
    )
    # Registered last, so that its hooks come before those of other plugins that run async tests.
    config.pluginmanager.register(_AsyncTests(), "hwloop-async-tests")


def uses_board(item: pytest.Item) -> bool:
    """Return whether a test uses the fixture of this plugin, and not another one of the same name."""
    if not isinstance(item, pytest.Function) or "board" not in item.fixturenames:
        return False
    definitions = item._fixtureinfo.name2fixturedefs.get("board", ())
    return bool(definitions) and definitions[-1].func.__module__ == __name__


def pytest_itemcollected(item: pytest.Item) -> None:
    if uses_board(item) and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.stash[_TEST] = item.obj


class _AsyncTests:
    """Runs async tests that use the board, before any other plugin does."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        __tracebackhide__ = True
        function = pyfuncitem.stash.get(_TEST, None)
        if function is None:
            return None
        board = cast("BoardFixture", pyfuncitem.funcargs["board"])
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        board.call(function(**arguments))
        return True
