"""The status line: figures of the program after its own text, in virtual time and over a real datagram socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import board, gpio, serial, service
from hwloop.service.status_line import _rounded

Heard = Callable[[], list[str]]
BOARD = {"device": [{"type": "gps", "port": "/dev/ttyAMA0", "interval": 0.5}]}


@pytest.fixture(autouse=True)
def no_watchdog(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages would fill the socket."""
    monkeypatch.delenv("WATCHDOG_USEC")


def lines(heard: Heard) -> list[str]:
    return [text.removeprefix("STATUS=") for text in heard() if text.startswith("STATUS=")]


def run(main: Callable[[SimBoard], Any]) -> None:
    """Run `main(board)` in virtual time, as a service."""

    async def supervised(simulated: SimBoard) -> None:
        with board.using(simulated):
            async with service.supervised():
                await main(simulated)

    clock = hwloop.VirtualClock()
    with (
        SimBoard(BOARD, clock=clock) as simulated,
        asyncio.Runner(loop_factory=lambda: hwloop.SimLoop(clock=clock)) as it,
    ):
        it.run(supervised(simulated))


async def edges(simulated: SimBoard, line: int, seconds: float, every: float) -> None:
    for number in range(round(seconds / every)):
        simulated.line(line).drive(number % 2)
        await asyncio.sleep(every)


def test_rates_and_lateness_are_shown_after_the_text_of_the_program_and_sent_if_they_change(heard: Heard) -> None:
    async def main(simulated: SimBoard) -> None:
        async with gpio.watch(17, pull="up") as door:
            door.on_edge(lambda edge: None)
            await edges(simulated, 17, 9, 0.1)
            assert lines(heard) == []  # it is too early
            await edges(simulated, 17, 31, 0.1)
            assert lines(heard) == ["1 source, 10 events/s, 99 % of timers within 0.001 ms"]
            service.status("door closed")
            assert lines(heard) == ["door closed | 1 source, 10 events/s, 99 % of timers within 0.001 ms"]
            await edges(simulated, 17, 30, 0.5)
            assert lines(heard)[-1] == "door closed | 1 source, 2 events/s, 99 % of timers within 0.001 ms"
        async with gpio.watch(5), gpio.watch(6):
            await asyncio.sleep(30)
            assert lines(heard)[-1].startswith("door closed | 2 sources, 0 events/s")
            await asyncio.sleep(60)
            assert lines(heard) == []

    run(main)


def test_the_line_has_losses_missed_deadlines_and_sources_that_are_away_or_overdue(heard: Heard) -> None:
    async def main(simulated: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        async with (
            gpio.watch(17, pull="up", queue_size=4) as door,
            serial.open("/dev/ttyAMA0", framing=serial.Lines(), reopen=hwloop.Backoff(3600, 1, 3600)) as gps,
        ):
            door.count_lost(2)
            service.critical(door, within=3)
            gps.add_callback(lambda line: None)
            await edges(simulated, 17, 10, 1)  # nobody takes them
            gps.fail(OSError("unplugged"))
            loop.call_deadline(1e-9, lambda: None)  # type: ignore[attr-defined]
            await asyncio.sleep(10)
            shown = lines(heard)[-1].split(", ")
        assert shown[0] == "2 sources"
        assert shown[3:] == ["2 lost", "6 dropped", "1 deadline missed", "away: /dev/ttyAMA0", "overdue: gpio:17"]

    run(main)


def test_statistics_that_raise_are_reported_once_and_the_other_sources_are_shown(heard: Heard, caplog: Any) -> None:
    class Broken(gpio.Watch):
        def statistics(self) -> Any:
            raise BaseException("own")

    async def main(simulated: SimBoard) -> None:
        async with Broken(17), gpio.watch(5):
            await asyncio.sleep(60)
        assert lines(heard)[0].startswith("1 source, 0 events/s")

    run(main)
    own = [record for record in caplog.records if "(reported once)" in record.getMessage()]
    assert len(own) == 1


def test_nothing_is_shown_when_the_service_stops_and_after_the_block(heard: Heard) -> None:
    async def main(simulated: SimBoard) -> None:
        service.stopping("draining")
        await asyncio.sleep(60)
        assert heard() == ["READY=1", "STATUS=draining", "STOPPING=1"]

    run(main)
    loop = hwloop.SimLoop()
    loop.run_until_complete(asyncio.sleep(60))
    loop.close()
    assert not [text for text in lines(heard) if text != "draining"]


def test_a_run_shows_one_line_although_the_program_is_supervised_too(heard: Heard, monkeypatch: Any) -> None:
    monkeypatch.setattr("hwloop.service.status_line.EVERY", 0.01)
    monkeypatch.setattr("hwloop.service.status_line.TOLERANCE", 0.0)
    collected = []
    real = __import__("hwloop.service.figures").service.figures.collect
    monkeypatch.setattr("hwloop.service.status_line.collect", lambda loop: collected.append(loop) or real(loop))

    async def main() -> None:
        async with service.supervised():
            while len(collected) < 3:
                await asyncio.sleep(0.001)
            assert len(collected) == 3

    hwloop.run(main())
    assert lines(heard)[0].startswith("0 sources, 0 events/s")


def test_a_line_that_did_not_reach_the_manager_is_sent_again(heard: Heard) -> None:
    async def main(simulated: SimBoard) -> None:
        while service.notify("X=1"):
            pass
        await asyncio.sleep(30)
        assert lines(heard) == []
        await asyncio.sleep(30)
        assert len(lines(heard)) == 1

    run(main)


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, "0"), (0.123, "0.12"), (9.96, "10"), (12.34, "12"), (1234, "1200"), (123456, "120000")]
)
def test_rates_are_rounded(rate: float, shown: str) -> None:
    assert _rounded(rate) == shown
