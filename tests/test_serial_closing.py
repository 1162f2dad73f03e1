"""The end of a serial port whose device takes bytes slowly, or none."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Iterator

import pytest
from serial import serialposix

import hwloop
from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop import HardwareError, serial

NAME = "/dev/ttyUSB0"
DATA = bytes(300_000)
TIOCGEXCL = 0x80045440  # ioctl_tty(2)


class Device:
    def __init__(self, port: Port) -> None:
        self.heard = 0
        port.attach(self)

    def receive(self, data: bytes) -> None:
        self.heard += len(data)


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard(clock=hwloop.VirtualClock()) as board:
        board.add_port(NAME)
        yield board


@pytest.fixture
def device(board: SimBoard) -> Device:
    return Device(board.ports[NAME])


async def leave_block() -> int:
    async with serial.open(NAME, 115200) as port:
        port.write(DATA)
    return port.unsent


async def close_stream() -> int:
    _, writer = await serial.open_serial_connection(url=NAME, baudrate=115200)
    writer.write(DATA)
    writer.close()
    await writer.wait_closed()
    return 0


def run(board: SimBoard, main: object) -> object:
    return hwloop.run(main, board=board, clock=board.clock)  # type: ignore[arg-type]


def test_leaving_the_block_drops_the_bytes_that_the_device_does_not_take(
    board: SimBoard, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    board.faults.inject("serial-slow-reader", port=NAME, rate=0.01)
    unsent = run(board, leave_block())
    assert unsent
    [message] = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert message.startswith(f"{NAME}: the device took no byte for 30 s while the port was closed, and {unsent} are ")


def test_closing_a_stream_drops_the_bytes_that_the_device_does_not_take(board: SimBoard, device: Device) -> None:
    board.faults.inject("serial-slow-reader", port=NAME, rate=0.01)
    with pytest.raises(
        HardwareError, match=r"the device took no byte for 30 s while the port was closed, and \d+ are "
    ):
        run(board, close_stream())


@pytest.mark.parametrize("end", [leave_block, close_stream])
def test_a_device_that_goes_on_taking_bytes_gets_all(board: SimBoard, device: Device, end: object) -> None:
    board.faults.inject("serial-slow-reader", port=NAME, rate=4000)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await end() == 0  # type: ignore[operator]
        took = loop.time() - began
        await asyncio.sleep(1000)
        return took

    took = run(board, main())
    assert device.heard == len(DATA)
    assert took > 60  # type: ignore[operator]  # more than a stall may last


def test_a_forked_child_leaves_lock_and_unsent_bytes_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serial.open(NAME, 9600) as port:
            if not (child := os.fork()):
                status = 1
                try:
                    monkeypatch.setattr(port._connected().device, "out_waiting", lambda: 1)
                    monkeypatch.setattr(serialposix.termios, "tcflush", lambda *arguments: os._exit(2))
                    port.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert fcntl.ioctl(port.fileno(), TIOCGEXCL, bytes(4)) == (1).to_bytes(4, sys.byteorder)

    with SimBoard() as board:
        board.add_port(NAME)
        hwloop.run(main(), board=board)
