"""In virtual time the bytes of a port that `hwloop.serial` has opened take a socket, and behave as before.

Most tests run both ways, with the socket and with the terminal.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import termios
from collections.abc import Awaitable, Callable, Iterator

import pytest
import serial as pyserial
from serial import serialposix

import hwloop
from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop import serial
from hwloop.board import Board

NAME = "/dev/ttyAMA1"
Main = Callable[[SimBoard, Port], Awaitable[None]]


class Recorder:
    """A device that keeps what it gets, with the times."""

    def __init__(self, board: SimBoard) -> None:
        self.heard = b""
        self.times: list[float] = []
        self._clock = board.clock

    def receive(self, data: bytes) -> None:
        self.heard += data
        self.times.append(self._clock.now_ns() / 1e9 - 1)


@pytest.fixture(params=["socket", "terminal"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "terminal":
        monkeypatch.setattr(SimBoard, "serial_port_opened", Board.serial_port_opened)
    return str(request.param)


@pytest.fixture
def play(way: str) -> Iterator[Callable[[Main], Recorder]]:
    """Returns a function that runs a program with a port and its device."""
    before = set(os.listdir("/proc/self/fd"))

    def run(main: Main) -> Recorder:
        clock = hwloop.VirtualClock()
        with SimBoard({"device": []}, clock=clock) as board:
            port = board.add_port(NAME)
            device = Recorder(board)
            port.attach(device)

            async def whole() -> None:
                await main(board, port)
                await asyncio.sleep(0.1)  # the device hears what has been written at last

            hwloop.run(whole(), board=board, clock=clock, limit=60)
        return device

    yield run
    assert serialposix.os is os, "pyserial is not as it was"
    assert set(os.listdir("/proc/self/fd")) == before


def is_socket(source: serial.SerialPort) -> bool:
    return stat.S_ISSOCK(os.fstat(source.fileno()).st_mode)


def test_bytes_take_the_way_that_the_test_is_about(way: str, play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            assert is_socket(source) == (way == "socket")

    play(main)


def test_bytes_arrive_both_ways_at_their_times(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        loop = asyncio.get_running_loop()
        async with serial.open(NAME, 9600) as source:
            port.send(b"0123456789", 9600)
            first = await anext(source)
            second = await anext(source)
            assert (first.data, second.data) == (b"01234567", b"89")
            assert [frame.received_ns for frame in (first, second)] == pytest.approx([1_008_333_333, 1_010_416_667])
            source.write(b"a")
            await asyncio.sleep(0.5)
            source.write(b"b")
            await source.flush()
            assert loop.time() == pytest.approx(1.5 + 10 / 960)

    device = play(main)
    assert device.heard == b"ab"
    assert device.times == pytest.approx([10 / 960, 0.5 + 10 / 960])


def test_a_program_that_does_not_read_loses_what_its_buffer_does_not_hold(
    way: str, play: Callable[[Main], Recorder]
) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME, 9600) as source:
            port.send(bytes(5000), 115200)
            await stand_still(board, 1)
            if way == "socket":  # of a terminal, a thread of the kernel decides what is there by now
                assert (source.serial.in_waiting, port.dropped) == (4095, 905)
            source.discard()
            assert source.serial.in_waiting == 0
            port.send(b"next", 115200)
            assert (await anext(source)).data == b"next"

    play(main)


async def stand_still(board: SimBoard, seconds: float) -> None:
    """Let time pass while the loop stands."""
    board.clock.sleep(seconds)


def test_bytes_without_a_pace_wait_for_room(way: str, play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            port.send(bytes(200_000))
            await stand_still(board, 0.1)
            assert way == "terminal" or source.serial.in_waiting == 4095
            count = 0
            while count < 200_000:
                count += len((await anext(source)).data)
            assert port.dropped == 0

    play(main)


@pytest.mark.parametrize(("pieces", "size"), [(5000, 1), (300, 40), (1, 4000)])
def test_writes_of_any_size_find_room(play: Callable[[Main], Recorder], pieces: int, size: int) -> None:
    """pyserial waits in the kernel where there is no room, and no virtual time would pass meanwhile."""

    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            for number in range(pieces):
                assert source.serial.write(bytes([number % 256]) * size) == size

    assert play(main).heard == b"".join(bytes([number % 256]) * size for number in range(pieces))


@pytest.mark.parametrize("way", ["socket"], indirect=True)  # a terminal may not be writable by then
def test_as_many_bytes_as_a_terminal_takes_find_room_at_once(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            assert source.serial.write(bytes(20_000)) == 20_000
            source.write(bytes(1000))
            assert len(source._connected().output) == 520

    assert play(main).heard == bytes(21_000)


def test_a_large_write_waits_for_room(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            source.write(bytes(range(250)) * 1000)
            assert source.statistics().unsent == 0
            await source.flush()

    assert play(main).heard == bytes(range(250)) * 1000


def test_an_unplugged_port_reports_what_a_terminal_does(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            port.send(b"lost")
            source.serial.write(b"unheard")
            port.unplug()
            device = source._connected().device
            with pytest.raises(hwloop.HardwareError, match="writing failed: Input/output error") as caught:
                device.write(b"x")
            assert caught.value.errno == errno.EIO
            with pytest.raises(OSError, match="Input/output error"):
                source.serial.rts = False
            with pytest.raises(hwloop.HardwareError, match="reading failed: hang-up"):
                await anext(source)

    play(main)


@pytest.mark.parametrize("changed", [False, True])
def test_a_port_that_is_not_read_notices_that_it_is_unplugged(
    changed: bool, way: str, play: Callable[[Main], Recorder]
) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME, queue_size=1) as source:
            for _ in range(3):
                port.send(b"unread")
                await asyncio.sleep(0.1)
            assert way == "terminal" or source.serial.in_waiting == 6  # so nothing reads it
            if changed:
                source.serial.xonxoff = True
            port.unplug()
            await asyncio.sleep(0.1)
            assert isinstance(source.failure, hwloop.HardwareError)

    play(main)


def test_a_port_that_comes_back_is_opened_again(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME, reopen=hwloop.Backoff(0.1)) as source:
            for text in (b"one", b"two"):
                port.send(text)
                assert (await anext(source)).data == text
                port.unplug()
                await asyncio.sleep(0.5)
                port.replug()
                await asyncio.sleep(0.5)
                source.write(text)
                await asyncio.sleep(0.1)
                source.write(b"lost")  # unless the port is unplugged before the device has heard it
            assert source.statistics().reopened == 2

    assert play(main).heard == b"onetwolost"


def test_settings_that_change_bytes_have_the_terminal_do_so(way: str, play: Callable[[Main], Recorder]) -> None:
    """XON and XOFF are for the terminal. Bytes on the way, in both directions, are not lost."""

    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            port.send(b"before ")
            source.write(b"written ")
            source.serial.xonxoff = True
            assert not is_socket(source)
            port.send(b"af\x11ter")
            await asyncio.sleep(0.1)
            assert source.serial.in_waiting == 0
            data = b""
            while len(data) < 12:
                data += (await anext(source)).data
            assert data == b"before after"
            source.write(b"later")
            source.serial.xonxoff = False
            await source.flush()

    assert play(main).heard == b"written later"


def test_settings_are_those_of_the_terminal(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME, 9600, parity="E", stopbits=2) as source:
            assert port.settings is not None
            assert (port.settings.baudrate, port.settings.parity, port.settings.stopbits) == (9600, "E", 2)
            source.serial.baudrate = 19200
            source.serial.bytesize = 7
            assert (port.settings.baudrate, port.settings.bytesize) == (19200, 7)
            assert (port.dtr, port.rts) == (True, True)
            source.serial.rts = False
            assert (port.dtr, port.rts) == (True, False)
            port.set_modem_lines(cts=True)
            assert source.serial.cts
            source.serial.send_break(0)
            source.serial.flush()
            port.send(b"x")
            source.serial.reset_input_buffer()
            source.serial.reset_output_buffer()
            assert source.serial.in_waiting == source.serial.out_waiting == 0
        assert port.settings is None
        assert (port.dtr, port.rts) == (False, False)

    play(main)


def test_a_second_program_is_kept_out_or_shares_the_port(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            with pytest.raises(hwloop.HardwareError, match="busy"):
                serial.open(NAME).open()
            port.send(b"still here")
            assert (await anext(source)).data == b"still here"
        async with serial.open(NAME, exclusive=False) as source, serial.open(NAME, exclusive=False) as other:
            source.write(b"one ")
            other.write(b"two")
            await asyncio.sleep(0.1)
            assert port.bytes_in == 7
            port.send(b"for one of them")
            done, waiting = await asyncio.wait(
                [asyncio.ensure_future(anext(each)) for each in (source, other)], return_when="FIRST_COMPLETED"
            )
            assert [task.result().data for task in done] == [b"for one of them"]
            for task in waiting:
                task.cancel()

    assert play(main).heard == b"one two"


def test_a_slow_device_takes_bytes_at_its_pace(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        end = port.read_slowly(1000)
        async with serial.open(NAME) as source:
            source.write(bytes(2000))
            await asyncio.sleep(1)
            assert 900 < port.bytes_in < 1100
            end()
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            assert port.bytes_in == 2000

    play(main)


def test_a_closed_port_can_be_opened_again_and_again(play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        open_files = 0
        for number in range(20):
            async with serial.open(NAME) as source:
                source.write(b"%d " % number)
                port.send(b"unread")
            if number == 1:
                open_files = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) == open_files

    assert play(main).heard == b"".join(b"%d " % number for number in range(20))


def test_a_transport_has_the_same_way(way: str, play: Callable[[Main], Recorder]) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        reader, writer = await serial.open_serial_connection(url=NAME, baudrate=9600)
        port.send(b"hello\n", 9600)
        assert await reader.readline() == b"hello\n"
        writer.write(b"there")
        await writer.drain()
        instance = writer.get_extra_info("serial")
        assert stat.S_ISSOCK(os.fstat(instance.fileno()).st_mode) == (way == "socket")
        port.send(b"unread", 9600)
        await stand_still(board, 0.1)
        instance.reset_input_buffer()
        assert instance.in_waiting == 0
        port.send(b"read\n", 9600)
        assert await reader.readline() == b"read\n"
        writer.close()
        await writer.wait_closed()

    assert play(main).heard == b"there"


def test_another_open_file_of_the_port_still_leads_to_the_device(play: Callable[[Main], Recorder]) -> None:
    """Bytes that another program writes to the terminal reach the device when the port is closed, at the latest."""

    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            other = os.open(port.path, os.O_RDWR | os.O_NOCTTY)
            os.write(other, b"from beside ")
            source.write(b"from here ")
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        os.close(other)

    assert sorted(play(main).heard.split()) == [b"beside", b"from", b"from", b"here"]


def test_no_socket_replaces_the_terminal_of_a_program_with_pyserial_alone() -> None:
    """It may use termios on the descriptor by itself."""
    clock = hwloop.VirtualClock()
    with SimBoard({"device": []}, clock=clock) as board:
        port = board.add_port(NAME)
        with pyserial.Serial(port.path) as program:
            assert os.isatty(program.fd)
            attributes = termios.tcgetattr(program.fd)
            attributes[0] |= termios.PARMRK
            termios.tcsetattr(program.fd, termios.TCSANOW, attributes)
            assert fcntl.ioctl(program.fd, termios.FIONREAD, bytes(4)) == bytes(4)


def test_no_socket_replaces_a_terminal_in_real_time() -> None:
    async def main() -> None:
        async with serial.open(NAME) as source:
            assert os.isatty(source.fileno())

    with SimBoard({"device": []}) as board:
        board.add_port(NAME)
        hwloop.run(main(), board=board)


def test_a_descriptor_that_was_closed_behind_pyserial_harms_nobody(play: Callable[[Main], Recorder]) -> None:
    """Its number belongs to another file by then. The board wrote to a socket that was closed, again and again."""

    async def main(board: SimBoard, port: Port) -> None:
        source = serial.open(NAME).open()
        source.serial.write(b"before")
        number = source.fileno()
        os.close(number)
        assert os.open(os.devnull, os.O_RDWR) == number
        await asyncio.sleep(0.1)
        source.close()  # pyserial closes the number
        port.send(b"unheard")
        await asyncio.sleep(0.1)
        async with serial.open(NAME) as source:
            source.serial.write(b" after")
            port.send(b"heard")
            assert (await anext(source)).data == b"heard"

    assert play(main).heard == b"before after"


@pytest.mark.parametrize(
    "closed", [serial.SerialPort.close, lambda source: source.serial.close()], ids=["port", "pyserial"]
)
def test_a_forked_child_that_closes_the_port_takes_no_bytes_from_its_parent(
    closed: Callable[[serial.SerialPort], object], play: Callable[[Main], Recorder]
) -> None:
    async def main(board: SimBoard, port: Port) -> None:
        async with serial.open(NAME) as source:
            port.send(b"for the parent")
            source.serial.write(b"from the parent")
            if not (child := os.fork()):
                status = 1
                try:
                    closed(source)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert (await anext(source)).data == b"for the parent"

    assert play(main).heard == b"from the parent"
