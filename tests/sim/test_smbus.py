"""`smbus` on a simulated board: the names, values and errors of the C extension."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.bus import I2cDevice, Nack, RegisterDevice
from firmware_sim.libraries import smbus as simulated


class Blocks(I2cDevice):
    """Answers each read with a block, its length first."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if data[:1] == b"\xee":
            raise Nack

    def read(self, count: int) -> bytes:
        return (b"\x03" if count == 1 else b"abc")[:count]


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board:
        board.bus(1).attach(0x40, RegisterDevice())
        board.bus(1).attach(0x50, Blocks())
        with imports.led_to(board):
            yield board


def test_all_transactions(board: SimBoard) -> None:
    import smbus

    bus = smbus.SMBus(1)
    bus.write_quick(0x40)
    bus.write_byte_data(0x40, 0x10, 0x1AB)  # cut to a byte, as in C
    bus.write_word_data(0x40, 0x11, 0x1234)
    assert bus.read_byte_data(0x40, 0x10) == 0xAB
    assert bus.read_word_data(0x40, 0x11) == 0x1234
    bus.write_byte(0x40, 0x12)
    assert bus.read_byte(0x40) == 0x12
    bus.write_i2c_block_data(0x40, 0x20, [1, 0xF2, 0x103])
    assert bus.read_i2c_block_data(0x40, 0x20, 4) == [1, 0xF2, 3, 0]
    assert bus.read_i2c_block_data(0x40, 0x20) == [1, 0xF2, 3] + [0] * 29
    assert bus.process_call(0x40, 0x20, 0x0505) is None
    assert bus.read_block_data(0x50, 0) == [97, 98, 99]
    bus.write_block_data(0x50, 7, [8, 9])
    assert bus.block_process_call(0x50, 1, [5]) == [97, 98, 99]
    device: Any = board.bus(1)[0x50]
    assert device.written == [b"\0", b"\x07\x02\x08\x09", b"\x01\x01\x05"]
    bus.close()
    bus.close()


CALLS: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda bus: bus.read_byte(0x41), OSError, "Remote I/O error"),
    (lambda bus: bus.write_byte(0x50, 0xEE), OSError, "Remote I/O error"),
    (lambda bus: bus.read_byte(0x80), OSError, "Invalid argument"),
    (lambda bus: bus.read_i2c_block_data(0x40, 0, 33), OSError, "Invalid argument"),
    (lambda bus: bus.write_i2c_block_data(0x40, 0, (1, 2)), TypeError, "Third argument must be a list"),
    (lambda bus: bus.write_i2c_block_data(0x40, 0, [1.5]), TypeError, "Third argument must be a list"),
    (lambda bus: bus.write_block_data(0x40, 0, [0] * 33), OverflowError, "not more than 32"),
    (lambda bus: bus.read_byte("64"), TypeError, "cannot be interpreted as an integer"),
    (lambda bus: bus.read_byte(1 << 31), OverflowError, "too large to convert to C int"),
    (lambda bus: bus.read_byte(addr=0x40), TypeError, "keyword"),
    (lambda bus: bus.__enter__(), AttributeError, "__enter__"),
    (lambda bus: setattr(bus, "name", 1), AttributeError, "name"),
    (lambda bus: type("Sub", (type(bus),), {}), TypeError, "not an acceptable base type"),
]


@pytest.mark.parametrize(("call", "kind", "message"), CALLS)
def test_errors_are_those_of_the_extension(
    board: SimBoard, call: Callable[[Any], object], kind: type[Exception], message: str
) -> None:
    import smbus

    bus = smbus.SMBus(1)
    with pytest.raises(kind, match=message):
        call(bus)
    bus.close()


def test_a_bus_that_is_not_there_or_closed_raises(board: SimBoard) -> None:
    import smbus

    with pytest.raises(FileNotFoundError, match="its buses are: 1"):
        smbus.SMBus(2)
    unconnected = smbus.SMBus()
    with pytest.raises(OSError, match="Bad file descriptor"):
        unconnected.read_byte(0x41)
    unconnected.open(1)
    assert unconnected.read_byte(0x40) == 0
    unconnected.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        unconnected.read_byte(0x40)


def test_packet_error_codes_are_rejected(board: SimBoard) -> None:
    import smbus

    bus = smbus.SMBus(1)
    bus.pec = False
    with pytest.raises(OSError, match="not supported"):
        bus.pec = True
    assert bus.pec is False
    bus.close()


def test_the_module_is_the_simulated_one_in_the_block_only() -> None:
    before = sys.modules.get("smbus")
    with SimBoard() as board, imports.led_to(board):
        import smbus

        assert smbus.SMBus is simulated.SMBus
        assert [name for name in vars(smbus) if not name.startswith("_")] == ["SMBus"]
    assert sys.modules.get("smbus") is before
    installed = importlib.util.find_spec("smbus")
    assert installed is None or "firmware_sim" not in str(installed.origin)
