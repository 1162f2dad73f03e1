"""hwloop.gpio on the simulated board through gpiod, as HWLOOP_GPIO=gpiod selects it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio
from hwloop.board import EdgeRequest, OutputRequest
from hwloop.errors import HardwareError
from hwloop.sources.source import Backoff

pytest.importorskip("gpiod", reason="pip install gpiod")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimBoard]:
    """A board in virtual time, whose lines are reached through gpiod."""
    monkeypatch.setenv("HWLOOP_GPIO", "gpiod")
    with SimBoard(clock=hwloop.VirtualClock()) as board:
        yield board


def test_edges_come_from_the_kernels_buffer_with_their_times(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.watch([17, "GPIO0"], debounce=0.005, name="door") as watch:
            assert (board.line(17).consumer, board.line(0).consumer) == ("door", "door")
            start_ns = board.clock.now_ns()
            board.timeline.after(0.25, lambda: board.line(17).drive(1))
            edge = await anext(watch)
            assert (edge.line, edge.value, edge.timestamp_ns - start_ns) == (17, 1, 255_000_000)
            assert edge.received_ns == edge.timestamp_ns
        assert board.line(17).consumer is None

    hwloop.run(main(), board=board, clock=board.clock)


def test_events_that_the_buffer_did_not_keep_are_counted(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.watch(17) as watch:
            for place in range(1100):
                board.line(17).drive(1 - place % 2)
            edge = await anext(watch)
            assert (edge.value, edge.lost) == (1, 76)
            await asyncio.sleep(0)
            statistics = watch.statistics()
            assert (statistics.lost_kernel, statistics.merged, board.line(17).reports) == (76, 0, 1024)

    hwloop.run(main(), board=board, clock=board.clock)


def test_outputs_drive_and_keep_their_line(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(27, initial=1) as relay:
            assert (board.line(27).level, relay.value) == (1, 1)
            relay.set(0)
            assert board.line(27).level == 0
            relay.set(1)
        async with gpio.output(27, initial=None, safe=0) as kept:
            assert kept.value == 1
        assert board.line(27).level == 0

    hwloop.run(main(), board=board, clock=board.clock)


def test_an_open_drain_output_watches_its_line_while_it_is_released(board: SimBoard) -> None:
    output = board.open_output(OutputRequest(20, consumer="test", drive="open-drain", initial=0))
    stream = output.watch(lambda: None)
    output.set(1)
    board.line(20).drive(1)
    board.line(20).drive(0)
    assert [edge.value for edge in stream.read()] == [1, 0]
    output.set(0)
    stream.close()
    output.close()


def test_a_chip_that_vanishes_fails_and_comes_back(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.watch(17, reopen=Backoff(0.01)) as patient, gpio.watch(18) as watch:
            board.faults.inject("chip-vanishes", duration=0.5)
            with pytest.raises(HardwareError, match=r"line 18: /dev/gpiochip0 \(pinctrl-bcm2711\) is gone"):
                await anext(watch)
            await asyncio.sleep(1)
            board.line(17).drive(1)
            assert (await anext(patient)).value == 1

    hwloop.run(main(), board=board, clock=board.clock)


def test_a_line_that_a_script_holds_is_busy_by_its_name(board: SimBoard) -> None:
    board.line(17).claim("gpiomon")
    with pytest.raises(HardwareError, match=r"line 17: in use by another process \(which calls itself 'gpiomon'\)"):
        board.open_edges(EdgeRequest([17], consumer="test"))


@pytest.mark.parametrize("chip", ["pinctrl-bcm2711", "/dev/gpiochip0"])
def test_the_chip_has_the_label_and_the_path_of_the_pis(board: SimBoard, chip: str) -> None:
    board.open_edges(EdgeRequest([17], consumer="test", chip=chip)).close()
    with pytest.raises(HardwareError, match=r"chip 'pinctrl-rp1': no such chip on the simulated board; its chip is"):
        board.open_edges(EdgeRequest([17], consumer="test", chip="pinctrl-rp1"))
    with SimBoard({"revision": "c04170"}) as pi5:
        assert pi5.chip.label == "pinctrl-rp1"


def test_without_the_package_the_error_says_how_to_get_it(board: SimBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(HardwareError, match=r"import gpiod \(HWLOOP_GPIO\): No module named 'gpiod': .* pip install"):
        board.open_edges(EdgeRequest([17], consumer="test"))
