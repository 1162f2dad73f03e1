"""The grace of a run: its end in stated steps, and within a bound."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from hwloop import gpio
from hwloop.cli import main
from hwloop.service import grace as graces

ROOT = Path(__file__).parents[2]
Write = Callable[[str], str]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert not gpio.outputs()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delenv("HWLOOP_GRACE", raising=False)

    def write(source: str) -> str:
        path = tmp_path / "pump.py"
        path.write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        return str(path)

    return write


HEAD = """\
import asyncio, signal, time, hwloop
from hwloop import gpio, service
async def stubborn():
    while True:
        try:
            await asyncio.sleep(100)  # here
        except asyncio.CancelledError:
            pass
def soon(number=signal.SIGTERM, after=0.001):
    asyncio.get_running_loop().call_later(after, signal.raise_signal, number)
"""


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert not [record for record in caplog.records if record.name == "asyncio"]
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


async def ignores_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass


def line_of(function: Any, offset: int) -> str:
    return f"test_grace.py:{function.__code__.co_firstlineno + offset} in {function.__qualname__}"


# Runs whose main coroutine has ended, in virtual time.


def in_virtual_time(main: Any, grace: float | None) -> tuple[Any, float]:
    """Return the outcome of a run, and the virtual seconds for which it went on after main."""
    clock = hwloop.VirtualClock()
    ended = 0.0

    async def timed() -> Any:
        nonlocal ended
        try:
            return await main
        finally:
            ended = clock.seconds

    try:
        outcome = hwloop.run(timed(), board={}, clock=clock, grace=grace)
    except LookupError as error:
        outcome = error
    return outcome, round(clock.seconds - ended, 6)


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_does_not_end_is_named_with_its_line_and_the_run_ends_as_main_did(caplog, fails):
    left: list[str] = []

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(3)
            left.append("cleaned up")

    async def waits_in_its_cleanup() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            try:
                await asyncio.sleep(1000)
            finally:
                left.append("last turn")

    async def main() -> str:
        gpio.output(27, initial=1, safe=0).open()
        for work in (ignores_cancellation, cleans_up, waits_in_its_cleanup):
            kept.add(asyncio.create_task(work(), name="pump" if work is ignores_cancellation else None))
        await asyncio.sleep(1)
        if fails:
            raise LookupError("main")
        return "result"

    kept: set[Any] = set()
    outcome, lasted = in_virtual_time(main(), grace=5)
    assert lasted == 5
    assert isinstance(outcome, LookupError) if fails else outcome == "result"
    assert left == ["cleaned up", "last turn"]
    [report] = reports(caplog)
    assert report.startswith(
        "the program has not ended within 5 s after its main coroutine ended: task pump waiting at "
    )
    assert f"task pump waiting at {line_of(ignores_cancellation, 3)}, " in report
    assert f"waits_in_its_cleanup waiting at {line_of(waits_in_its_cleanup, 5)}; " in report
    assert "cleans_up" not in report.replace("waits_in_its_cleanup", "")


def test_many_tasks_are_counted(caplog):
    async def main() -> None:
        kept.extend(asyncio.create_task(ignores_cancellation(), name=f"number {n:03}") for n in range(100))
        await asyncio.sleep(1)

    kept: list[Any] = []
    in_virtual_time(main(), grace=1)
    [report] = reports(caplog)
    assert report.count("task number") == 10
    assert ", 90 others; " in report


def test_a_run_that_ends_in_time_reports_nothing(caplog):
    async def cleans_up() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(4)

    async def main() -> int:
        kept.append(asyncio.create_task(cleans_up()))
        await asyncio.sleep(1)
        return 7

    kept: list[Any] = []
    assert in_virtual_time(main(), grace=5) == (7, 4)
    assert in_virtual_time(asyncio.sleep(1), grace=0) == (None, 0)
    assert not caplog.records


def test_threads_of_the_executor_and_runs_in_other_threads_are_bounded_too(caplog):
    released = threading.Event()

    async def main() -> str:
        kept.append(asyncio.get_running_loop().run_in_executor(None, released.wait))
        await asyncio.sleep(0.001)
        return "result"

    kept: list[Any] = []
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(hwloop.run(main(), grace=0.01)))
    thread.start()
    thread.join(20)
    results.append(hwloop.run(main(), grace=0.01))
    released.set()
    assert results == ["result", "result"]
    assert all("thread asyncio_0 at threading.py:" in report for report in reports(caplog))
    assert len(reports(caplog)) == 2


# Signals, in a program of `python`.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_main_and_comes_out_of_the_run(number, caplog):
    async def main() -> None:
        relay = gpio.output(27, initial=1, safe=0).open()
        asyncio.get_running_loop().call_later(0.001, signal.raise_signal, number)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            left.append(relay.value)

    left: list[int] = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        hwloop.run(main(), board={}, grace=30)
    assert left == [1]
    assert signal.getsignal(number) is before
    assert not caplog.records


@pytest.mark.parametrize("twice", [False, True])
def test_a_main_that_ignores_the_signal_is_left_after_its_grace_or_at_a_second_signal(twice, caplog):
    async def main() -> None:
        asyncio.get_running_loop().call_later(0.001, signal.raise_signal, signal.SIGTERM)
        if twice:
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
        await ignores_cancellation()

    with pytest.raises(KeyboardInterrupt):
        hwloop.run(main(), grace=60 if twice else 0.01)
    said = [report.partition(" waiting at")[0] for report in reports(caplog)]
    assert said == ([] if twice else ["the program has not ended within 0.01 s after SIGTERM: task main"])


def test_a_main_that_takes_the_cancellation_and_returns_has_ended_well(caplog):
    async def main() -> str:
        asyncio.get_running_loop().call_later(0.001, signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "well"
        return ""

    assert hwloop.run(main(), grace=30) == "well"


# Under `hwloop run`.


ENDINGS = {
    "main": ("async def main():\n    soon()\n    await stubborn()", "task main waiting", "stubborn"),
    "task": (
        "async def main():\n    task = asyncio.create_task(stubborn(), name='drain')\n    soon()\n"
        "    await asyncio.sleep(9)",
        "task drain waiting",
        "stubborn",
    ),
    "blocked loop": (
        "def measure():\n    signal.raise_signal(15)\n    time.sleep(60)  # here\n"
        "async def main():\n    await asyncio.sleep(0.001)\n    measure()",
        "the loop is blocked",
        "measure",
    ),
    "start-up": (
        "try:\n    signal.raise_signal(15)\nfinally:\n    time.sleep(60)  # here",
        "the loop is blocked",
        "<module>",
    ),
    "reload": (
        "async def hook():\n    signal.raise_signal(15)\n    await stubborn()\nasync def main():\n"
        "    with service.reloadable(hook):\n        soon(signal.SIGHUP)\n        await asyncio.sleep(60)",
        "task reload waiting",
        "stubborn",
    ),
}


@pytest.mark.parametrize(("source", "left", "function"), ENDINGS.values(), ids=ENDINGS)
def test_after_a_signal_what_does_not_end_is_named_and_left(
    write, caplog, monkeypatch, tmp_path, source, left, function
):
    run = "\nasyncio.run(main())" if "main" in source else ""
    path = write(f"relay = gpio.output(27, initial=1, safe=0).open()\n{source}{run}\n")
    lines = Path(path).read_text().splitlines()
    marked = [number for number, line in enumerate(lines, 1) if line.endswith("# here")][-1]
    grace = "0.02"
    if "blocked" in left:
        monkeypatch.setattr(graces, "BLOCKED_AFTER", 0.2)  # it has come to its line by then
    assert main(["run", path, "--board", "sim", "--grace", grace, "--trace", str(tmp_path / "trace.csv")]) == 143
    [report] = reports(caplog)
    assert report.partition(": ")[0] == f"the program has not ended within {grace} s after SIGTERM"
    assert f"{left} at pump.py:{marked} in {function}" in report
    rows = [row.split(",") for row in (tmp_path / "trace.csv").read_text().splitlines()]
    assert [row[4] for row in rows if row[1:3] == ["line", "27"]] == ["1", "0"]


def test_the_end_of_main_is_bounded_too_and_the_status_is_its_own(write, caplog):
    path = write("""
        async def main():
            task = asyncio.create_task(stubborn(), name='drain')
            await asyncio.sleep(0.001)
            raise SystemExit(4)
        asyncio.run(main())
        """)
    assert main(["run", path, "--grace", "0.02"]) == 4
    [report] = reports(caplog)
    assert report.startswith("the program has not ended within 0.02 s after its main coroutine ended: task drain ")


def test_a_program_that_catches_everything_ends_in_any_case(write):
    path = write("""
        from hwloop.service import grace
        grace.BLOCKED_AFTER = grace.AGAIN_AFTER = 0.01
        gpio.output(27, safe=0).open()
        asked = False
        while True:
            try:
                if not asked:
                    asked = True
                    signal.raise_signal(signal.SIGTERM)
                time.sleep(60)
            except BaseException:
                pass
        """)
    done = subprocess.run(
        [sys.executable, "-m", "hwloop", "run", path, "--board", "sim", "--grace", "0.01"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert done.stderr.count("the program has not ended within 0.01 s after SIGTERM") == 1


def test_the_programs_own_grace_comes_before_that_of_the_command_line(write, caplog):
    path = write("""
        async def main():
            soon()
            await stubborn()
        hwloop.run(main(), grace=0.02)
        """)
    assert main(["run", path, "--grace", "60"]) == 143
    assert reports(caplog)[0].startswith("the program has not ended within 0.02 s after SIGTERM: ")


def test_a_run_after_one_that_a_signal_ended_has_its_own_end(write, caplog):
    path = write("""
        async def ended():
            soon(signal.SIGHUP)
            await asyncio.sleep(60)
        async def main():
            await asyncio.sleep(100)
        try:
            asyncio.run(ended())
        except KeyboardInterrupt:
            pass
        asyncio.run(main())
        """)
    assert main(["run", path, "--clock", "virtual", "--grace", "5"]) == 0
    assert not caplog.records


def test_the_alarm_for_a_program_that_goes_on_after_a_signal_does_not_end_its_next_run(write, caplog, monkeypatch):
    monkeypatch.setattr(graces, "BLOCKED_AFTER", -59.5)  # half a second after the signal
    path = write("""
        async def ended():
            soon(signal.SIGHUP)
            await asyncio.sleep(60)
        try:
            asyncio.run(ended())
        except KeyboardInterrupt:
            pass
        asyncio.run(asyncio.sleep(0.6))
        """)
    assert main(["run", path, "--grace", "60"]) == 0
    assert not caplog.records


# The choice of a grace.


@pytest.mark.parametrize(
    ("environment", "grace", "chosen"),
    [
        ({}, None, None),
        ({"NOTIFY_SOCKET": "/nowhere"}, None, 5),
        ({"NOTIFY_SOCKET": "/nowhere", "HWLOOP_GRACE": "20"}, None, 20),
        ({"HWLOOP_GRACE": "inf", "NOTIFY_SOCKET": "/nowhere"}, None, None),
        ({"HWLOOP_GRACE": "20"}, 0, 0),
        ({"HWLOOP_GRACE": "20"}, float("inf"), None),
    ],
)
def test_the_grace_is_the_given_one_or_that_of_the_environment_or_of_a_service(monkeypatch, environment, grace, chosen):
    for name in ("NOTIFY_SOCKET", "HWLOOP_GRACE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert graces.chosen_grace(grace) == chosen


@pytest.mark.parametrize("wrong", ["", "-1", "x", "nan", "1e6"])
def test_a_malformed_grace_is_a_wrong_call(write, capsys, monkeypatch, wrong):
    path = write("async def main(): pass")
    assert main(["run", path, f"--grace={wrong}"]) == 2
    assert "a grace is a number of seconds, from 0 to a day, or inf" in capsys.readouterr().err
    monkeypatch.setenv("HWLOOP_GRACE", wrong)
    assert main(["run", path]) == (2 if wrong else 0)
    assert ("HWLOOP_GRACE must be a number of seconds" in capsys.readouterr().err) == bool(wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan"), "5", True])
def test_run_checks_its_grace(wrong):
    with pytest.raises((ValueError, TypeError), match="grace in seconds"):
        hwloop.run(asyncio.sleep(0), grace=wrong)
