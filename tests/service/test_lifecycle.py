"""Start, readiness and stop of a service, as the service manager hears of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c, onewire, serial, service, spi
from hwloop.cli import main
from hwloop.service import lifecycle, messages

ROOT = Path(__file__).parents[2]
Heard = Callable[[], list[str]]

BOARD = {
    "pwm": [12, 13],
    "device": [
        {"type": "bme280"},
        {"type": "mcp3008"},
        {"type": "ds18b20"},
        {"type": "gps", "port": "/dev/ttyAMA0"},
    ],
}
KINDS: dict[str, Callable[[], Any]] = {
    "gpio": lambda: gpio.watch(17, pull="up"),
    "output": lambda: gpio.output(27, safe=0),
    "pwm": lambda: gpio.output(12, safe=0),
    "serial": lambda: serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()),
    "i2c": lambda: i2c.open(1),
    "spi": lambda: spi.open(0, 0),
    "onewire": lambda: onewire.open(),
}


def states(heard: Heard) -> list[str]:
    return [text for text in heard() if not text.startswith("WATCHDOG")]


# Readiness.


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_ready_once_the_sources_of_each_task_that_it_begins_with_are_open(heard, kind):
    """Also those that tasks of a group open, at any depth, in their first step."""
    said: list[str] = []

    async def use(make: Callable[[], Any], depth: int) -> None:
        if depth:
            async with asyncio.TaskGroup() as group:
                group.create_task(use(make, depth - 1))
            return
        async with make() as source:
            if kind == "pwm":
                source.pwm(0.5, 50)
            assert states(heard) == []
            while not said:
                await asyncio.sleep(0.002)
                said.extend(states(heard))

    with SimBoard(BOARD) as board:
        for depth in range(3):
            hwloop.run(use(KINDS[kind], depth), board=board)
            assert ([said.pop()], said, states(heard)) == (["READY=1"], [], []), depth


def test_a_source_that_can_not_be_opened_means_that_the_service_was_never_ready(heard):
    async def use(line: int) -> None:
        async with gpio.watch(line):
            await asyncio.sleep(1)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for line in (5, 99, 6):
                group.create_task(use(line))

    with pytest.raises(ExceptionGroup):
        hwloop.run(main(), board={})
    assert states(heard) == []


MANY = 100_000
"""So many tasks that they would take seconds."""


def test_tasks_that_begin_tasks_for_ever_do_not_hold_up_readiness(heard):
    begun = 0
    said: list[str] = []

    async def endless() -> None:
        nonlocal begun
        begun += 1
        first = begun == 1
        if not said and begun < MANY:
            hwloop.create_task(endless()).add_done_callback(kept.discard)
        while first and not said:
            await asyncio.sleep(0.002)
            said.extend(states(heard))

    kept: set[Any] = set()
    hwloop.run(endless())
    assert said == ["READY=1"]
    assert begun < MANY


def test_readiness_is_up_to_the_program_once_it_says_so(heard):
    async def main() -> None:
        service.starting(within=5)
        await asyncio.sleep(0.001)
        async with AsyncExitStack() as stack:
            for make in KINDS.values():
                await stack.enter_async_context(make())
            assert "READY=1" not in states(heard)
            service.ready()
            assert states(heard) == ["READY=1"]

    hwloop.run(main(), board=BOARD)


# The time of a start, by systemd's rule.


async def seconds_until_ready_or_timed_out(start: Any, heard: Heard, start_limit: float) -> tuple[float, bool]:
    """Follow a start as systemd does: it fails at TimeoutStartSec=, or later if messages extend that."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    limit = began + start_limit
    task = asyncio.ensure_future(start)
    try:
        while loop.time() < limit:
            for message in heard():
                if message == "READY=1":
                    return loop.time() - began, True
                name, _, value = message.partition("=")
                if name == "EXTEND_TIMEOUT_USEC":
                    limit = max(limit, loop.time() + int(value) / 1e6)
            await asyncio.sleep(0.01)
        return loop.time() - began, False
    finally:
        task.cancel()


def in_virtual_time(main: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: hwloop.SimLoop(seed=0)) as runner:
        return runner.run(main)


def test_a_start_may_take_longer_than_its_limit_while_it_makes_progress(heard):
    async def start() -> None:
        for percent in range(0, 100, 10):
            service.starting(f"warming up, {percent} %", within=5)
            await asyncio.sleep(4)
        service.ready()

    seconds, is_ready = in_virtual_time(seconds_until_ready_or_timed_out(start(), heard, 10))
    assert is_ready
    assert 40 <= seconds < 41


def test_a_start_that_makes_no_progress_times_out_within_the_time_of_its_last_step(heard):
    async def start() -> None:
        for percent in range(0, 50, 10):
            service.starting(f"warming up, {percent} %", within=5)
            await asyncio.sleep(4)
        await asyncio.Event().wait()  # the sensor does not answer
        service.ready()

    seconds, is_ready = in_virtual_time(seconds_until_ready_or_timed_out(start(), heard, 10))
    assert not is_ready
    assert 21 <= seconds < 21.1  # its last step began at 16 s, and had 5 s


# The end.


def test_stopping_is_reported_once_and_a_slow_stop_asks_for_more_time(heard):
    assert service.stopping("draining the tank", within=20)
    assert service.stopping("closing the valve", within=3)
    assert not service.stopping()
    lifecycle.ended()
    assert heard() == [
        "STATUS=draining the tank",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000",
        "STATUS=closing the valve",
        "EXTEND_TIMEOUT_USEC=3000000",
    ]
    with pytest.raises(ValueError, match="within must be from"):
        service.stopping(within=0)


def test_nothing_is_ready_after_stopping(heard):
    async def main() -> None:
        service.stopping()
        async with service.supervised():
            assert not service.ready("again")

    in_virtual_time(main())
    assert states(heard) == ["STOPPING=1"]


def test_a_reload_under_way_and_a_hangup_after_stopping_report_nothing(heard):
    reloads = []

    async def hook() -> None:
        reloads.append("begun")
        await asyncio.sleep(1)

    async def main() -> None:
        with service.reloadable(hook):
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0.5)
            service.stopping()
            await asyncio.sleep(1)
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(1)

    in_virtual_time(main())
    assert [text.partition("\n")[0] for text in states(heard)] == ["RELOADING=1", "STOPPING=1"]
    assert reloads == ["begun"]


def program(tmp_path: Path, source: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return str(path)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("WATCHDOG_PID", None)
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("ends", "status"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1), ("signal.raise_signal(2); await asyncio.sleep(9)", 130)],
)
def test_stopping_is_reported_once_whatever_ends_the_program(tmp_path, heard, ends, status, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    path = program(
        tmp_path,
        f"""
        import asyncio, signal
        from hwloop import service
        async def main():
            async with service.supervised():
                await asyncio.sleep(0.001)
                {ends}
        """,
    )
    assert main(["run", path, "--grace", "inf"]) == status
    assert set(said := states(heard)) == {"READY=1", "STOPPING=1"}
    assert said.count("STOPPING=1") == 1


@pytest.mark.parametrize("command", [[], ["-m", "hwloop", "run"]], ids=["python", "hwloop run"])
@pytest.mark.slow
def test_stopping_is_reported_by_the_process_and_not_by_a_child(tmp_path, heard, command):
    path = program(
        tmp_path,
        """
        import asyncio, os, sys, hwloop
        async def main():
            await asyncio.sleep(0.3)  # long enough for a loaded machine to find nothing else to run
            child = os.fork()
            if not child:
                sys.exit()
            os.waitpid(child, 0)
        hwloop.run(main())
        """,
    )
    done = start(*command, path)
    assert done.returncode == 0, done.stderr
    assert states(heard) == ["READY=1", "STOPPING=1"]


def test_a_manager_that_vanishes_meanwhile_does_not_keep_the_program_from_its_end(tmp_path, heard, caplog, monkeypatch):
    async def main() -> None:
        await asyncio.sleep(0.001)
        os.unlink(os.environ["NOTIFY_SOCKET"])
        async with service.supervised():
            await asyncio.sleep(0.001)

    monkeypatch.setattr(messages, "_undelivered", 0)
    hwloop.run(main())
    assert [record.getMessage().partition(": could")[2] for record in caplog.records] == [
        " not send READY=1: No such file or directory (reported once)"
    ]


def test_the_example_starts_in_steps_works_and_writes_the_rest_when_it_is_asked_to_stop(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("gps_logger", ROOT / "examples" / "gps_logger.py")
    assert spec is not None
    assert spec.loader is not None
    logger = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(logger)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATCHDOG_USEC")  # its messages would fill the socket
    (tmp_path / "gps_logger.json").write_text('{"sentence": "$GPGGA"}')
    said: list[str] = []

    async def main() -> None:
        service_task = asyncio.create_task(logger.main())
        for _ in range(20):
            await asyncio.sleep(1)
            said.extend(heard())
        service_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service_task
        said.extend(heard())

    hwloop.run(main(), board=ROOT / "examples" / "gps_logger.toml", clock="virtual")
    assert said[:2] == ["STATUS=waiting for the first sentence", "EXTEND_TIMEOUT_USEC=30000000"]
    assert said[2] == "READY=1"
    assert any(line.startswith("STATUS=9 positions written") for line in said)
    assert any(" | 1 source, " in line for line in said)
    assert sum("STOPPING=1" in line for line in said) == 1
    lines = (tmp_path / "positions.txt").read_text().splitlines()
    assert len(lines) >= 18
    assert all(line.startswith("$GPGGA") for line in lines)
