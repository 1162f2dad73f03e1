"""The simulated I2C bus, seen through smbus2's own SMBus."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import smbus2
import smbus2.smbus2 as smbus2_module

import firmware_sim
from firmware_sim import Connections, Device, SimBoard, WiringError
from firmware_sim.bus import Bus, I2cDevice, Nack, RegisterDevice
from firmware_sim.timeline import Timeline
from hwloop import HardwareError
from hwloop import board as boards

ADDRESS = 0x40
Transaction = Callable[[smbus2.SMBus], object]


class Recorder(I2cDevice):
    """Notes the messages on the wire and answers 5, 6, 7, …"""

    def __init__(self) -> None:
        self.seen: list[bytes | int] = []
        self.fails: BaseException | None = None

    def write(self, data: bytes) -> None:
        if self.fails:
            raise self.fails
        self.seen.append(data)

    def read(self, count: int) -> bytes:
        self.seen.append(count)
        return bytes(range(5, 5 + count))


@pytest.fixture
def bus() -> Bus:
    return Bus(1, Timeline(), clock=10_000_000)


@pytest.fixture
def recorder(bus: Bus) -> Recorder:
    recorder = Recorder()
    bus.attach(ADDRESS, recorder)
    return recorder


@pytest.fixture
def smbus(bus: Bus) -> Iterator[smbus2.SMBus]:
    with contextlib.closing(bus.open()) as smbus:
        yield smbus


def fails_with(number: int) -> Any:
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


@pytest.mark.parametrize(
    ("transaction", "answer", "messages"),
    [
        (lambda s: s.write_quick(ADDRESS), None, [b""]),
        (lambda s: s.read_byte(ADDRESS), 5, [1]),
        (lambda s: s.write_byte(ADDRESS, 9), None, [b"\x09"]),
        (lambda s: s.read_byte_data(ADDRESS, 0x10), 5, [b"\x10", 1]),
        (lambda s: s.write_byte_data(ADDRESS, 0x10, 9), None, [b"\x10\x09"]),
        (lambda s: s.read_word_data(ADDRESS, 0x10), 0x0605, [b"\x10", 2]),
        (lambda s: s.write_word_data(ADDRESS, 0x10, 0x1234), None, [b"\x10\x34\x12"]),
        (lambda s: s.process_call(ADDRESS, 0x10, 0x1234), 0x0605, [b"\x10\x34\x12", 2]),
        (lambda s: s.read_block_data(ADDRESS, 0x10), [5, 6, 7, 8, 9], [b"\x10", 1, 5]),
        (lambda s: s.write_block_data(ADDRESS, 0x10, [7, 8]), None, [b"\x10\x02\x07\x08"]),
        (lambda s: s.block_process_call(ADDRESS, 0x10, [7]), [5, 6, 7, 8, 9], [b"\x10\x01\x07", 1, 5]),
        (lambda s: s.read_i2c_block_data(ADDRESS, 0x10, 3), [5, 6, 7], [b"\x10", 3]),
        (lambda s: s.read_i2c_block_data(ADDRESS, 0x10, 32), list(range(5, 37)), [b"\x10", 32]),
        (lambda s: s.write_i2c_block_data(ADDRESS, 0x10, [7, 8]), None, [b"\x10\x07\x08"]),
    ],
)
def test_each_smbus_transaction_is_made_of_the_messages_linux_would_send(
    smbus: smbus2.SMBus, recorder: Recorder, transaction: Transaction, answer: object, messages: list[bytes | int]
) -> None:
    assert transaction(smbus) == answer
    assert recorder.seen == messages


def test_a_combined_transfer_reads_and_writes_in_the_order_given(smbus: smbus2.SMBus, recorder: Recorder) -> None:
    first, second = smbus2.i2c_msg.read(ADDRESS, 2), smbus2.i2c_msg.read(ADDRESS, 100)
    smbus.i2c_rdwr(smbus2.i2c_msg.write(ADDRESS, [1, 2]), first, smbus2.i2c_msg.write(ADDRESS, [3]), second)
    assert recorder.seen == [b"\x01\x02", 2, b"\x03", 100]
    assert bytes(first) == b"\x05\x06"
    assert bytes(second) == bytes(range(5, 105))


@pytest.mark.parametrize("number", [errno.EREMOTEIO, errno.ENXIO])
def test_an_absent_address_is_not_acknowledged(bus: Bus, smbus: smbus2.SMBus, number: int) -> None:
    bus.nack_errno = number
    with fails_with(number):
        smbus.read_byte(ADDRESS)
    assert (bus.transfers, bus.bytes, bus.nacks) == (1, 1, 1)


def test_a_device_may_refuse_what_is_written(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    recorder.fails = Nack()
    with fails_with(errno.EREMOTEIO):
        smbus.write_byte(ADDRESS, 1)
    assert bus.nacks == 1


def test_missing_bytes_of_a_device_read_as_ones(bus: Bus, smbus: smbus2.SMBus) -> None:
    bus.attach(ADDRESS, I2cDevice())
    assert smbus.read_i2c_block_data(ADDRESS, 0, 2) == [0xFF, 0xFF]


def test_a_block_of_impossible_length_is_a_protocol_error(bus: Bus, smbus: smbus2.SMBus) -> None:
    bus.attach(ADDRESS, I2cDevice())
    with fails_with(errno.EPROTO):
        smbus.read_block_data(ADDRESS, 0)


def test_registers_follow_a_pointer_that_advances_and_wraps(bus: Bus, smbus: smbus2.SMBus) -> None:
    device = RegisterDevice()
    bus.attach(ADDRESS, device)
    smbus.write_i2c_block_data(ADDRESS, 0xFE, [1, 2, 3])
    assert (device.registers[0xFE], device.registers[0xFF], device.registers[0]) == (1, 2, 3)
    assert smbus.read_i2c_block_data(ADDRESS, 0xFF, 2) == [2, 3]
    smbus.write_byte(ADDRESS, 0xFE)
    assert [smbus.read_byte(ADDRESS) for _ in range(3)] == [1, 2, 3]


@dataclass
class Humidity(Device, RegisterDevice):
    """A device as plugins write them: the constructor of a dataclass calls no other."""

    def attach(self, board: Connections) -> None:
        board.bus(1).attach(ADDRESS, self)


def test_a_dataclass_needs_no_constructor_for_its_registers(bus: Bus, smbus: smbus2.SMBus) -> None:
    first, second = Humidity(), Humidity()
    bus.attach(ADDRESS, first)
    assert smbus.read_byte(ADDRESS) == 0
    smbus.write_byte_data(ADDRESS, 5, 48)
    assert (first.registers[5], second.registers[5]) == (48, 0)


def test_a_thing_that_is_no_i2c_device_is_rejected(bus: Bus) -> None:
    with pytest.raises(WiringError, match=r"NoDevice object.* is not an I2C device; derive its class from firm"):
        bus.attach(ADDRESS, NoDevice())  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        bus.detach(ADDRESS)


class NoDevice:
    """A thing without the methods of a device."""


def test_the_count_of_bytes_includes_the_address_bytes(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    smbus.read_i2c_block_data(ADDRESS, 0x10, 8)
    assert (bus.transfers, bus.bytes, bus.nacks) == (1, 2 + 9, 0)


def test_a_transfer_takes_the_time_of_its_bits(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    bus.clock = 100_000
    began = time.monotonic()
    smbus.read_i2c_block_data(ADDRESS, 0x10, 32)
    assert time.monotonic() - began >= (2 + 33) * 9 / 100_000


def test_a_stretched_clock_holds_the_transfer_up(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    recorder.stretch = 0.02
    began = time.monotonic()
    smbus.read_byte_data(ADDRESS, 1)
    assert time.monotonic() - began >= 0.02
    assert recorder.seen == [b"\x01", 1]


def test_a_clock_stretched_past_the_adapters_patience_times_out(
    bus: Bus, smbus: smbus2.SMBus, recorder: Recorder
) -> None:
    bus.adapter_timeout = recorder.stretch = 0.01
    with fails_with(errno.ETIMEDOUT):
        smbus.read_byte(ADDRESS)
    assert (bus.timeouts, recorder.seen) == (1, [])


def test_a_hung_bus_times_out_after_the_adapters_patience(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    bus.adapter_timeout = 0.02
    bus.hang()
    began = time.monotonic()
    with fails_with(errno.ETIMEDOUT):
        smbus.read_byte(ADDRESS)
    assert time.monotonic() - began >= 0.02
    bus.release()
    assert smbus.read_byte(ADDRESS) == 5


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def body() -> None:
        try:
            results.append(function())
        except OSError as error:
            results.append(error.errno)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, results


def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it never came true")


def test_a_transfer_that_waits_on_a_hung_bus_goes_on_when_it_is_released(
    bus: Bus, smbus: smbus2.SMBus, recorder: Recorder
) -> None:
    bus.adapter_timeout = 30
    bus.hang()
    thread, results = in_thread(lambda: smbus.read_byte(ADDRESS))
    until(lambda: bus.transfers == 1)
    assert not results
    bus.release()
    thread.join()
    assert results == [5]


def test_closing_the_bus_ends_a_transfer_that_hangs(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    bus.adapter_timeout = 30
    bus.hang()
    thread, results = in_thread(lambda: smbus.read_byte(ADDRESS))
    until(lambda: bus.transfers == 1)
    bus.close()
    thread.join()
    assert results == [errno.ENODEV]
    with pytest.raises(HardwareError, match="closed"):
        bus.open()


def test_the_wire_is_held_for_one_transfer_at_a_time_and_the_board_is_not(
    bus: Bus, smbus: smbus2.SMBus, recorder: Recorder
) -> None:
    bus.adapter_timeout = 30
    bus.hang()
    first, _ = in_thread(lambda: smbus.read_byte(ADDRESS))
    until(lambda: bus.transfers == 1)
    with bus.open() as other:
        second, _ = in_thread(lambda: other.write_byte(ADDRESS, 9))
        second.join(0.02)
        assert bus.transfers == 1
        with bus.timeline.lock:
            assert recorder.seen == []
        bus.release()
        first.join()
        second.join()
    assert recorder.seen == [1, b"\x09"]


def test_an_address_must_be_free_and_not_reserved(bus: Bus, recorder: Recorder) -> None:
    with pytest.raises(WiringError, match=r"0x40 is used already, by the part Recorder$"):
        bus.attach(ADDRESS, Recorder())
    for address in (0x02, 0x78):
        with pytest.raises(WiringError, match="reserved"):
            bus.attach(address, Recorder())


def test_a_detached_device_no_longer_answers(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    assert bus.detach(ADDRESS) is recorder
    with fails_with(errno.EREMOTEIO):
        smbus.write_quick(ADDRESS)


def test_it_reports_its_functions_and_rejects_the_rest(bus: Bus, smbus: smbus2.SMBus, recorder: Recorder) -> None:
    assert smbus.funcs & smbus2.I2cFunc.I2C
    assert smbus.funcs & smbus2.I2cFunc.SMBUS_BLOCK_DATA == smbus2.I2cFunc.SMBUS_BLOCK_DATA
    assert not smbus.funcs & smbus2.I2cFunc.ADDR_10BIT
    with pytest.raises(OSError, match="SMBUS_PEC is not a feature"):
        smbus.enable_pec(True)
    ioctl = vars(smbus2_module)["ioctl"]
    for request in (0x0704, 0x0708):  # I2C_TENBIT, I2C_PEC
        assert ioctl(smbus.fd, request, 0) == 0
        with fails_with(errno.EOPNOTSUPP):
            ioctl(smbus.fd, request, 1)
    with fails_with(errno.ENOTTY):
        ioctl(smbus.fd, 0x07FF, 0)
    with fails_with(errno.EINVAL):
        smbus.read_byte(0x80)
    with fails_with(errno.EINVAL):
        smbus.i2c_rdwr(*[smbus2.i2c_msg.read(ADDRESS, 1)] * 43)
    with fails_with(errno.EINVAL):
        smbus.i2c_rdwr(smbus2.i2c_msg.read(ADDRESS, 8193))
    with fails_with(errno.EINVAL):
        smbus.i2c_rdwr()
    strange = smbus2.i2c_msg.read(ADDRESS, 1)
    strange.flags |= 0x4000  # I2C_M_NOSTART
    with fails_with(errno.EOPNOTSUPP):
        smbus.i2c_rdwr(strange)
    message = smbus2_module.i2c_smbus_ioctl_data.create(size=9)
    with fails_with(errno.EINVAL):
        ioctl(smbus.fd, 0x0720, message)
    message = smbus2_module.i2c_smbus_ioctl_data.create(size=8)
    message.data.contents.block[0] = 33
    with fails_with(errno.EINVAL):
        ioctl(smbus.fd, 0x0720, message)
    assert recorder.seen == []


def test_other_descriptors_reach_the_real_kernel_while_a_bus_is_open(smbus: smbus2.SMBus) -> None:
    ioctl = vars(smbus2_module)["ioctl"]
    assert ioctl is not fcntl.ioctl
    readable, writable = os.pipe()
    os.write(writable, b"abc")
    waiting = array.array("i", [0])
    ioctl(readable, termios.FIONREAD, waiting, True)
    os.close(readable)
    os.close(writable)
    assert waiting[0] == 3
    with pytest.raises(FileNotFoundError):
        smbus2.SMBus("/dev/no-such-bus")
    other = smbus2.SMBus()
    other.fd = os.open(os.devnull, os.O_RDWR)
    other.close()
    assert vars(smbus2_module)["ioctl"] == ioctl


def test_smbus2_is_as_it_was_once_the_last_bus_is_closed(bus: Bus) -> None:
    before = dict(vars(smbus2_module))
    first, second = bus.open(), Bus(2, bus.timeline).open()
    first.close()
    assert vars(smbus2_module)["ioctl"] is not before["ioctl"]
    with fails_with(errno.EREMOTEIO):
        second.read_byte(ADDRESS)
    second.close()
    second.close()
    assert dict(vars(smbus2_module)) == before


def test_buses_opened_and_closed_by_many_threads_leave_smbus2_as_it_was(bus: Bus, recorder: Recorder) -> None:
    before = dict(vars(smbus2_module))

    def user() -> int:
        for _ in range(20):
            with bus.open() as smbus:
                assert smbus.read_byte(ADDRESS) == 5
        return 20

    users = [in_thread(user) for _ in range(4)]
    for thread, _ in users:
        thread.join()
    assert [results for _, results in users] == [[20]] * 4
    assert bus.transfers == 80
    assert dict(vars(smbus2_module)) == before


def test_without_smbus2_the_error_names_the_package(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)
    with pytest.raises(HardwareError, match="smbus2 is not installed; install it with 'pip install smbus2'"):
        bus.open()


def test_firmware_sim_smbus_opens_a_bus_of_the_board_in_use_or_the_one_given() -> None:
    with SimBoard({"device": [{"type": "bme280"}]}) as board:
        with firmware_sim.SMBus(1, board) as smbus:
            assert smbus.read_byte_data(0x76, 0xD0) == 0x60
        with boards.using(board), firmware_sim.SMBus(1) as smbus:
            assert smbus.read_byte_data(0x76, 0xD0) == 0x60
        with pytest.raises(HardwareError, match=r"/dev/i2c-7: no such bus on the simulated board; its buses are: 1"):
            firmware_sim.SMBus(7, board)
