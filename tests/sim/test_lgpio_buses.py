"""lgpio's functions for I2C, SPI and serial ports, on the simulated buses and ports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.bus import I2cDevice, Nack, RegisterDevice
from firmware_sim.spi import SpiDevice


class Block(I2cDevice):
    """Answers with the length and the bytes that it got last."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.answer = b""

    def write(self, data: bytes) -> None:
        self.got.append(data)
        self.answer = data[1:]

    def read(self, count: int) -> bytes:
        taken, self.answer = self.answer[:count], self.answer[count:]
        return taken


class Full(I2cDevice):
    def write(self, data: bytes) -> None:
        if len(data) > 1:
            raise Nack


class Inverter(SpiDevice):
    modes = (1,)

    def transfer(self, sent: bytes) -> bytes:
        return bytes(byte ^ 0xFF for byte in sent)


class Peer:
    def __init__(self) -> None:
        self.got = b""
        self.complete = threading.Event()

    def receive(self, data: bytes) -> None:
        self.got += data
        if len(self.got) == 3:
            self.complete.set()


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board:
        yield board


@pytest.fixture
def lgpio(board: SimBoard) -> Iterator[ModuleType]:
    with imports.led_to(board):
        lgpio = sys.modules["lgpio"]
        lgpio.exceptions = False
        yield lgpio


def test_smbus_calls_reach_the_registers_of_a_device(board: SimBoard, lgpio: ModuleType) -> None:
    device = RegisterDevice()
    board.bus(1).attach(0x40, device)
    handle = lgpio.i2c_open(1, 0x40)
    assert lgpio.i2c_write_byte_data(handle, 5, 0xC5) == 0
    assert lgpio.i2c_write_word_data(handle, 6, 0xA0C6) == 0
    assert lgpio.i2c_read_byte_data(handle, 5) == 0xC5
    assert lgpio.i2c_read_word_data(handle, 6) == 0xA0C6
    assert lgpio.i2c_write_byte(handle, 7) == 0
    assert [lgpio.i2c_read_byte(handle), lgpio.i2c_read_byte(handle)] == [0xA0, 0]
    assert lgpio.i2c_process_call(handle, 200, 0x1234) == 0
    assert device.registers[200:202] == b"\x34\x12"
    assert lgpio.i2c_write_i2c_block_data(handle, 10, "abc") == 0
    assert lgpio.i2c_read_i2c_block_data(handle, 9, 32) == [32, bytearray(b"\0abc".ljust(32, b"\0"))]
    assert lgpio.i2c_write_device(handle, [10, 1]) == 0
    assert lgpio.i2c_read_device(handle, 2) == [2, bytearray(b"bc")]
    assert lgpio.i2c_write_quick(handle, 0) == lgpio.i2c_write_quick(handle, 1) == 0
    assert lgpio.i2c_close(handle) == 0
    assert lgpio.i2c_read_byte(handle) == lgpio.BAD_HANDLE


def test_blocks_carry_their_length(board: SimBoard, lgpio: ModuleType) -> None:
    device = Block()
    board.bus(1).attach(0x41, device)
    handle = lgpio.i2c_open(1, 0x41)
    assert lgpio.i2c_write_block_data(handle, 3, b"xyz") == 0
    assert device.got == [b"\x03\x03xyz"]
    device.answer = b""
    assert lgpio.i2c_block_process_call(handle, 4, b"pq") == [2, bytearray(b"pq")]
    assert lgpio.i2c_read_block_data(handle, 5) == [lgpio.I2C_READ_FAILED, bytearray()]  # no length: the line is high


def test_a_device_that_is_absent_or_rejects_fails_as_in_lgpio(board: SimBoard, lgpio: ModuleType) -> None:
    board.bus(1).attach(0x42, Full())
    absent, full = lgpio.i2c_open(1, 0x50), lgpio.i2c_open(1, 0x42)
    assert lgpio.i2c_read_byte(absent) == lgpio.I2C_READ_FAILED
    assert lgpio.i2c_write_byte(absent, 1) == lgpio.I2C_WRITE_FAILED
    assert lgpio.i2c_write_quick(absent, 0) == lgpio.I2C_WRITE_FAILED
    assert lgpio.i2c_read_device(absent, 2) == [lgpio.I2C_READ_FAILED, bytearray()]
    assert lgpio.i2c_write_byte_data(full, 1, 2) == lgpio.I2C_WRITE_FAILED
    assert lgpio.i2c_zip(absent, [4, 1, 0]) == [lgpio.BAD_I2C_SEG, bytearray()]
    assert lgpio.i2c_open(2, 0x42) == lgpio.BAD_I2C_BUS
    lgpio.exceptions = True
    with pytest.raises(lgpio.error, match=r"^'i2c read failed'$"):
        lgpio.i2c_read_byte(absent)


def test_zip_makes_one_transfer_of_several_messages(board: SimBoard, lgpio: ModuleType) -> None:
    first, second = RegisterDevice(), RegisterDevice()
    first.registers[0x32:0x38], second.registers[3:5] = b"abcdef", b"XY"
    board.bus(1).attach(0x53, first)
    board.bus(1).attach(0x1E, second)
    handle = lgpio.i2c_open(1, 0x53)
    before = board.bus(1).transfers
    program = [2, 0x53, 5, 1, 0x32, 4, 6, 2, 0x1E, 5, 1, 3, 4, 2, 0]
    assert lgpio.i2c_zip(handle, program) == [8, bytearray(b"abcdefXY")]
    assert board.bus(1).transfers == before + 1
    assert lgpio.i2c_zip(handle, [5, 1, 0x32, 1, 4, 2, 0, 0]) == [2, bytearray(b"ab")]  # escape: a count of two bytes
    for wrong, status in (
        ([9, 0], lgpio.BAD_I2C_CMD),
        ([4], lgpio.BAD_I2C_RLEN),
        ([1, 4, 0xE8, 3, 0], lgpio.BAD_I2C_RLEN),
        ([5, 2, 0x32, 0], lgpio.BAD_I2C_WLEN),
        ([5, 1, 0x32], lgpio.BAD_I2C_WLEN),
        ([3, 0x10, 0, 4, 1, 0], lgpio.BAD_I2C_SEG),
        ([2], lgpio.BAD_I2C_CMD),
    ):
        assert lgpio.i2c_zip(handle, wrong) == [status, bytearray()], wrong


def test_spi_transfers_reach_the_device_in_the_mode_that_was_chosen(board: SimBoard, lgpio: ModuleType) -> None:
    board.spi_bus(0).attach(1, Inverter())
    right, wrong, empty = lgpio.spi_open(0, 1, 50_000, 1), lgpio.spi_open(0, 1, 50_000), lgpio.spi_open(0, 0, 0)
    assert lgpio.spi_xfer(right, [1, 128, 0]) == [3, bytearray(b"\xfe\x7f\xff")]
    assert lgpio.spi_read(right, 2) == [2, bytearray(b"\xff\xff")]
    assert lgpio.spi_write(right, b"abc") == 3
    assert lgpio.spi_xfer(wrong, [1, 128, 0]) != [3, bytearray(b"\xfe\x7f\xff")]
    assert lgpio.spi_read(empty, 2) == [2, bytearray(2)]
    assert lgpio.spi_write(right, bytes(4097)) == lgpio.SPI_XFER_FAILED
    assert lgpio.spi_open(1, 0, 50_000) == lgpio.spi_open(0, 2, 50_000) == lgpio.SPI_OPEN_FAILED
    assert lgpio.spi_close(right) == 0
    board.spi_bus(0).close()
    assert lgpio.spi_write(empty, b"a") == lgpio.SPI_XFER_FAILED


def test_a_serial_port_of_the_board_is_opened_by_its_name(board: SimBoard, lgpio: ModuleType) -> None:
    board.add_port("/dev/ttyAMA0").attach(peer := Peer())
    handle = lgpio.serial_open("/dev/ttyAMA0", 19200)
    assert lgpio.serial_write(handle, b"\r\n\x03") == 0
    assert peer.complete.wait(5)
    assert peer.got == b"\r\n\x03"  # raw: nothing is translated, and Ctrl-C is a byte
    assert lgpio.serial_open("/dev/ttyS7", 9600) == lgpio.SERIAL_OPEN_FAILED
    # Closed with the board, which the fixture that counts descriptors sees.


def test_handles_of_all_kinds_are_numbered_together_and_not_confused(board: SimBoard, lgpio: ModuleType) -> None:
    chip, device = lgpio.gpiochip_open(0), lgpio.i2c_open(1, 0x40)
    assert (chip, device) == (1, 2)
    assert lgpio.i2c_read_byte(chip) == lgpio.gpio_read(device, 17) == lgpio.spi_close(device) == lgpio.BAD_HANDLE
    lgpio.gpiochip_close(chip)
    assert lgpio.spi_open(0, 0, 1000) == 1
