"""A real board with a tracer records its edges, outputs, serial data and transfers; others make no object for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.pins import Chip
from firmware_sim.timeline import Timeline
from firmware_sim.trace import Trace
from hwloop import gpio, serial
from hwloop.boards import chip_discovery, linux
from hwloop.boards.chip_discovery import ChipInfo
from hwloop.boards.lgpio import chip as lgpio_chip
from hwloop.boards.linux import LinuxBoard
from hwloop.boards.traced_bus import trace_bus
from hwloop.sources.serial.device import SerialDevice
from hwloop.sources.serial.opening import open_device
from hwloop.sources.serial.options import SerialOptions
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData, SerialFrame, SerialSettings


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    """The lines of a machine whose only chip is a simulated one, below lgpio."""
    chip = Chip(Timeline(), label="pinctrl-bcm2711", lines=58)
    lgpio = Lgpio(chip)
    found = [ChipInfo("/dev/gpiochip0", 0, "pinctrl-bcm2711", 58)]
    monkeypatch.setattr(chip_discovery, "list_chips", lambda: found)
    monkeypatch.setattr(linux, "load_lgpio", lambda: (lgpio, lgpio.directory))
    yield chip
    lgpio.close()
    chip.timeline.stop()


def changes(trace: Trace) -> list[tuple[int, int, str]]:
    return [(change.line, change.level, change.by) for change in trace.of(LineChange)]


def test_edges_and_outputs_are_recorded_with_their_electrical_levels_and_the_kernels_times(chip: Chip) -> None:
    trace, edges = Trace(), []

    async def main() -> None:
        async with gpio.watch("GPIO17", 22, active_low=True) as watch, gpio.output(27, initial=0) as lamp:
            for line, level in ((17, 1), (22, 1), (17, 0)):
                chip.line(line).drive(level)
                edges.append(await anext(watch))
            lamp.set(1)
            lamp.set(1)
            lamp.set(0)

    with LinuxBoard("lgpio") as board:
        board.tracer = trace
        before_ns = time.monotonic_ns()
        hwloop.run(main(), board=board)
    seen = [
        (27, 0, "program"),
        (17, 1, "outside"),
        (22, 1, "outside"),
        (17, 0, "outside"),
        (27, 1, "program"),
        (27, 0, "program"),
    ]
    assert changes(trace) == seen
    assert [change.when_ns for change in trace.of(LineChange)[1:4]] == [edge.timestamp_ns for edge in edges]
    assert [edge.value for edge in edges] == [0, 0, 1]
    assert all(before_ns <= event.when_ns <= time.monotonic_ns() for event in trace)


def test_an_output_records_its_first_level_only_where_it_changes_the_line(
    chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace()
    for line in (22, 23, 27):
        chip.line(line).pull("up")
    for module in (linux, lgpio_chip):
        monkeypatch.setattr(module, "read_unclaimed", lambda node, number: chip.line(number).level)
    with LinuxBoard("lgpio") as board:
        board.tracer = trace
        with hwloop.board.using(board):
            with gpio.output(27, initial=0, active_low=True), gpio.output(22, initial=0):
                pass
            with gpio.output(23, initial=None) as kept:
                kept.set(1)
                kept.set(0)
    assert changes(trace) == [(22, 0, "program"), (23, 0, "program")]


def test_the_edges_of_a_released_output_are_recorded(chip: Chip) -> None:
    trace = Trace()
    chip.line(4).pull("up")

    async def main() -> None:
        async with gpio.output(4, initial=1, drive="open-drain") as wire:
            edges = wire.edges
            wire.set(0)
            wire.set(1)
            chip.line(4).drive(0)
            await anext(edges)

    with LinuxBoard("lgpio") as board:
        board.tracer = trace
        hwloop.run(main(), board=board)
    assert changes(trace) == [(4, 1, "program"), (4, 0, "program"), (4, 1, "program"), (4, 0, "outside")]


def test_pwm_leaves_the_level_unknown(chip: Chip) -> None:
    trace = Trace()
    with LinuxBoard("lgpio") as board:
        board.tracer = trace
        with hwloop.board.using(board), gpio.output(27, initial=0) as lamp:
            lamp.pwm(0.5)
            lamp.set(0)
    assert changes(trace) == [(27, 0, "program"), (27, 0, "program")]


def test_nothing_is_recorded_once_the_board_has_no_tracer_any_more(chip: Chip) -> None:
    trace = Trace()
    with LinuxBoard("lgpio") as board:
        board.tracer = trace
        with hwloop.board.using(board), gpio.output(27, initial=0) as lamp:
            board.tracer = None
            lamp.set(1)
    assert len(trace) == 1


def test_a_board_without_a_tracer_makes_no_object_for_one(chip: Chip) -> None:
    with LinuxBoard("lgpio") as board:
        edges = board.open_edges(hwloop.board.EdgeRequest((17,), consumer="test"))
        line = board.open_output(hwloop.board.OutputRequest(27, consumer="test", initial=0))
        assert not [each for each in (edges, line) if type(each).__name__.startswith("Traced")]
        edges.close()
        line.close()


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pseudo-terminal that is /dev/ttyX0 of this machine: its other end."""
    monkeypatch.setattr(chip_discovery, "DEV", str(tmp_path))
    master, slave = os.openpty()
    tty.setraw(slave)
    (tmp_path / "ttyX0").symlink_to(os.ttyname(slave))
    yield SimpleNamespace(fd=master)
    os.close(master)
    os.close(slave)


def data_of(trace: Trace) -> list[tuple[str, bytes]]:
    return [(event.direction, event.data) for event in trace.of(SerialData)]


def test_serial_data_and_frames_are_recorded_with_the_settings(port: Any) -> None:
    trace = Trace()

    async def main() -> None:
        async with serial.open("ttyX0", 19200, framing=serial.Lines(), stopbits=2, name="meter") as device:
            os.write(port.fd, b"one\ntwo")
            assert (await anext(device)).data == b"one"
            device.write(b"ping")
            await device.flush()

    board = LinuxBoard()
    board.tracer = trace
    hwloop.run(main(), board=board)
    assert data_of(trace) == [("received", b"one\ntwo"), ("sent", b"ping")]
    settings = SerialSettings(19200, 8, "N", 2)
    assert {(event.port, event.settings) for event in trace.of(SerialData)} == {("ttyX0", settings)}
    assert [(frame.port, frame.data) for frame in trace.of(SerialFrame)] == [("ttyX0", b"one")]


def test_streams_and_buffered_protocols_are_recorded_too(port: Any) -> None:
    trace = Trace()

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(16)
            self.updated = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.updated.set_result(nbytes)

    async def main() -> None:
        reader, writer = await serial.open_serial_connection(url="ttyX0")
        os.write(port.fd, b"by stream")
        assert await reader.readexactly(9) == b"by stream"
        writer.close()
        await writer.wait_closed()
        transport, protocol = await serial.create_serial_connection(asyncio.get_running_loop(), Buffered, "ttyX0")
        os.write(port.fd, b"by buffer")
        assert await protocol.updated == 9
        transport.abort()
        await asyncio.sleep(0)

    board = LinuxBoard()
    board.tracer = trace
    hwloop.run(main(), board=board)
    assert data_of(trace) == [("received", b"by stream"), ("received", b"by buffer")]


def test_a_port_without_a_framing_has_no_frames_and_one_without_a_tracer_is_the_plain_device(port: Any) -> None:
    trace = Trace()

    async def main() -> None:
        async with serial.open("ttyX0") as device:
            os.write(port.fd, b"text")
            await anext(device)

    board = LinuxBoard()
    board.tracer = trace
    hwloop.run(main(), board=board)
    assert (len(trace.of(SerialData)), trace.of(SerialFrame)) == (1, [])
    board.tracer = None
    with hwloop.board.using(board):
        device = open_device("ttyX0", SerialOptions(baudrate=9600))
        assert type(device) is SerialDevice
        device.close()


def test_frames_on_a_simulated_board_are_recorded_beside_the_bytes_of_the_wire() -> None:
    trace, clock = Trace(), hwloop.VirtualClock()

    async def main() -> None:
        async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
            frames.append(await anext(gps))

    frames: list[serial.Frame] = []
    with SimBoard({"device": [{"type": "gps", "port": "/dev/ttyAMA0"}]}, clock=clock, tracer=trace) as board:
        hwloop.run(main(), board=board, clock=clock)
    [frame] = trace.frames("/dev/ttyAMA0")
    assert (frame.data, frame.when_ns) == (frames[0].data, frames[0].received_ns)
    assert trace.data("/dev/ttyAMA0", "received").startswith(frame.data)


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("write_quick", (0x20,)),
    ("write_byte", (0x20, 5)),
    ("read_byte", (0x20,)),
    ("write_byte_data", (0x20, 5, 0xAB)),
    ("read_byte_data", (0x20, 5)),
    ("write_word_data", (0x20, 5, 0x1234)),
    ("read_word_data", (0x20, 5)),
    ("process_call", (0x20, 5, 0x1234)),
    ("write_block_data", (0x20, 5, [1, 2, 3])),
    ("read_block_data", (0x20, 5)),
    ("block_process_call", (0x20, 5, [1, 2])),
    ("write_i2c_block_data", (0x20, 5, [1, 2, 3])),
    ("read_i2c_block_data", (0x20, 5, 3)),
    ("read_byte", (0x55,)),
    ("write_byte_data", (0x55, 1, 2)),
]


class Answering(RegisterDevice):
    """Answers with blocks of three bytes."""

    def read_register(self, register: int) -> int:
        return 3


def test_each_call_of_smbus_is_recorded_with_the_messages_that_are_on_the_wire() -> None:
    """The simulated bus sees the wire, and the traced calls only their arguments and results; they must agree."""
    import smbus2

    wire, calls = Trace(), Trace()
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock, tracer=wire) as sim:
        sim.bus(1).attach(0x20, Answering())
        bus = sim.open_bus(1)
        board = LinuxBoard()
        board.tracer = calls
        trace_bus(board, 1, bus)
        assert isinstance(bus, smbus2.SMBus)
        for name, arguments in CALLS:
            with pytest.raises(OSError, match="Remote I/O error") if arguments[0] == 0x55 else contextlib.nullcontext():
                getattr(bus, name)(*arguments)
        bus.read_i2c_block_data(register=5, length=2, i2c_addr=0x20, force=True)
        bus.i2c_rdwr(smbus2.i2c_msg.write(0x20, [1, 2]), smbus2.i2c_msg.read(0x20, 4))
        with pytest.raises(OSError, match="Remote I/O error"):
            bus.i2c_rdwr(smbus2.i2c_msg.read(0x55, 4))
        bus.close()

    def seen(trace: Trace) -> list[tuple[tuple[I2cMessage, ...], str]]:
        return [(transfer.messages, transfer.error) for transfer in trace.of(I2cTransfer)]

    assert seen(calls) == seen(wire)
    assert len(calls.transfers(1)) == len(CALLS) + 3
    assert all(transfer.when_ns <= transfer.end_ns for transfer in calls.transfers(1))


def test_a_bus_of_a_board_with_a_tracer_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_discovery, "DEV", str(tmp_path))
    monkeypatch.setattr("smbus2.SMBus.open", lambda self, path: None)
    board = LinuxBoard()
    assert "read_byte" not in vars(board.open_bus(1))
    board.tracer = Trace()
    assert "read_byte" in vars(board.open_bus(1))
