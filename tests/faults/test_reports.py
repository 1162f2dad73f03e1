"""Faults between a line and the program, seen through the simulated lgpio and its FIFO."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from firmware_sim import SimBoard
from firmware_sim.errors import FaultError
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.libraries.lgpio.constants import error as lgpio_error
from hwloop.board import EdgeRequest, OutputRequest
from hwloop.errors import HardwareError

REPORT = struct.Struct("QBBBBI")


class Reader:
    """A program that has lgpio report the edges of lines 5 and 6."""

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.lgpio: Lgpio = board.lgpio
        self.handle = self.lgpio.gpiochip_open(0)
        notify = self.lgpio.notify_open()
        self.fd = os.open(f"{self.lgpio.directory}/.lgd-nfy{notify}", os.O_RDONLY | os.O_NONBLOCK)
        for line in (5, 6):
            self.lgpio.gpio_claim_alert(self.handle, line, self.lgpio.BOTH_EDGES, notify_handle=notify)
        self.notify = notify
        self.sent: list[tuple[int, int, int]] = []

    def toggle(self, line: int, count: int = 1) -> None:
        for _ in range(count):
            self.board.clock.sleep(0.001)
            level = 1 - self.board.line(line).level
            self.board.line(line).drive(level)
            self.sent.append((self.board.clock.now_ns(), line, level))

    def raw(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""

    def reports(self) -> list[tuple[int, int, int]]:
        return [(when_ns, line, level) for when_ns, _, line, level, _, _ in REPORT.iter_unpack(self.raw())]


@pytest.fixture
def reader(board: SimBoard) -> Iterator[Reader]:
    reader = Reader(board)
    yield reader
    os.close(reader.fd)


def test_the_kernel_keeps_the_newest_events_of_each_line(board: SimBoard, reader: Reader) -> None:
    with board.faults.inject("kernel-overflow"):
        reader.toggle(5, 40)
        reader.toggle(6, 3)
        reader.toggle(5, 2)
        assert reader.reports() == []
    assert reader.reports() == [*reader.sent[26:]]
    assert (board.line(5).reports, board.line(5).reports_lost, board.line(6).reports_lost) == (16, 26, 0)
    reader.toggle(5)
    assert reader.reports() == reader.sent[-1:]


def test_a_line_request_that_nobody_reads_keeps_the_newest_events_and_a_gap_in_their_numbers(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWLOOP_GPIO", "gpiod")
    stream = board.open_edges(EdgeRequest([5], consumer="test", pull="down"))
    with board.faults.inject("kernel-overflow", events=4), board.faults.inject("kernel-overflow", events=8) as other:
        for level in (1, 0) * 5:
            board.line(5).drive(level)
            board.clock.sleep(0.001)
        other.end()
        assert stream.read() == []
    edges = stream.read()
    assert [(edge.value, edge.lost) for edge in edges] == [(1, 6), (0, 0), (1, 0), (0, 0)]
    assert stream.losses.kernel == board.line(5).reports_lost == 6
    assert edges[0].timestamp_ns < edges[1].timestamp_ns < board.clock.now_ns()
    board.line(5).drive(1)
    assert [(edge.value, edge.lost) for edge in stream.read()] == [(1, 0)]
    stream.close()


def test_two_that_stop_the_thread_start_it_together(board: SimBoard, reader: Reader) -> None:
    first, second = (board.faults.inject("kernel-overflow", events=2) for _ in range(2))
    reader.toggle(5, 3)
    first.end()
    assert reader.reports() == []
    second.end()
    assert reader.reports() == reader.sent[1:]


def test_a_claim_wakes_a_thread_that_has_missed_a_wake_up(board: SimBoard, reader: Reader) -> None:
    injection = board.faults.inject("lost-wake-up")
    reader.toggle(5, 2)
    assert reader.reports() == []
    reader.lgpio.gpio_claim_alert(reader.handle, 7, reader.lgpio.BOTH_EDGES, notify_handle=reader.notify)
    assert reader.reports() == reader.sent
    injection.end()
    board.faults.inject("lost-wake-up", duration=1)
    reader.toggle(5)
    board.clock.sleep(1)
    assert reader.reports() == reader.sent[2:]


def test_a_claim_does_not_wake_a_thread_that_gets_no_turn(board: SimBoard, reader: Reader) -> None:
    board.faults.inject("kernel-overflow")
    reader.toggle(5, 2)
    reader.lgpio.gpio_claim_alert(reader.handle, 7, reader.lgpio.BOTH_EDGES, notify_handle=reader.notify)
    assert reader.reports() == []


@pytest.mark.parametrize("capacity", [0, 3])
def test_a_report_that_finds_the_fifo_full_is_lost(board: SimBoard, reader: Reader, capacity: int) -> None:
    with board.faults.inject("full-fifo", capacity=capacity):
        reader.toggle(5, 5)
        assert reader.reports() == reader.sent[:capacity]
        reader.toggle(5, 1)
    reader.toggle(5, 5)
    assert reader.reports() == [*reader.sent[5:6], *reader.sent[6:]][0 if capacity else 1 :]
    assert board.line(5).reports_lost == (2 if capacity else 6)


def test_a_torn_record_comes_in_two_parts_and_later_ones_after_it(board: SimBoard, reader: Reader) -> None:
    board.faults.inject("torn-record", at=5, seconds=0.01)
    reader.toggle(5, 3)
    first = reader.raw()
    assert len(first) == 5
    board.clock.sleep(0.01)
    whole = first + reader.raw()
    assert [(it[0], it[2], it[3]) for it in REPORT.iter_unpack(whole)] == reader.sent
    reader.toggle(6)
    assert reader.reports() == reader.sent[3:]


def test_the_rest_of_a_torn_record_goes_nowhere_once_its_fifo_is_closed(
    board: SimBoard, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    board.faults.inject("torn-record", at=5, seconds=0.01)
    reader.toggle(5)
    reader.lgpio.notify_close(reader.notify)
    reused = os.open("/dev/null", os.O_WRONLY)
    board.clock.sleep(0.1)
    os.close(reused)
    assert len(reader.raw()) == 5
    assert caplog.records == []


def test_a_handle_of_a_vanished_chip_fails_for_ever(board: SimBoard, reader: Reader) -> None:
    lgpio, handle = reader.lgpio, reader.handle
    lgpio.gpio_claim_output(handle, 20, 1)
    with board.faults.inject("chip-vanishes"):
        with pytest.raises(lgpio_error, match="can not open gpiochip"):
            lgpio.gpiochip_open(0)
        reader.toggle(5)
        assert reader.reports() == []
    for attempt, message in [
        (lambda: lgpio.gpio_read(handle, 20), "bad GPIO read"),
        (lambda: lgpio.gpio_write(handle, 20, 0), "bad GPIO write"),
        (lambda: lgpio.gpio_claim_output(handle, 21), "unexpected error"),
        (lambda: lgpio.gpio_claim_alert(handle, 21, 3), "bad event request"),
        (lambda: lgpio.gpio_get_chip_info(handle), "bad chipinfo IOCTL"),
        (lambda: lgpio.gpio_get_line_info(handle, 20), "bad lineinfo IOCTL"),
    ]:
        with pytest.raises(lgpio_error, match=message):
            attempt()
    lgpio.gpiochip_close(handle)
    assert board.line(20).level == 1
    again = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_output(again, 20, 0)
    assert board.line(20).level == 0


def test_the_board_opens_a_chip_again_that_has_come_back(board: SimBoard) -> None:
    output = board.open_output(OutputRequest(20, consumer="test", initial=1))
    injection = board.faults.inject("chip-vanishes")
    with pytest.raises(HardwareError, match="can not open gpiochip"):
        board.open_edges(EdgeRequest([5], consumer="test"))
    with pytest.raises(HardwareError, match=r"line 20: .* is gone: its driver was unbound, or it was unplugged"):
        output.set(0)
    injection.end()
    output.close()
    stream = board.open_edges(EdgeRequest([5], consumer="test"))
    board.line(5).drive(0)
    assert [edge.value for edge in stream.read()] == [0]
    stream.close()


@pytest.mark.parametrize(
    ("fault", "fields", "message"),
    [
        ("kernel-overflow", {"events": 0}, "events must be 1 to 1024"),
        ("full-fifo", {"capacity": -1}, "capacity must be 0 to 65536"),
        ("torn-record", {"at": 16}, "at must be 1 to 15"),
        ("torn-record", {"duration": 1}, "leave out duration"),
    ],
)
def test_a_value_that_makes_no_sense_raises(
    board: SimBoard, fault: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(FaultError, match=f"fault {fault}: .*{message}"):
        board.faults.inject(fault, **fields)  # type: ignore[arg-type]
