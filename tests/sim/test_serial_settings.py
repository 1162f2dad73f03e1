"""Line settings and modem lines of simulated ports, as pyserial sets them and as the device sees them."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop import SimLoop, VirtualClock
from hwloop.board import using
from hwloop.errors import HardwareError
from hwloop.sources import Backoff, serial
from hwloop.trace_events import SerialSettings

pyserial = pytest.importorskip("serial")
import serial.serialposix as serialposix  # noqa: E402

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyUSB0"
PARITIES = ("N", "E", "O", "M", "S")


class Arduino:
    """A device that notes DTR and RTS each time one of them changes."""

    def __init__(self, port: Port) -> None:
        self.lines: list[tuple[bool, bool]] = []
        port.attach(self)

    def receive(self, data: bytes) -> None:
        pass

    def modem_lines(self, dtr: bool, rts: bool) -> None:
        self.lines.append((dtr, rts))


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, using(board):
        yield board


@pytest.fixture
def port(board: SimBoard) -> Port:
    return board.add_port(NAME)


@pytest.mark.parametrize("bytesize", [5, 6, 7, 8])
def test_every_setting_is_taken_again_and_again_and_the_device_sees_it(port: Port, bytesize: int) -> None:
    for parity, stopbits in itertools.product(PARITIES, (1, 1.5, 2)):
        for _ in range(2):
            with pyserial.Serial(port.path, 19200, bytesize, parity, stopbits):
                assert port.settings == SerialSettings(19200, bytesize, parity, 1 if stopbits == 1 else 2)
                assert port.settings.bits == 1 + bytesize + (parity != "N") + (1 if stopbits == 1 else 2)
            assert port.settings is None


def test_settings_change_while_the_port_is_open(port: Port) -> None:
    with pyserial.Serial(port.path, 9600) as program:
        for parity, bytesize, rate in [("E", 7, 9600), ("E", 7, 250000), ("O", 8, 250000), ("N", 8, 31250)]:
            program.parity, program.bytesize, program.baudrate = parity, bytesize, rate
            assert port.settings == SerialSettings(rate, bytesize, parity, 1)
        program.apply_settings({"parity": "M", "bytesize": 8, "stopbits": 2, "baudrate": 1200})
        assert port.settings == SerialSettings(1200, 8, "M", 2)
        port.send(b"\xff\x80")
        assert program.read(2) == b"\xff\x80"


def test_a_replugged_port_takes_them_too(port: Port) -> None:
    for _ in range(2):
        with pyserial.Serial(port.path, parity="E"):
            port.unplug()
            assert port.settings is None
        port.replug()


def test_pyserial_is_its_own_again_when_the_boards_are_closed(port: Port, board: SimBoard) -> None:
    with SimBoard() as other:
        path = other.add_port(NAME).path
        pyserial.Serial(path, parity="E").close()
        assert serialposix.os is not os
    board.close()
    assert serialposix.os is os
    assert serialposix.termios.__name__ == "termios"


def test_a_port_of_the_machine_is_left_alone(port: Port) -> None:
    assert port.path  # from here on pyserial's calls are led to the board
    master, slave = os.openpty()
    try:
        with pyserial.Serial(os.ttyname(slave)) as program:
            os.write(master, b"x")
            assert program.read() == b"x"
            with pytest.raises(OSError, match="ioctl") as caught:
                program.dtr = True
            assert caught.value.errno == errno.ENOTTY
    finally:
        os.close(master)
        os.close(slave)


class TestModemLines:
    def test_they_rise_when_the_port_is_opened_then_are_as_asked_and_fall_at_the_end(
        self, run: Run, board: SimBoard, port: Port
    ) -> None:
        device = Arduino(port)

        async def main() -> None:
            async with serial.open(NAME, dtr=False, rts=False) as source:
                assert (source.serial.dtr, source.serial.rts, port.dtr, port.rts) == (False,) * 4
            async with serial.open(NAME, dtr=False) as source:
                assert (port.dtr, port.rts) == (False, True)
                source.serial.dtr = True
                assert port.dtr
            async with serial.open(NAME):
                assert (port.dtr, port.rts) == (True, True)
            assert (port.dtr, port.rts) == (False, False)

        run(main())
        with board.timeline.lock:
            board.timeline.run_due()
            seen = device.lines[:]
        # As on Linux: the kernel raises both, and pyserial lowers DTR first, then RTS.
        assert seen[:3] == [(True, True), (False, True), (False, False)]
        assert seen[3:7] == [(True, True), (False, True), (True, True), (False, False)]
        assert seen[7:] == [(True, True), (False, False)]

    @pytest.mark.parametrize("opening", ["transport", "streams"])
    def test_connections_take_them_too(self, run: Run, port: Port, opening: str) -> None:
        async def main() -> None:
            if opening == "streams":
                _, writer = await serial.open_serial_connection(url=NAME, dtr=False, rts=True)
                transport = writer.transport
            else:
                loop = asyncio.get_running_loop()
                transport, _ = await serial.create_serial_connection(loop, asyncio.Protocol, NAME, dtr=False, rts=True)
            assert (port.dtr, port.rts) == (False, True)
            transport.close()
            await asyncio.sleep(0.01)
            assert (port.dtr, port.rts) == (False, False)

        run(main())

    def test_they_are_as_asked_after_reopening(self, run: Run, port: Port) -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            async with serial.open(NAME, dtr=False, rts=False, reopen=Backoff(initial=0.001)) as source:
                port.unplug()
                while source.fileno() >= 0:
                    await asyncio.sleep(0.001)
                port.replug()
                while source.fileno() < 0:
                    await asyncio.sleep(0.001)
                assert (port.dtr, port.rts) == (False, False)

        run(main())

    def test_the_device_drives_what_the_program_reads(self, port: Port) -> None:
        with pyserial.Serial(port.path) as program:
            assert (program.cts, program.dsr, program.cd, program.ri) == (False,) * 4
            port.set_modem_lines(cts=True, ri=True)
            assert (program.cts, program.dsr, program.cd, program.ri) == (True, False, False, True)
            port.set_modem_lines(cts=False, cd=True)
            assert (program.cts, program.dsr, program.cd, program.ri) == (False, False, True, True)
        with pytest.raises(TypeError, match="no input 'dtr'; its inputs are cts, dsr, cd, ri"):
            port.set_modem_lines(dtr=True)

    def test_in_virtual_time_a_device_answers_to_them(self) -> None:
        clock = VirtualClock()

        class Boot(Arduino):
            def modem_lines(self, dtr: bool, rts: bool) -> None:
                super().modem_lines(dtr, rts)
                if dtr:
                    board.timeline.after(2.0, lambda: port.send(b"ready\n"))

        async def main() -> float:
            loop = asyncio.get_running_loop()
            before = loop.time()
            async with serial.open(NAME, framing=serial.Lines) as source:
                assert (await anext(source)).data == b"ready"
            return loop.time() - before

        with SimBoard(clock=clock) as board, using(board):
            port = board.add_port(NAME)
            Boot(port)
            with asyncio.Runner(loop_factory=lambda: SimLoop(clock=clock)) as runner:
                assert runner.run(main()) == pytest.approx(2.0, abs=0.01)

    def test_a_pseudo_terminal_of_the_machine_has_none_and_opens_all_the_same(self, run: Run) -> None:
        master, slave = os.openpty()

        async def main() -> None:
            with using("linux"):
                async with serial.open(os.ttyname(slave), dtr=False, rts=False) as source:
                    assert (source.serial.dtr, source.serial.rts) == (False, False)

        try:
            run(main())
        finally:
            os.close(master)
            os.close(slave)


class TestUrls:
    """A URL that names a port leads to the board's, never past it."""

    @pytest.mark.parametrize("url", ["spy://{}", "alt://{}?class=PosixPollSerial"])
    def test_the_port_in_it_is_the_boards(self, run: Run, port: Port, url: str) -> None:
        async def main() -> None:
            reader, writer = await serial.open_serial_connection(url=url.format(NAME), parity="E")
            port.send(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
            await writer.wait_closed()

        run(main())

    @pytest.mark.parametrize("url", ["spy:///dev/ttyS0", "hwgrep://.", "/dev/ttyS0"])
    def test_opening_a_port_of_the_machine_raises(self, run: Run, port: Port, url: str) -> None:
        async def main() -> None:
            with pytest.raises(HardwareError):
                await serial.open_serial_connection(url=url)

        run(main())
