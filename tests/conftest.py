"""Fixtures for every test: coroutines run on each loop that must serve them, and nothing may be left behind."""

from __future__ import annotations

import asyncio
import ctypes  # noqa: F401  # first: Debian's libffi then opens a file for good, which is no leak of a test
import gc
import os
import selectors
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import hwloop

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and they hand it on to the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup(1)


def pytest_configure(config: pytest.Config) -> None:
    """Let Hypothesis try the same examples in each run, however long the machine takes over one.

    `--hypothesis-profile=default` tries others, and keeps those that failed.
    """
    if config.pluginmanager.hasplugin("hypothesispytest") and not config.getoption("--hypothesis-profile"):
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
        settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """Keep the garbage collector off pytest's own objects, a million of them: each collection would go through all."""
    gc.collect()
    gc.freeze()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "hwloop": hwloop.new_event_loop,
}


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """`run(main())` runs a coroutine to its end on one of the loops; the test is repeated on each."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main)

    return run


@pytest.fixture
def unmeasured() -> dict[str, str]:
    """The environment for a program that coverage must not measure: its memory counts, or it gives up its rights."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class LeapingClock(selectors.SelectSelector):
    """A clock that stands still while anything runs, and leaps to the next timer when nothing does."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing will ever wake this loop"
            self.time += timeout
        return found


class LeapingAsyncio(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = LeapingClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.time


class LeapingHwloop(hwloop.EventLoop):
    def __init__(self) -> None:
        self.clock = LeapingClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.time


@pytest.fixture(params=[LeapingAsyncio, LeapingHwloop], ids=["asyncio", "hwloop"])
def leap(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """As `run`, on a `LeapingClock` that begins at 1000 s: what takes an hour takes no time, and the same each time."""

    def leap(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main)

    return leap


@pytest.fixture
def leap_hwloop() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """As `leap`, for what only hwloop's loop has."""

    def leap(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LeapingHwloop) as runner:
            return runner.run(main)

    return leap


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], None]:
    """`in_child(check)` calls `check()` in a forked child; a failed assertion there fails the test.

    For what leaves traces in the interpreter: an exception of a trace function stays in `sys.exc_info()` for ever.
    """

    def in_child(check: Callable[[], object]) -> None:
        child = os.fork()
        if child == 0:  # nothing of pytest may run in here
            try:
                check()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, "see the captured stderr"

    return in_child


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a descriptor open or a thread running."""
    fds_before, threads_before = _open_fds(), set(threading.enumerate())
    yield
    threads = [thread for thread in threading.enumerate() if thread not in threads_before]
    for thread in threads:
        thread.join(2)
    alive = [thread.name for thread in threads if thread.is_alive()]
    assert not alive, f"threads left running: {alive}"
    if _opened_since(fds_before):
        gc.collect()  # what only a reference cycle keeps open is not left behind for good
        fds = _opened_since(fds_before)
        assert not fds, f"descriptors left open: {fds}"


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: target for fd, target in _open_fds().items() if before.get(fd) != target}


def _open_fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found
