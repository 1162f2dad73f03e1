"""The simulated SPI bus: what arrives on its wires."""

from __future__ import annotations

import errno
import re

import pytest

import hwloop
from firmware_sim import SimBoard, WiringError
from firmware_sim.spi import Disturbance, Mode, Segment, SpiBus
from firmware_sim.spi_device import SpiDevice
from firmware_sim.trace import Trace
from hwloop.trace_events import SpiTransfer


class Echo(SpiDevice):
    """Sends each byte back in the next one, and notes what has happened to it."""

    max_speed = 1_000_000

    def __init__(self, first: int = 0x5A) -> None:
        self.first = first
        self.seen: list[str] = []

    def begin(self) -> None:
        self.seen.append("select")

    def transfer(self, sent: bytes) -> bytes:
        self.seen.append(sent.hex())
        return bytes([self.first]) + sent[:-1]

    def end(self) -> None:
        self.seen.append("deselect")


@pytest.fixture
def board():
    with SimBoard(clock=hwloop.VirtualClock(), tracer=Trace()) as board:
        yield board


@pytest.fixture
def bus(board) -> SpiBus:
    return board.spi_bus(0)


@pytest.fixture
def echo(bus) -> Echo:
    device = Echo()
    bus.attach(0, device)
    return device


def exchange(bus, sent, mode=0, select=0, speed=1_000_000):
    return bus.transfer(select, [Segment(sent, speed)], mode)[0]


def test_bytes_are_exchanged_while_the_device_is_selected(bus, echo):
    assert exchange(bus, b"\x01\x02\x03") == b"\x5a\x01\x02"
    assert echo.seen == ["select", "010203", "deselect"]
    assert (bus.transfers, bus.bytes) == (1, 3)


def test_segments_are_one_selection_unless_they_ask_for_another(bus, echo):
    parts = [Segment(b"\x01", 1e6), Segment(b"\x02", 1e6, deselect=True), Segment(b"\x03", 1e6, deselect=True)]
    assert bus.transfer(0, parts) == [b"\x5a"] * 3
    assert echo.seen == ["select", "01", "02", "deselect", "select", "03", "deselect"]


def test_a_transfer_takes_the_time_of_its_bits_and_pauses(board, bus, echo):
    before = board.clock.now_ns()
    bus.transfer(0, [Segment(bytes(10), 100_000, delay=0.001), Segment(bytes(5), 500_000)])
    assert board.clock.now_ns() - before == 800_000 + 1_000_000 + 80_000


@pytest.mark.parametrize(("pull", "byte"), [("down", b"\0"), ("up", b"\xff")])
def test_an_absent_device_leaves_miso_to_its_pull(bus, pull, byte):
    bus.pull = pull
    assert exchange(bus, b"\x12\x34") == byte * 2


@pytest.mark.parametrize("mode", [1, 2, Mode.CPHA | Mode.LOOP])
def test_in_the_wrong_mode_each_bit_is_sampled_late(bus, echo, mode):
    loops = mode & Mode.LOOP
    assert exchange(bus, b"\x81\x40", mode) == (b"\x81\x40" if loops else b"\x2d\x20")
    assert echo.seen == (["select", "deselect"] if loops else ["select", "40a0", "deselect"])


def test_both_modes_of_a_device_are_right(bus, echo):
    assert exchange(bus, b"\x81\x40", 3) == exchange(bus, b"\x81\x40", 0) == b"\x5a\x81"


def test_a_clock_that_is_too_fast_garbles_the_bits(bus, echo):
    assert exchange(bus, b"\x81\x40", speed=1_000_001) == b"\x2d\x20"


def test_a_device_with_the_other_order_of_bits_is_read_the_other_way_round(bus, echo):
    assert exchange(bus, b"\x01\x80", Mode.LSB_FIRST) == b"\x5a\x01"
    assert echo.seen[1] == "8001"
    echo.lsb_first = True
    assert exchange(bus, b"\x01\x80", Mode.LSB_FIRST) == b"\x5a\x01"
    assert echo.seen[4] == "0180"


@pytest.mark.parametrize("mode", [Mode.CS_HIGH, Mode.NO_CS])
def test_a_device_that_is_not_selected_does_not_answer(bus, echo, mode):
    assert exchange(bus, b"\x01", mode) == b"\0"
    assert not echo.seen


def test_a_device_that_is_selected_by_a_high_level_needs_the_mode_for_it(bus, echo):
    echo.cs_high = True
    assert exchange(bus, b"\x01") == b"\0"
    assert exchange(bus, b"\x01", Mode.CS_HIGH) == b"\x5a"


def test_two_select_lines_are_two_devices(board, bus, echo):
    other = Echo(0xA5)
    bus.attach(1, other)
    assert (exchange(bus, b"\x01"), exchange(bus, b"\x01", select=1)) == (b"\x5a", b"\xa5")
    assert board.spi(0)[1] is other
    assert bus.devices() == [echo, other]
    assert bus.detach(1) is other
    assert exchange(bus, b"\x01", select=1) == b"\0"


def test_a_transfer_is_recorded(board, bus, echo):
    exchange(bus, b"\x01\x02")
    event = SpiTransfer(0, 16_000, 0, 0, b"\x01\x02", b"\x5a\x01", "")
    assert [each._replace(when_ns=0, end_ns=each.end_ns - each.when_ns) for each in board.tracer] == [event]
    assert board.tracer.exchanges(0, 0) == list(board.tracer)
    assert not board.tracer.exchanges(0, 1)


class Failing(Disturbance):
    def start(self, select, sent):
        raise OSError(errno.EIO, "no")


def test_a_failed_transfer_is_recorded_with_its_error(board, bus, echo):
    bus.disturbances.append(Failing())
    with pytest.raises(OSError, match="no"):
        exchange(bus, b"\x01\x02")
    (event,) = board.tracer
    assert event[2:] == (0, 0, b"\x01\x02", b"", "EIO")


def test_a_closed_board_makes_no_transfers(board, bus, echo):
    board.close()
    with pytest.raises(OSError, match=rf"\[Errno {errno.ESHUTDOWN}\]"):
        exchange(bus, b"\x01")


def test_a_device_that_returns_the_wrong_number_of_bytes_is_named(bus):
    class Short(Echo):
        def transfer(self, sent):
            return b""

    bus.attach(1, Short())
    with pytest.raises(ValueError, match="returned 0 bytes for 2"):
        exchange(bus, b"\x01\x02", select=1)


@pytest.mark.parametrize(
    ("select", "device", "message"),
    [
        (0, Echo(), "SPI bus 0: select 0 is used already, by the part Echo"),
        (2, Echo(), "SPI bus 0 has the select lines 0 to 1, not 2"),
        (1, object(), "is not an SPI device; derive its class from firmware_sim.spi_device.SpiDevice"),
    ],
)
def test_impossible_wiring_is_rejected(bus, echo, select, device, message):
    with pytest.raises(WiringError, match=re.escape(message)):
        bus.attach(select, device)


def test_missing_buses_and_devices_are_named(board, bus, echo):
    with pytest.raises(KeyError, match="no device at select 1 of SPI bus 0; there are: 0"):
        bus[1]
    with pytest.raises(KeyError, match="no SPI bus 1 on simulated board; there are: 0"):
        board.spi(1)
    with pytest.raises(WiringError, match="bus must be 0 to 255"):
        board.spi_bus(256)
