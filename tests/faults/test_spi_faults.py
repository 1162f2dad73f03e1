"""Faults of SPI transfers, seen by the bus and by `hwloop.spi`."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.errors import FaultError
from firmware_sim.spi import Segment
from firmware_sim.spi_device import SpiDevice
from firmware_sim.trace import Trace
from hwloop import spi
from hwloop.trace_events import SpiTransfer


class Echo(SpiDevice):
    def __init__(self) -> None:
        self.resets = 0

    def transfer(self, sent: bytes) -> bytes:
        return sent

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def board() -> Iterator[SimBoard]:
    adc = {"type": "mcp3008", "name": "adc", "bus": 1, "select": 2, "inputs": [1.65]}
    with SimBoard({"device": [adc]}, clock=hwloop.VirtualClock(), tracer=Trace()) as board:
        for select in (0, 1):
            board.spi(0).attach(select, Echo())
        yield board


def read(board: SimBoard, sent: bytes = b"\x01\x80\x00", bus: int = 0, select: int = 0) -> bytes:
    return board.spi(bus).transfer(select, [Segment(sent, 1_000_000)])[0]


def test_an_absent_device_reads_as_the_pull_until_the_fault_ends(board: SimBoard) -> None:
    with board.faults.inject("spi-absent", select=0) as injection:
        assert read(board) == b"\0\0\0"
        board.spi(0).pull = "up"
        assert read(board) == b"\xff\xff\xff"
        assert read(board, select=1) == b"\x01\x80\x00"
        assert injection.target == "spi 0.0"
    assert read(board) == b"\x01\x80\x00"
    assert injection.hits == 2


def test_a_device_is_found_by_its_name(board: SimBoard) -> None:
    assert read(board, bus=1, select=2) == b"\0\x02\0"
    with board.faults.inject("spi-absent", select="adc") as injection:
        assert read(board, bus=1, select=2) == b"\0\0\0"
        assert injection.target == "spi 1.2"


@pytest.mark.parametrize(("answer", "found"), [("ones", b"\xff\xff"), ("zeros", b"\0\0"), ("stale", b"\x01\x02")])
def test_wrong_answers_are_read_without_an_error(board: SimBoard, answer: str, found: bytes) -> None:
    injection = board.faults.inject("spi-wrong-answer", select=0, answer=answer)
    read(board, b"\x01\x02")
    assert read(board, b"\x05\x06") == found
    assert injection.hits == 2
    injection.end()
    assert read(board, b"\x05\x06") == b"\x05\x06"


def test_one_bit_of_a_wrong_answer_is_flipped(board: SimBoard) -> None:
    board.faults.inject("spi-wrong-answer")
    for _ in range(10):
        answer = read(board, b"\x05\x06\x07")
        assert (int.from_bytes(answer) ^ 0x050607).bit_count() == 1


def test_a_controller_that_fails_raises_the_kernels_error(board: SimBoard) -> None:
    with board.faults.inject("spi-timeout"), pytest.raises(OSError, match=rf"\[Errno {errno.ETIMEDOUT}\]"):
        read(board)
    assert read(board) == b"\x01\x80\x00"
    assert isinstance(board.tracer, Trace)
    assert [event.error for event in board.tracer.of(SpiTransfer)] == ["ETIMEDOUT", ""]


def test_a_program_stops_waiting_for_a_controller_that_hangs(board: SimBoard) -> None:
    async def main() -> None:
        async with spi.open(0, 0, timeout=0.5) as device:
            board.faults.inject("spi-hang", duration=2)
            with pytest.raises(spi.BusTimeoutError, match=r"no answer within 0\.5 s"):
                await device.transfer(b"\x01")
            assert await device.run(lambda spidev: list(spidev.xfer2([5])), timeout=5) == [5]
            assert device.statistics().lost == 1

    hwloop.run(main(), board=board, clock=board.clock)


def test_a_device_reset_concerns_one_device_or_all(board: SimBoard) -> None:
    board.faults.inject("spi-device-reset", select=0)
    board.faults.inject("spi-device-reset")
    assert [device.resets for device in board.spi(0).devices() if isinstance(device, Echo)] == [2, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bus": 4}, "fault spi-absent: no SPI bus 4 on the board; there are: 0, 1"),
        ({"bus": 1, "select": 0}, "fault spi-absent: no device at select 0 of SPI bus 1; there are: 2"),
        ({"select": "dac"}, "fault spi-absent: no device 'dac' on simulated board; there are: adc"),
    ],
)
def test_a_target_that_the_board_lacks_is_named(board: SimBoard, keys: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        board.faults.inject("spi-absent", **keys)
