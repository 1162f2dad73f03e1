"""pytest-asyncio, anyio's pytest plugin and looptime, unchanged: each runs a small suite of its own on the loop."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import hwloop

ROOT = Path(__file__).parents[2]

ON_HWLOOP = """
import asyncio, pytest, hwloop

def pytest_asyncio_loop_factories(config, item):
    return {"hwloop": hwloop.EventLoop}
"""


def suite(directory: Path, tests: str, *, conftest: str = "", needs: tuple[str, ...]) -> str:
    """Run tests in a process of their own, with the plugins that are installed; the last line that pytest prints."""
    for module in needs:
        if find_spec(module) is None:
            pytest.skip(f"pip install {module.replace('_', '-')}")
    (directory / "conftest.py").write_text(conftest)
    (directory / "test_suite.py").write_text("import asyncio, threading, time, pytest, hwloop\n" + tests)
    (directory / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\n"
        + ("asyncio_default_fixture_loop_scope = function\n" if find_spec("pytest_asyncio") else "")
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--rootdir",
        str(directory),
    ]
    if "looptime" not in needs:
        command += ["-p", "no:looptime_plugin"]  # which makes every loop of pytest-asyncio another
    ended = subprocess.run(
        [*command, str(directory)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=directory,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip().splitlines()[-1]


def test_pytest_asyncio_runs_tests_and_fixtures_on_the_loop(tmp_path: Path) -> None:
    tests = """
import pytest_asyncio

@pytest_asyncio.fixture
async def ticks():
    queue = asyncio.Queue()
    async def tick():
        async for each in hwloop.every(0.001):
            queue.put_nowait(each)
    task = hwloop.create_task(tick(), priority=hwloop.Priority.HIGH)
    yield queue
    task.cancel()

@pytest.mark.asyncio
async def test_a_fixture_lives_on_the_same_loop(ticks):
    assert type(asyncio.get_running_loop()) is hwloop.EventLoop
    assert (await ticks.get()).scheduled < (await ticks.get()).scheduled

@pytest.mark.asyncio
async def test_threads_and_subprocesses():
    assert await asyncio.to_thread(lambda: 5) == 5
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0

@pytest.mark.asyncio(loop_scope="module")
async def test_a_loop_for_the_module():
    globals()["loop"] = asyncio.get_running_loop()

@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_loop_again():
    assert globals()["loop"] is asyncio.get_running_loop()
"""
    assert suite(tmp_path, tests, conftest=ON_HWLOOP, needs=("pytest_asyncio",)).startswith("4 passed")


def test_pytest_asyncio_runs_tests_in_virtual_time(tmp_path: Path) -> None:
    tests = """
@pytest.mark.asyncio
async def test_a_day_passes_at_once():
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(86400)
    assert loop.time() == began + 86400

@pytest.mark.asyncio
async def test_time_begins_anew():
    assert asyncio.get_running_loop().time() == 1
"""
    conftest = ON_HWLOOP.replace("hwloop.EventLoop", "hwloop.SimLoop")
    assert suite(tmp_path, tests, conftest=conftest, needs=("pytest_asyncio",)).startswith("2 passed")


def test_anyios_plugin_runs_tests_and_fixtures_on_the_loop(tmp_path: Path) -> None:
    tests = """
import anyio

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": hwloop.EventLoop}

@pytest.fixture
async def stream():
    send, receive = anyio.create_memory_object_stream(1)
    async with send, receive:
        yield send, receive

@pytest.mark.anyio
async def test_a_fixture_lives_on_the_same_loop(stream):
    assert type(asyncio.get_running_loop()) is hwloop.EventLoop
    send, receive = stream
    async with anyio.create_task_group() as group:
        group.start_soon(send.send, 5)
        assert await receive.receive() == 5

@pytest.mark.anyio
async def test_cancel_scopes_and_threads():
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await anyio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
"""
    assert suite(tmp_path, tests, needs=("anyio",)).startswith("2 passed")


def test_looptime_makes_the_loops_time_virtual(tmp_path: Path) -> None:
    tests = """
@pytest.mark.asyncio
@pytest.mark.looptime(start=100)
async def test_an_hour_passes_at_once():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, hwloop.EventLoop)
    assert loop.time() == 100
    await asyncio.sleep(3600)
    assert loop.time() == 3700

@pytest.mark.asyncio
@pytest.mark.looptime
async def test_timeouts_and_ticks():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.Event().wait()
    ticks = hwloop.every(1)
    lateness = [(await anext(ticks)).lateness for _ in range(5)]
    assert max(lateness) < 1e-5

@pytest.mark.asyncio
async def test_without_its_mark_time_is_real():
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.002)
    assert asyncio.get_running_loop().time() >= began + 0.002
"""
    assert suite(tmp_path, tests, conftest=ON_HWLOOP, needs=("pytest_asyncio", "looptime")).startswith("3 passed")


def test_a_loop_taken_over_by_looptime_releases_its_alarm() -> None:
    """As looptime does to an existing loop: give it another class, with another time."""

    class Other(hwloop.EventLoop):
        def time(self) -> float:
            return 5.0

    loop = hwloop.EventLoop()
    loop.__class__ = Other
    loop.call_soon(loop.stop)
    loop.run_forever()
    try:
        assert loop.call_later(1, int).when() == 6.0
    finally:
        loop.close()
