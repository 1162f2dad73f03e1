"""Faults of serial ports, seen by a program that has the terminal open."""

from __future__ import annotations

import errno
import os
import select
import termios
from collections.abc import Collection, Iterator

import pytest
import serial

from firmware_sim import SimBoard
from firmware_sim.distortion import Distortion
from firmware_sim.errors import FaultError
from firmware_sim.trace import Trace
from hwloop.trace_events import SerialData

PORT = "/dev/ttyAMA1"
TEXT = bytes(range(256)) * 4
CHARACTER = 10 / 9600


class Echo:
    """A device that keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""

    def receive(self, data: bytes) -> None:
        self.got += data


@pytest.fixture
def device(board: SimBoard) -> Echo:
    device = Echo()
    board.add_port(PORT).attach(device)
    return device


@pytest.fixture
def fd(board: SimBoard, device: Echo) -> Iterator[int]:
    with serial.Serial(board.serial(PORT).path, 9600) as port:
        yield port.fd


def send(board: SimBoard, data: bytes, baudrate: int | None = 9600) -> None:
    """Send data to the program, and wait until it is there."""
    board.serial(PORT).send(data, baudrate)
    board.clock.sleep(len(data) * CHARACTER + 1)


def read(fd: int) -> bytes:
    """Return all that has come: poll(2) makes the terminal take over what is on its way."""
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(0):
        data += os.read(fd, 65536)
    return data


def bits(one: bytes, other: bytes) -> list[int]:
    """Return how many bits of each character differ."""
    return [(a ^ b).bit_count() for a, b in zip(one, other, strict=True)]


def test_noise_flips_bits_of_some_characters(board: SimBoard, fd: int) -> None:
    injection = board.faults.inject("serial-noise", port=PORT, bits=2, probability=0.1)
    send(board, TEXT)
    flipped = bits(read(fd), TEXT)
    assert set(flipped) == {0, 2}
    assert flipped.count(2) == injection.hits
    assert 50 <= injection.hits <= 160
    injection.end()
    send(board, TEXT)
    assert read(fd) == TEXT


@pytest.mark.parametrize("way", ["received", "sent", "both"])
def test_noise_has_a_direction(board: SimBoard, device: Echo, fd: int, way: str) -> None:
    board.faults.inject("serial-noise", port=PORT, way=way)
    send(board, b"abc")
    os.write(fd, b"abc")
    board.clock.sleep(1)
    assert (read(fd) != b"abc", device.got != b"abc") == (way != "sent", way != "received")


FLAGS = [
    (0, b"a\xffb\0c"),
    (termios.IGNPAR, b"a\xffb\0c"),
    (termios.PARMRK, b"a\xff\xffb\0c"),
    (termios.INPCK, b"a\0\0\0c"),
    (termios.INPCK | termios.IGNPAR, b"a\0c"),
    (termios.INPCK | termios.PARMRK, b"a\xff\0\xff\xff\0b\0c"),
    (termios.INPCK | termios.IGNPAR | termios.PARMRK, b"a\0c"),
]


class Marked(Distortion):
    """Finds an error in the second and third character of five."""

    def received(self, data: bytes) -> tuple[bytes, Collection[int]]:
        return data, [place for place in range(len(data)) if place % 5 in (1, 2)]


@pytest.mark.parametrize(("flags", "delivered"), FLAGS)
def test_an_error_arrives_as_the_flags_of_the_terminal_say(
    board: SimBoard, fd: int, flags: int, delivered: bytes
) -> None:
    attributes = termios.tcgetattr(fd)
    attributes[0] |= flags
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    board.serial(PORT).distortions.append(Marked())
    send(board, b"a\xffb\0c" * 20)
    assert read(fd) == delivered * 20
    assert termios.tcgetattr(fd) == attributes


@pytest.mark.parametrize("fault", ["serial-parity-error", "serial-framing-error"])
def test_characters_with_errors_are_dropped_where_the_program_asks_for_it(board: SimBoard, fd: int, fault: str) -> None:
    injection = board.faults.inject(fault, port=PORT, probability=0.3)
    send(board, TEXT)
    assert sum(differ > 0 for differ in bits(read(fd), TEXT)) == injection.hits > 100
    attributes = termios.tcgetattr(fd)
    attributes[0] |= termios.INPCK | termios.IGNPAR
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    before = injection.hits
    send(board, TEXT)
    assert len(read(fd)) == len(TEXT) - (injection.hits - before)


def test_a_truncated_message_ends_early(board: SimBoard, fd: int) -> None:
    with board.faults.inject("serial-truncation", port=PORT, keep=3):
        send(board, b"abcdefgh")
        send(board, b"ij")
    assert read(fd) == b"abcij"
    injection = board.faults.inject("serial-truncation", port=PORT)
    send(board, TEXT)
    assert len(read(fd)) < len(TEXT)
    assert injection.hits == 1


def test_a_gap_is_silence_within_a_message(board: SimBoard, fd: int, trace: Trace) -> None:
    board.faults.inject("serial-gap", port=PORT, seconds=0.2, at=8)
    send(board, bytes(16), 9600)
    send(board, bytes(16), None)
    assert read(fd) == bytes(32)
    first, second, third, fourth = (it.when_ns for it in trace.of(SerialData) if it.port == PORT)
    assert second - first == pytest.approx(200_000_000 + 8 * CHARACTER * 1e9, abs=10)
    assert fourth - third == 200_000_000


def test_two_faults_of_one_wire_compose(board: SimBoard, fd: int) -> None:
    board.faults.inject("serial-gap", port=PORT, at=4)
    cut = board.faults.inject("serial-truncation", port=PORT, keep=6)
    board.faults.inject("serial-noise", port=PORT, bits=8)
    send(board, b"abcdefgh")
    assert bits(read(fd), b"abcdefgh") == [8] * 8  # each piece is shorter than what is kept
    cut.end()
    send(board, b"abc")
    assert bits(read(fd), b"abc") == [8] * 3


def test_an_unplugged_port_hangs_up_and_comes_back_under_another_path(board: SimBoard, fd: int) -> None:
    port = board.serial(PORT)
    before = port.path
    board.faults.inject("serial-unplug", port=PORT, duration=2)
    with pytest.raises(OSError, match=f"Errno {errno.EIO}"):
        os.write(fd, b"x")
    assert os.read(fd, 10) == b""
    board.clock.sleep(3)
    assert port.plugged
    assert port.path != before
    assert os.read(fd, 10) == b""


def test_a_port_may_come_back_under_another_name(board: SimBoard, device: Echo) -> None:
    with pytest.raises(FaultError, match="back_as: the board has a port /dev/ttyUSB0 already"):
        board.faults.inject("serial-unplug", port=PORT, back_as="/dev/ttyUSB0")
    with board.faults.inject("serial-unplug", port=PORT, back_as="/dev/ttyUSB1"):
        assert PORT in board.ports
    assert PORT not in board.ports
    with serial.Serial(board.serial("/dev/ttyUSB1").path, 9600) as again:
        os.write(again.fd, b"x")
        board.clock.sleep(1)
        assert device.got == b"x"


def test_two_that_unplug_a_port_replug_it_together(board: SimBoard, device: Echo) -> None:
    port = board.serial(PORT)
    injection = board.faults.inject("serial-unplug", port=PORT)
    port.unplug()
    injection.end()
    assert not port.plugged
    port.replug()
    assert port.plugged


def test_a_latency_timer_hands_over_at_its_ticks_or_when_a_packet_is_full(
    board: SimBoard, fd: int, trace: Trace
) -> None:
    def batches(count: int, baudrate: int | None) -> list[tuple[float, int]]:
        start = board.clock.now_ns()
        send(board, bytes(count), baudrate)
        assert len(read(fd)) == count
        data = [it for it in trace.of(SerialData) if it.when_ns >= start and it.port == PORT]
        return [((it.when_ns - start) / 1e9, len(it.data)) for it in data]

    injection = board.faults.inject("serial-latency", port=PORT)
    assert batches(7, 9600) == [(0.016, 7)]
    board.clock.sleep(0.016 - (board.clock.now_ns() - 1_000_000_000) / 1e9 % 0.016)
    full = batches(200, 115_200)
    assert [count for _, count in full] == [62, 62, 60, 16]
    assert full[0][0] == pytest.approx(62 * 10 / 115_200, abs=1e-6)
    assert full[2][0] == pytest.approx(0.016, abs=1e-6)
    board.clock.sleep(0.003)
    assert len(batches(100, None)) == 2
    injection.end()
    assert batches(7, 9600)[0][0] == pytest.approx(7 * CHARACTER)


def test_characters_beyond_a_full_buffer_are_lost_and_counted(board: SimBoard, fd: int) -> None:
    with board.faults.inject("serial-overrun", port=PORT, buffer=16):
        send(board, TEXT[:100])
    assert read(fd) == TEXT[:16]
    assert board.serial(PORT).dropped == 84
    send(board, TEXT[:100])
    assert read(fd) == TEXT[:100]


def test_a_slow_device_reads_at_its_rate_and_catches_up_at_the_end(board: SimBoard, device: Echo, fd: int) -> None:
    injection = board.faults.inject("serial-slow-reader", port=PORT, rate=100)
    os.write(fd, bytes(300))
    board.clock.sleep(1)
    assert 90 <= len(device.got) <= 110
    injection.end()
    board.clock.sleep(0.001)
    assert len(device.got) == 300


MISTAKES = [
    ("serial-noise", {"bits": 9}, "bits must be 1 to 8"),
    ("serial-noise", {"way": "up"}, "way must be one of 'received', 'sent', 'both'"),
    ("serial-truncation", {"keep": -1}, "keep must be 0 or more"),
    ("serial-gap", {"seconds": 0}, "seconds must be more than 0"),
    ("serial-latency", {"packet": 0}, "packet 1 or more"),
    ("serial-overrun", {"buffer": 5000}, "buffer must be 0 to 4095"),
    ("serial-slow-reader", {"rate": 0}, "rate must be 0.01 to 1e6"),
]


@pytest.mark.parametrize(("fault", "fields", "message"), MISTAKES)
def test_a_value_that_makes_no_sense_raises(
    board: SimBoard, device: Echo, fault: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(FaultError, match=f"fault {fault}: .*{message}"):
        board.faults.inject(fault, port=PORT, **fields)  # type: ignore[arg-type]


def test_a_port_that_is_not_there_raises(board: SimBoard) -> None:
    with pytest.raises(FaultError, match="no port '/dev/ttyS7' on the board; there are: /dev/ttyAMA0, /dev/ttyUSB0"):
        board.faults.inject("serial-noise", port="/dev/ttyS7")
    assert board.faults.inject("serial-noise", port="gps").target == "/dev/ttyAMA0"
