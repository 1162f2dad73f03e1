"""The simulated `spidev` module and /dev/spidevB.C, as programs use them."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import struct
import sys
import types

import pytest

import firmware_sim.imports
import hwloop
from firmware_sim import SimBoard
from firmware_sim.spi_device import SpiDevice


class Chip(SpiDevice):
    """Answers each byte with its complement."""

    def __init__(self):
        self.sent = []
        self.selections = 0

    def begin(self):
        self.selections += 1

    def transfer(self, sent):
        self.sent.append(sent)
        return bytes(255 - byte for byte in sent)


@pytest.fixture
def board():
    with SimBoard(clock=hwloop.VirtualClock()) as board:
        yield board


@pytest.fixture
def chip(board):
    chip = Chip()
    board.spi_bus(0).attach(1, chip)
    return chip


@pytest.fixture
def spidev(board, chip):
    with firmware_sim.imports.led_to(board):
        import spidev

        yield spidev


@pytest.fixture
def device(spidev):
    with spidev.SpiDev(0, 1) as device:
        device.max_speed_hz = 1_000_000
        yield device


def test_lists_and_tuples_come_back_as_what_they_were(device, chip):
    values = [1, 2, 0x1FF]
    assert device.xfer2(values) is values
    assert values == [254, 253, 0]
    assert device.xfer((1, 2)) == (254, 253)
    assert device.xfer2(b"\x01") == [254]
    assert device.xfer3([5, 6]) == (250, 249)
    assert chip.sent == [b"\x01\x02\xff", b"\x01\x02", b"\x01", b"\x05\x06"]


def test_bytes_are_read_and_written(device, chip):
    assert device.readbytes(3) == [255, 255, 255]
    assert device.readbytes(0) == [255]
    device.writebytes([1, 2])
    device.writebytes2([3, 4])
    device.writebytes2(array.array("H", [0x0605]))
    assert chip.sent == [bytes(3), bytes(1), b"\x01\x02", b"\x03\x04", b"\x05\x06"]


def test_long_data_is_cut_where_spidev_cuts_it(device, chip):
    assert device.xfer3(bytes(10_000)) == (255,) * 10_000
    device.writebytes2(bytes(5000))
    assert [len(sent) for sent in chip.sent] == [4096, 4096, 1808, 4096, 904]
    assert chip.selections == 5
    assert len(device.readbytes(5000)) == 4096
    for call in (device.xfer, device.xfer2, device.writebytes):
        with pytest.raises(OverflowError, match=r"^Argument list size exceeds 4096 bytes\.$"):
            call([0] * 4097)


@pytest.mark.parametrize("method", ["xfer", "xfer2", "xfer3", "writebytes", "writebytes2"])
def test_wrong_arguments_raise_as_in_spidev(device, method):
    call = getattr(device, method)
    with pytest.raises(TypeError, match="expected a sequence"):
        call(5)
    with pytest.raises(TypeError, match=r"Empty argument list\."):
        call([])
    with pytest.raises(TypeError, match="Non-Int/Long value in arguments"):
        call([1, "2"])


def test_settings_are_kept_and_read_back(device, board):
    device.mode, device.cshigh, device.no_cs, device.threewire = 3, True, True, True
    assert (device.mode, device.cshigh, device.no_cs, device.threewire) == (3, True, True, True)
    device.mode, device.no_cs = 0, False
    assert (device.mode, device.cshigh, device.lsbfirst, device.loop) == (0, True, False, False)
    device.bits_per_word = 8
    assert (device.bits_per_word, device.max_speed_hz, device.read0) == (8, 1_000_000, False)
    device.read0 = True
    assert device.read0
    device.close()
    device.open_path("/dev/spidev0.1")  # the kernel's device keeps them
    assert (device.mode, device.cshigh, device.max_speed_hz) == (0, True, 1_000_000)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", 4, "The mode attribute must be an integerbetween 0 and 3"),
        ("mode", "0", "The mode attribute must be an integer"),
        ("max_speed_hz", 1e6, "The max_speed_hz attribute must be an integer"),
        ("bits_per_word", 7, "invalid bits_per_word"),
        ("bits_per_word", 8.0, "The bits_per_word attribute must be an integer"),
        ("cshigh", 1, "The cshigh attribute must be boolean"),
        ("threewire", 1, "The 3wire attribute must be boolean"),
        ("read0", 1, "The read0 attribute must be boolean"),
    ],
)
def test_wrong_settings_raise_as_in_spidev(device, name, value, message):
    with pytest.raises(TypeError, match=message):
        setattr(device, name, value)


@pytest.mark.parametrize(
    ("name", "value"), [("lsbfirst", True), ("loop", True), ("bits_per_word", 9), ("max_speed_hz", 0)]
)
def test_the_kernel_rejects_settings_that_the_controller_of_a_pi_lacks(device, name, value):
    before = getattr(device, name)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EINVAL}\]"):
        setattr(device, name, value)
    assert getattr(device, name) == before


def test_a_transfer_may_have_its_own_speed_and_a_delay(device, chip, board):
    chip.max_speed = 2_000_000
    before = board.clock.now_ns()
    assert device.xfer2([0], 2_000_000, 100) == [255]
    assert board.clock.now_ns() - before == 4_000 + 100_000
    assert device.xfer2([0], 2_000_001) == [0x7F]
    with pytest.raises(OSError, match="Invalid"):
        device.xfer2([0], 0, 0, 16)


def test_a_closed_device_is_a_bad_descriptor(spidev):
    device = spidev.SpiDev()
    assert device.fileno() == -1
    device.close()
    for call in (lambda: device.xfer2([1]), lambda: device.readbytes(1), lambda: setattr(device, "mode", 1)):
        with pytest.raises(OSError, match=rf"\[Errno {errno.EBADF}\]"):
            call()


def test_a_missing_device_names_those_of_the_board(spidev):
    with pytest.raises(FileNotFoundError, match=r"its SPI devices are: spidev0\.0, spidev0\.1: '/dev/spidev2\.0'"):
        spidev.SpiDev(2, 0)


def test_the_module_is_like_the_real_one(spidev):
    assert spidev.__name__ == "spidev"
    assert repr(spidev.SpiDev) == "<class 'spidev.SpiDev'>"

    class Mine(spidev.SpiDev):
        pass

    with Mine(bus=0, client=1) as device:
        assert device.fileno() >= 0


def test_a_program_that_keeps_the_module_reaches_the_board_in_use(board, spidev, monkeypatch):
    kept, kept_class = spidev, spidev.SpiDev
    monkeypatch.setitem(sys.modules, "spidev", real := types.ModuleType("spidev"))
    real.SpiDev = object
    with SimBoard(clock=hwloop.VirtualClock()) as other:
        other.spi_bus(0).attach(0, chip := Chip())
        with firmware_sim.imports.led_to(other):
            for opened in (kept.SpiDev(0, 0), kept_class(0, 0), real.SpiDev(0, 0)):
                with opened:
                    opened.max_speed_hz = 1_000_000
                    assert opened.xfer2([1]) == [254]
            assert len(chip.sent) == 3
    assert real.SpiDev is object
    with kept.SpiDev(0, 1) as device:
        device.max_speed_hz = 1_000_000
        assert device.xfer2([1]) == [254]


# The node, for programs that call ioctl themselves.

TRANSFER = struct.Struct("<QQIIHBBBBBx")  # struct spi_ioc_transfer


def message(*transfers):
    """Return the number of SPI_IOC_MESSAGE and its argument."""
    packed = b"".join(TRANSFER.pack(*transfer) for transfer in transfers)
    return 0x40006B00 | len(packed) << 16, bytearray(packed)


@pytest.fixture
def node(spidev):
    fd = os.open("/dev/spidev0.1", os.O_RDWR)
    fcntl.ioctl(fd, 0x40046B04, struct.pack("<I", 1_000_000))
    yield fd
    os.close(fd)


def test_several_transfers_of_one_message_are_one_selection(node, chip):
    sent, received = ctypes.create_string_buffer(b"\x01\x02", 2), ctypes.create_string_buffer(4)
    first = (ctypes.addressof(sent), 0, 2, 0, 0, 0, 0, 0, 0, 0)
    second = (0, ctypes.addressof(received), 4, 500_000, 10, 8, 0, 0, 0, 0)
    assert fcntl.ioctl(node, *message(first, second)) == 6
    assert received.raw == b"\xff" * 4
    assert (chip.sent, chip.selections) == ([b"\x01\x02", bytes(4)], 1)
    assert fcntl.ioctl(node, *message((*first[:6], 1, 0, 0, 0), second)) == 6
    assert chip.selections == 3


def test_settings_are_those_of_the_ioctls(node):
    for number, size, value in ((1, 1, 3), (5, 4, 0x43), (3, 1, 8), (4, 4, 250_000)):
        fcntl.ioctl(node, 0x40006B00 | size << 16 | number, value.to_bytes(size, "little"))
        answer = bytearray(size)
        fcntl.ioctl(node, 0x80006B00 | size << 16 | number, answer)
        assert int.from_bytes(answer, "little") == value
    assert fcntl.ioctl(node, 0x80016B02, bytes(1)) == b"\0"


def test_plain_reads_and_writes_are_transfers(node, chip):
    assert os.write(node, b"\x01\x02") == 2
    assert os.read(node, 3) == b"\xff" * 3
    assert chip.sent == [b"\x01\x02", bytes(3)]


@pytest.mark.parametrize(
    ("request_number", "argument", "number"),
    [
        (0x40016B02, b"\x01", errno.EINVAL),  # the lowest bit first
        (0x40016B03, b"\x09", errno.EINVAL),
        (0x40046B04, bytes(4), errno.EINVAL),
        (0x40086B00, bytearray(8), errno.EINVAL),  # no whole transfer
        (0x40016B09, b"\x01", errno.ENOTTY),
        (0x40026B01, b"\x01\x00", errno.ENOTTY),
        (0x0703, 0, errno.ENOTTY),
        (*message((0, 0, 4097, 0, 0, 0, 0, 0, 0, 0)), errno.EMSGSIZE),
    ],
)
def test_the_node_rejects_the_requests_that_the_kernel_rejects(node, request_number, argument, number):
    with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
        fcntl.ioctl(node, request_number, argument)
