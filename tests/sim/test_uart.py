"""Simulated ports: the wire's pace, the program's buffer, and the plug."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from firmware_sim.errors import WiringError
from firmware_sim.timeline import Timeline
from firmware_sim.uart import RECEIVE_BUFFER, Port
from hwloop.errors import HardwareError
from hwloop.trace_events import SerialData, TraceEvent

MS = 1_000_000
CHARACTER = 10 * 1_000_000_000 / 9600  # nanoseconds


class Clock:
    """A timeline's time that only the test moves."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.timeline = Timeline()
        self.timeline.now_ns = lambda: self.now_ns

    def advance_to(self, when_ns: float) -> None:
        with self.timeline.lock:
            self.now_ns = round(when_ns)
            self.timeline.run_due()


class Recorder:
    def __init__(self) -> None:
        self.heard = b""

    def receive(self, data: bytes) -> None:
        self.heard += data


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.timeline.stop()


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    timeline = Timeline()
    yield timeline
    timeline.stop()


@pytest.fixture
def port(timeline: Timeline) -> Iterator[Port]:
    port = Port("/dev/ttyAMA0", timeline)
    yield port
    port.close()


@pytest.fixture
def wire(clock: Clock) -> Iterator[Port]:
    """A port whose time stands still until the test moves it."""
    port = Port("/dev/ttyAMA0", clock.timeline)
    yield port
    port.close()


@pytest.fixture
def program(port: Port) -> Iterator[int]:
    """The descriptor of a program that has the port open."""
    fd = os.open(port.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel or the firmware thread does in its own time, five seconds at most."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0002)


def readable(fd: int) -> bool:
    """Whether `fd` becomes readable within five seconds."""
    return bool(select.select([fd], [], [], 5)[0])


def read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and readable(fd):
        data += os.read(fd, 65536)
    return data


def test_bytes_pass_both_ways_unchanged_and_are_counted(port: Port, program: int) -> None:
    peer = Recorder()
    port.attach(peer)
    every = bytes(range(256))
    port.send(every)
    assert read(program, 256) == every
    os.write(program, every)
    until(lambda: len(peer.heard) == 256)
    assert peer.heard == every
    assert (port.bytes_in, port.bytes_out, port.dropped) == (256, 256, 0)


def test_bytes_come_at_the_pace_of_the_wire_eight_at_a_time(clock: Clock, wire: Port) -> None:
    wire.send(bytes(20), 9600)
    arrived = []
    for characters in (7.99, 8, 15.99, 16, 19.99, 20):
        clock.advance_to(characters * CHARACTER + 1)
        arrived.append(wire.bytes_out)
    assert arrived == [0, 8, 8, 16, 16, 20]


def test_later_bytes_come_after_those_on_the_wire(clock: Clock, wire: Port) -> None:
    wire.send(bytes(8), 9600)
    clock.advance_to(2 * CHARACTER)
    wire.send(bytes(8), 9600)
    wire.send(b"!")
    clock.advance_to(15.9 * CHARACTER)
    assert wire.bytes_out == 8
    clock.advance_to(16 * CHARACTER + 1)
    assert wire.bytes_out == 17


def test_a_quick_wire_hands_over_a_millisecond_at_a_time(clock: Clock, wire: Port) -> None:
    wire.send(bytes(1000), 921600)
    clock.advance_to(0.9 * MS)
    assert wire.bytes_out == 0
    clock.advance_to(1 * MS)
    assert wire.bytes_out == 92


def test_an_adapter_may_collect_for_sixteen_milliseconds(clock: Clock, wire: Port) -> None:
    wire.latency = 0.016
    wire.send(bytes(30), 9600)
    clock.advance_to(15 * CHARACTER - MS)
    assert wire.bytes_out == 0
    clock.advance_to(15 * CHARACTER + 1)
    assert wire.bytes_out == 15


def test_a_program_that_does_not_read_loses_bytes_and_they_are_counted(clock: Clock, wire: Port) -> None:
    program = os.open(wire.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    wire.send(b"x" * 5000, 115200)
    for millisecond in range(600):
        clock.advance_to(millisecond * MS)
        # The kernel moves bytes from the master to the program's buffer in its own time.
        until(lambda: waiting(program) == wire.bytes_out)
    assert (wire.bytes_out, wire.dropped) == (RECEIVE_BUFFER, 5000 - RECEIVE_BUFFER)
    assert len(os.read(program, 65536)) == RECEIVE_BUFFER
    wire.send(b"room again", 115200)
    clock.advance_to(700 * MS)
    assert read(program, 10) == b"room again"
    os.close(program)


def test_bytes_without_a_pace_wait_for_room(port: Port, program: int) -> None:
    data = os.urandom(100_000)
    port.send(data)
    assert read(program, len(data)) == data
    assert port.dropped == 0


def test_the_port_outlives_the_programs_that_open_it(port: Port) -> None:
    peer = Recorder()
    port.attach(peer)
    for round_ in (b"1", b"2"):
        program = os.open(port.path, os.O_RDWR | os.O_NOCTTY)
        os.write(program, round_)
        until(lambda wanted=round_: peer.heard.endswith(wanted))  # type: ignore[misc]
        port.send(round_)
        assert read(program, 1) == round_
        os.close(program)


def test_unplugged_the_program_reads_the_end_and_cannot_write(port: Port, program: int) -> None:
    port.send(b"never read")
    port.unplug()
    port.unplug()
    assert os.read(program, 10) == b""
    poll = select.poll()
    poll.register(program)
    assert poll.poll(0)[0][1] & select.POLLHUP
    with pytest.raises(OSError, match="Input/output error"):
        os.write(program, b"x")


def test_an_unplugged_port_has_no_path_and_loses_what_the_device_sends(clock: Clock, wire: Port) -> None:
    wire.send(bytes(100), 9600)
    clock.advance_to(16 * CHARACTER + 1)
    wire.unplug()
    assert wire.dropped == 84
    wire.send(b"nobody hears")
    assert wire.dropped == 96
    with pytest.raises(HardwareError, match="unplugged") as caught:
        _ = wire.path
    assert caught.value.errno == errno.ENOENT


def test_plugged_in_again_the_wire_is_free(clock: Clock, wire: Port) -> None:
    wire.send(bytes(1000), 9600)
    wire.unplug()
    wire.replug()
    wire.send(bytes(8), 9600)
    clock.advance_to(8 * CHARACTER + 1)
    assert (wire.bytes_out, wire.dropped) == (8, 1000)


def test_plugged_in_again_it_works_under_its_new_path(port: Port) -> None:
    peer = Recorder()
    port.attach(peer)
    port.unplug()
    port.replug()
    path = port.path
    port.replug()
    assert port.path == path
    program = os.open(path, os.O_RDWR | os.O_NOCTTY)
    os.write(program, b"hello")
    until(lambda: peer.heard == b"hello")
    port.send(b"again")
    assert read(program, 5) == b"again"
    os.close(program)


def test_a_port_has_one_device(port: Port) -> None:
    port.attach(Recorder())
    with pytest.raises(WiringError, match="/dev/ttyAMA0 has a device already"):
        port.attach(Recorder())


def test_a_closed_port_stays_closed(port: Port) -> None:
    port.close()
    port.close()
    with pytest.raises(RuntimeError, match="closed"):
        port.replug()


def test_a_device_that_raises_does_not_stop_the_port(
    port: Port, program: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Recorder):
        def receive(self, data: bytes) -> None:
            super().receive(data)
            if data == b"bad":
                raise ValueError("spoilt")

    peer = Faulty()
    port.attach(peer)
    for data in (b"bad", b"good"):
        os.write(program, data)
        until(lambda wanted=data: peer.heard.endswith(wanted))  # type: ignore[misc]
    assert "simulated device failed" in caplog.text


def waiting(fd: int) -> int:
    """Bytes that the program could read now."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


class Bytes:
    """A tracer that keeps the bytes of ports."""

    def __init__(self) -> None:
        self.sent = b""

    def record(self, event: TraceEvent) -> None:
        if isinstance(event, SerialData) and event.direction == "sent":
            self.sent += event.data


def test_bytes_on_a_wire_that_leads_nowhere_are_sent_and_traced(timeline: Timeline, port: Port, program: int) -> None:
    timeline.tracer = tracer = Bytes()
    data = bytes(range(256)) * 1024  # more than a terminal takes
    rest = memoryview(data)
    while rest:
        assert select.select([], [program], [], 5)[1]
        rest = rest[os.write(program, rest) :]
    until(lambda: len(tracer.sent) == len(data))
    assert tracer.sent == data
    assert port.bytes_in == len(data)


def test_a_device_does_not_hear_what_was_sent_before_it_was_there(port: Port, program: int) -> None:
    os.write(program, b"early")
    until(lambda: bool(port.bytes_in))
    peer = Recorder()
    port.attach(peer)
    os.write(program, b"late")
    until(lambda: port.bytes_in == 9)
    assert peer.heard == b"late"
