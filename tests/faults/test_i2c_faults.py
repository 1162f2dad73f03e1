"""Faults of I2C transfers, seen through smbus2's own SMBus."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
import smbus2

from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from firmware_sim.trace import Trace
from hwloop.trace_events import I2cTransfer

ADDRESS = 0x40


class Register(RegisterDevice):
    """A device whose register 0 to 255 hold their numbers after power-on."""

    def __init__(self) -> None:
        self.registers[:] = bytes(range(256))


@pytest.fixture
def bus(board: SimBoard) -> Iterator[smbus2.SMBus]:
    board.i2c(1).attach(ADDRESS, Register())
    with contextlib.closing(board.i2c(1).open()) as bus:
        yield bus


@pytest.mark.parametrize(
    ("fault", "number"),
    [("i2c-nack", errno.EREMOTEIO), ("i2c-arbitration-loss", errno.EAGAIN), ("i2c-stuck-sda", errno.ETIMEDOUT)],
)
def test_a_failed_transfer_has_the_kernels_error_until_the_fault_ends(
    board: SimBoard, bus: smbus2.SMBus, fault: str, number: int
) -> None:
    with board.faults.inject(fault):
        for _ in range(2):
            with pytest.raises(OSError, match=f"Errno {number}"):
                bus.read_byte_data(ADDRESS, 7)
    assert bus.read_byte_data(ADDRESS, 7) == 7


def test_a_fault_of_one_device_leaves_the_others_alone(board: SimBoard, bus: smbus2.SMBus) -> None:
    injection = board.faults.inject("i2c-nack", address="climate")
    assert bus.read_byte_data(ADDRESS, 7) == 7
    with pytest.raises(OSError, match="Remote I/O error"):
        bus.read_byte_data(0x76, 0xD0)
    assert injection.hits == 1


def test_stuck_sda_blocks_for_the_adapters_second_and_a_waiting_transfer_is_made_when_it_ends(
    board: SimBoard, bus: smbus2.SMBus, trace: Trace
) -> None:
    board.faults.inject("i2c-stuck-sda", duration=1.5)
    with pytest.raises(OSError, match="timed out"):
        bus.read_byte_data(ADDRESS, 7)
    assert bus.read_byte_data(ADDRESS, 7) == 7
    failed, made = trace.of(I2cTransfer)
    assert (failed.end_ns - failed.when_ns, failed.error) == (1_000_000_000, "ETIMEDOUT")
    assert made.when_ns == failed.end_ns
    assert 500_000_000 <= made.end_ns - made.when_ns < 501_000_000


def test_two_that_hold_the_bus_end_one_by_one(board: SimBoard, bus: smbus2.SMBus) -> None:
    first, second = (board.faults.inject("i2c-stuck-sda") for _ in range(2))
    board.i2c(1).hang()
    for end in (first.end, second.end, board.i2c(1).release):
        with pytest.raises(OSError, match="timed out"):
            bus.read_byte_data(ADDRESS, 7)
        end()
    assert bus.read_byte_data(ADDRESS, 7) == 7


def test_a_hang_outlasts_the_adapters_timeout(board: SimBoard, bus: smbus2.SMBus, trace: Trace) -> None:
    board.faults.inject("i2c-hang", duration=30)
    assert bus.read_byte_data(ADDRESS, 7) == 7
    assert 30_000_000_000 <= trace.of(I2cTransfer)[0].end_ns - trace.of(I2cTransfer)[0].when_ns < 30_010_000_000


def test_a_stretched_clock_makes_the_transfer_longer_by_that(board: SimBoard, bus: smbus2.SMBus, trace: Trace) -> None:
    bus.read_byte_data(ADDRESS, 7)
    with board.faults.inject("i2c-clock-stretch", address=ADDRESS, seconds=0.25):
        bus.read_byte_data(ADDRESS, 7)
    with board.faults.inject("i2c-clock-stretch", seconds=2), pytest.raises(OSError, match="timed out"):
        bus.read_byte_data(ADDRESS, 7)
    plain, stretched, failed = (it.end_ns - it.when_ns for it in trace.of(I2cTransfer))
    assert stretched == plain + 250_000_000
    assert failed == 1_000_000_000


@pytest.mark.parametrize(("answer", "read"), [("ones", [255] * 3), ("zeros", [0] * 3), ("stale", [1, 2, 3])])
def test_wrong_answers_are_read_without_an_error(
    board: SimBoard, bus: smbus2.SMBus, answer: str, read: list[int]
) -> None:
    injection = board.faults.inject("i2c-wrong-answer", address=ADDRESS, answer=answer)
    bus.read_i2c_block_data(ADDRESS, 1, 3)
    assert bus.read_i2c_block_data(ADDRESS, 5, 3) == read
    assert injection.hits == 2
    injection.end()
    assert bus.read_i2c_block_data(ADDRESS, 5, 3) == [5, 6, 7]


def test_one_bit_of_a_wrong_answer_is_flipped(board: SimBoard, bus: smbus2.SMBus) -> None:
    board.faults.inject("i2c-wrong-answer", address=ADDRESS)
    for _ in range(10):
        read = bus.read_i2c_block_data(ADDRESS, 5, 3)
        assert sum((a ^ b).bit_count() for a, b in zip(read, [5, 6, 7], strict=True)) == 1


def test_a_device_that_resets_forgets_what_the_program_has_set(board: SimBoard, bus: smbus2.SMBus) -> None:
    bus.write_byte_data(ADDRESS, 7, 99)
    bus.write_byte_data(0x76, 0xF4, 0b10101011)  # normal mode
    board.faults.inject("i2c-device-reset", address=ADDRESS)
    assert (bus.read_byte(ADDRESS), bus.read_byte_data(ADDRESS, 7)) == (0, 7)
    assert bus.read_byte_data(0x76, 0xF4) == 0b10101011
    board.faults.inject("i2c-device-reset")
    assert (bus.read_byte_data(0x76, 0xF4), bus.read_byte_data(0x76, 0xD0)) == (0, 0x60)
