"""Critical sources and tasks, a slow start, and reloading, in virtual time and over a real datagram socket."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import board, gpio, service
from hwloop.service import lifecycle

Heard = Callable[[], list[str]]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=lambda: hwloop.SimLoop(seed=0)) as runner:
        return runner.run(main)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "hwloop.service"]


async def is_fed(heard: Heard, seconds: float) -> bool:
    """Return whether the watchdog is fed in each tenth of the next `seconds`."""
    heard()
    fed = 0
    for _ in range(round(seconds * 10)):
        await asyncio.sleep(0.1)
        fed += "WATCHDOG=1" in heard()
    assert fed in (0, round(seconds * 10))
    return bool(fed)


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()


# Tasks.


def test_a_critical_task_that_waits_too_long_ends_the_feeding_until_it_goes_on(heard, caplog):
    async def main() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(wait_for(event), name="pump")
        async with service.supervised():
            with service.critical(task, within=1):
                assert await is_fed(heard, 0.9)
                await asyncio.sleep(0.7)
                assert not await is_fed(heard, 1)
                assert reports(caplog) == [
                    "task pump has made no progress for 1.1 s, and has to make some within 1 s: the watchdog is not fed"
                ]
            assert await is_fed(heard, 1)  # no longer critical
            event.set()
            await task

    run(main())


def test_a_task_that_works_in_steps_makes_progress_and_so_does_one_whose_child_does(heard, caplog):
    async def steps(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0.4)

    async def parent(count: int) -> None:
        await asyncio.create_task(steps(count))

    async def gathers(count: int) -> None:
        await asyncio.gather(asyncio.Event().wait(), steps(count))

    async def main() -> None:
        async with service.supervised():
            for work in (steps, parent, gathers):
                task = asyncio.create_task(work(10), name="worker")
                with service.critical(task, within=0.5):
                    assert await is_fed(heard, 3.9)
                    await asyncio.sleep(1.5)
                    assert not await is_fed(heard, 1), work  # it has ended, or waits for ever
                task.cancel()

    run(main())
    assert len(reports(caplog)) == 3


def test_a_task_that_recovers_is_reported_and_fed_again(heard, caplog):
    async def slow(gap: float) -> None:
        await asyncio.sleep(gap)
        while True:
            await asyncio.sleep(0.1)

    async def main() -> None:
        task = asyncio.create_task(slow(2), name="slow")
        async with service.supervised():
            with service.critical(task, within=0.5):
                await asyncio.sleep(1)
                assert not await is_fed(heard, 0.5)
                await asyncio.sleep(1)
                assert await is_fed(heard, 1)
        task.cancel()

    run(main())
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert reports(caplog)[1] == "task slow makes progress again: the watchdog is fed"


# Sources, and checking in.


def test_a_critical_source_must_deliver_events(heard, caplog):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with SimBoard(clock=loop.clock) as simulated, board.using(simulated):
            async with gpio.watch(17, pull="up") as door, service.supervised():

                async def follow() -> None:
                    async for _ in door:
                        pass

                follower = asyncio.create_task(follow())
                with service.critical(door, within=1):
                    for level in (0, 1, 0, 1):
                        simulated.line(17).drive(level)
                        assert await is_fed(heard, 0.8)
                    await asyncio.sleep(1.2)
                    assert not await is_fed(heard, 1)
                    simulated.line(17).drive(0)  # the line is alive, and the program takes the edge
                    await asyncio.sleep(0.5)
                    assert await is_fed(heard, 0.4)
                    follower.cancel()
                    for level in (1, 0, 1, 0):  # edges come, and nobody takes them
                        simulated.line(17).drive(level)
                        await asyncio.sleep(0.5)
                    assert not await is_fed(heard, 0.5)

    run(main())
    assert [text.partition(" has")[0].partition(" makes")[0] for text in reports(caplog)] == ["gpio:17"] * 3


def test_a_program_can_check_in_by_itself(heard, caplog):
    async def main() -> None:
        async with service.supervised():
            with service.critical(within=1, name="the plan") as alive:
                for _ in range(5):
                    assert await is_fed(heard, 0.8)
                    alive.check_in()
                await asyncio.sleep(1.5)
                assert not await is_fed(heard, 1)
            alive.end()  # again

    run(main())
    assert reports(caplog)[0].startswith("the plan has made no progress for")


def test_a_bound_shorter_than_the_watchdogs_is_kept(heard, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")

    async def main() -> None:
        task = asyncio.create_task(wait_for(asyncio.Event()))
        service.critical(task, within=0.2)
        async with service.supervised():
            await asyncio.sleep(0.5)
            heard()
            await asyncio.sleep(60)
            assert "WATCHDOG=1" not in heard()
        task.cancel()

    run(main())


def test_a_watchdog_of_200_ms_is_fed_at_least_twice_in_its_time_while_the_loop_and_what_is_critical_work(
    heard, monkeypatch
):
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    feeds: list[float] = []

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        while True:
            feeds.extend(loop.time() for text in heard() if text == "WATCHDOG=1")
            await asyncio.sleep(0.001)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with SimBoard(clock=loop.clock) as simulated, board.using(simulated):
            async with gpio.watch(17, pull="up") as door, service.supervised():
                edges: list[Any] = []
                door.on_edge(edges.append)
                listener = asyncio.create_task(listen())
                with service.critical(door, within=0.1), service.critical(asyncio.current_task(), within=0.05):
                    for number in range(1000):
                        simulated.line(17).drive(number % 2)
                        await asyncio.sleep(0.002)
                    assert len(edges) >= 999
                    assert max(later - earlier for earlier, later in itertools.pairwise(feeds)) <= 0.1
                    assert loop.time() - feeds[-1] <= 0.1
                    await asyncio.sleep(0.4)  # both stand still
                    assert loop.time() - feeds[-1] >= 0.2
                listener.cancel()

    run(main())


def test_a_watchdog_heeds_only_the_critical_tasks_of_its_own_loop(heard):
    async def elsewhere() -> None:
        service.critical(within=0.001)

    async def main() -> None:
        async with service.supervised():
            assert await is_fed(heard, 1)

    other = hwloop.new_event_loop()
    other.run_until_complete(elsewhere())
    time.sleep(0.005)  # its time is real
    run(main())
    other.close()
    run(main())


def test_statistics_that_raise_are_no_progress_reported_once_and_feed_others_again(heard, caplog):
    class Broken:
        def __init__(self) -> None:
            self.count = 0

        def statistics(self) -> Any:
            self.count += 1
            if self.count > 2:
                raise OSError("gone")
            return type("Statistics", (), {"delivered": self.count, "name": "own"})()

    async def main() -> None:
        async with service.supervised():
            with service.critical(Broken(), within=0.5):
                await asyncio.sleep(1)
                assert not await is_fed(heard, 1)
            assert await is_fed(heard, 1)

    run(main())
    assert reports(caplog)[0] == "own: its statistics can't be read: gone (reported once)"
    assert len(reports(caplog)) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("gps", 1), TypeError, "a source, a task, or None, not 'gps'"),
        ((None, 0), ValueError, "within must be from 0.001"),
        ((None, float("nan")), ValueError, "within"),
        ((None, "1"), TypeError, "within must be a number"),
    ],
)
def test_wrong_arguments_are_errors_at_once(arguments, error, message):
    async def main() -> None:
        with pytest.raises(error, match=message):
            service.critical(arguments[0], within=arguments[1])

    run(main())


# The start.


def test_a_slow_start_asks_for_more_time_and_reports_itself_when_it_is_ready(heard):
    async def main() -> None:
        for step in range(3):
            service.starting(f"warming up, step {step}", within=5)
            await asyncio.sleep(2)
        service.ready("warm")

    run(main())
    said = heard()
    assert said == [
        *(each for step in range(3) for each in (f"STATUS=warming up, step {step}", "EXTEND_TIMEOUT_USEC=5000000")),
        "STATUS=warm",
        "READY=1",
    ]


def test_a_run_does_not_report_ready_for_a_program_that_does_so_itself(heard):
    async def main(early: bool) -> None:
        if early:
            service.starting(within=5)
        said: list[str] = []
        heard_first.append(said)
        while not early and "READY=1" not in said:
            await asyncio.sleep(0.002)
            said.extend(heard())
        await asyncio.sleep(0.02)
        said.extend(heard())
        service.ready()

    heard_first: list[list[str]] = []
    with SimBoard() as simulated:
        for early in (False, True):
            hwloop.run(main(early), board=simulated)
            heard()
    assert "READY=1" in heard_first[0]
    assert "READY=1" not in heard_first[1]
    assert "EXTEND_TIMEOUT_USEC=5000000" in heard_first[1]


def test_the_time_of_a_step_is_checked(heard):
    for wrong in (0, -1, float("inf"), 1e6):
        with pytest.raises(ValueError, match=r"within must be from 0\.001 to 86400"):
            service.starting(within=wrong)
    assert heard() == []
    assert not lifecycle.is_held()


# Reloading.


def send_hangup() -> None:
    signal.raise_signal(signal.SIGHUP)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0.01)


def states(heard: Heard) -> list[str]:
    return [text.partition("\n")[0] for text in heard() if not text.startswith("WATCHDOG")]


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_hangup_reloads_and_systemd_sees_when_it_begins_and_ends(heard, kind):
    calls: list[str] = []

    async def hook_as_coroutine() -> None:
        await asyncio.sleep(0.01)
        calls.append("reload")

    async def main() -> None:
        before = signal.getsignal(signal.SIGHUP)
        with service.reloadable(hook_as_coroutine if kind != "function" else lambda: calls.append("reload")):
            send_hangup()
            await settled()
            send_hangup()
            await settled()
        assert signal.getsignal(signal.SIGHUP) is before

    run(main())
    assert calls == ["reload", "reload"]
    assert states(heard) == ["RELOADING=1", "READY=1"] * 2


def test_hangups_during_a_reload_cause_one_more(heard):
    calls: list[str] = []

    async def hook() -> None:
        calls.append("reload")
        await asyncio.sleep(0.05)

    async def main() -> None:
        with service.reloadable(hook):
            for _ in range(4):
                send_hangup()
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)

    run(main())
    assert calls == ["reload"] * 2
    assert states(heard) == ["RELOADING=1", "READY=1"] * 2


@pytest.mark.parametrize("error", [ValueError("no such key"), asyncio.CancelledError(), BaseException("own")])
def test_a_hook_that_raises_is_reported_and_the_service_goes_on(heard, caplog, error):
    failing = [error]

    def hook() -> None:
        if failing:
            raise failing.pop()

    async def main() -> None:
        with service.reloadable(hook):
            send_hangup()
            await settled()
            send_hangup()
            await settled()

    run(main())
    assert reports(caplog)[0].startswith("reloading failed: ")
    said = states(heard)
    assert [each for each in said if not each.startswith("STATUS=")] == ["RELOADING=1", "READY=1"] * 2
    assert any(each.startswith("STATUS=reloading failed: ") for each in said)


def test_a_reload_under_way_ends_with_the_block(heard):
    async def main() -> None:
        cancelled = []

        async def hook() -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with service.reloadable(hook):
            send_hangup()
            await settled()
        await settled()
        assert cancelled == [True]

    run(main())


def test_reloadable_checks_its_hook_and_its_thread():
    async def main() -> None:
        with pytest.raises(TypeError, match="a function without parameters"), service.reloadable("reload"):  # type: ignore[arg-type]
            pass

    async def in_a_thread() -> None:
        with pytest.raises(RuntimeError, match="main thread"), service.reloadable(print):
            pass

    run(main())
    thread = threading.Thread(target=lambda: run(in_a_thread()))
    thread.start()
    thread.join()
