"""lgpio's I2C functions, on the simulated buses.

lgpio makes them of i2c-dev's SMBus calls, and the kernel makes those of plain messages; here a function makes the
messages itself. The order of lgpio's checks is kept: parameters first, then the handle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from firmware_sim.i2c_dev import BLOCK_MAX, LENGTH_FIRST, Message, Wire
from firmware_sim.libraries.lgpio.calls import Count, Data, called, to_bytes
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.handles import Process

_LAST_ADDRESS = 0x7F
_DEVICE_MAX = 65536
_KERNEL_MAX = 8192
"""Bytes of one read(2) or write(2) of i2c-dev; more are cut off."""
_MESSAGES_MAX = 42
_ZIP_MAX = 1000
"""Bytes of all readings of `i2c_zip`."""


class _Device(NamedTuple):
    wire: Wire
    address: int


class I2cFunctions:
    """The functions `i2c_*`. `buses` are the board's, by number."""

    def __init__(self, process: Process, buses: Mapping[int, Wire]) -> None:
        self.process: Process = process
        self._buses = buses

    @called()
    def i2c_open(self, i2c_bus: int, i2c_address: int, i2c_flags: int = 0) -> int:
        _check(0 <= i2c_address <= _LAST_ADDRESS, lg.BAD_I2C_ADDR)
        _check(not i2c_flags, lg.BAD_I2C_FLAGS)
        _check(i2c_bus in self._buses, lg.BAD_I2C_BUS)
        return self.process.handles.add(_Device(self._buses[i2c_bus], i2c_address))

    @called()
    def i2c_close(self, handle: int) -> int:
        self.process.handles.take(handle, _Device)
        return lg.OKAY

    @called()
    def i2c_write_quick(self, handle: int, bit: int) -> int:
        _check(bit in (0, 1), lg.BAD_I2C_PARAM)
        if bit:
            self._transfer(handle, [], 0, lg.I2C_WRITE_FAILED)
        else:
            self._transfer(handle, [b""], None, lg.I2C_WRITE_FAILED)
        return lg.OKAY

    @called()
    def i2c_write_byte(self, handle: int, byte_val: int) -> int:
        _check_byte(byte_val)
        return self._write(handle, bytes([byte_val]))

    @called()
    def i2c_read_byte(self, handle: int) -> int:
        return self._transfer(handle, [], 1, lg.I2C_READ_FAILED)[0]

    @called()
    def i2c_write_byte_data(self, handle: int, reg: int, byte_val: int) -> int:
        _check_byte(reg)
        _check_byte(byte_val)
        return self._write(handle, bytes([reg, byte_val]))

    @called(name="_i2c_WriteWordData")
    def i2c_write_word_data(self, handle: int, reg: int, word_val: int) -> int:
        _check_byte(reg)
        _check(0 <= word_val <= 0xFFFF, lg.BAD_I2C_PARAM)
        return self._write(handle, bytes([reg]) + word_val.to_bytes(2, "little"))

    @called()
    def i2c_read_byte_data(self, handle: int, reg: int) -> int:
        _check_byte(reg)
        return self._transfer(handle, [bytes([reg])], 1, lg.I2C_READ_FAILED)[0]

    @called()
    def i2c_read_word_data(self, handle: int, reg: int) -> int:
        _check_byte(reg)
        return int.from_bytes(self._transfer(handle, [bytes([reg])], 2, lg.I2C_READ_FAILED), "little")

    @called()
    def i2c_process_call(self, handle: int, reg: int, word_val: int) -> int:
        _check_byte(reg)
        _check(0 <= word_val <= 0xFFFF, lg.BAD_I2C_PARAM)
        sent = bytes([reg]) + word_val.to_bytes(2, "little")
        return int.from_bytes(self._transfer(handle, [sent], 2, lg.I2C_READ_FAILED), "little")

    @called()
    def i2c_write_block_data(self, handle: int, reg: int, data: Data) -> int:
        block = _block(reg, to_bytes(data))
        return self._write(handle, bytes([reg, len(block)]) + block)

    @called(bytearray())
    def i2c_read_block_data(self, handle: int, reg: int) -> list[int | bytearray]:
        _check_byte(reg)
        return _counted(self._transfer(handle, [bytes([reg])], LENGTH_FIRST, lg.I2C_READ_FAILED)[1:])

    @called(bytearray())
    def i2c_block_process_call(self, handle: int, reg: int, data: Data) -> list[int | bytearray]:
        block = _block(reg, to_bytes(data)[:BLOCK_MAX])
        sent = bytes([reg, len(block)]) + block
        return _counted(self._transfer(handle, [sent], LENGTH_FIRST, lg.I2C_READ_FAILED)[1:])

    @called()
    def i2c_write_i2c_block_data(self, handle: int, reg: int, data: Data) -> int:
        _check(reg <= 0xFF, lg.BAD_I2C_PARAM)  # a negative one passes, and only its lowest byte is sent
        block = to_bytes(data)
        _check(1 <= len(block) <= BLOCK_MAX, lg.BAD_I2C_PARAM)
        return self._write(handle, bytes([reg & 0xFF]) + block)

    @called(bytearray())
    def i2c_read_i2c_block_data(self, handle: int, reg: int, count: Count) -> list[int | bytearray]:
        _check_byte(reg)
        _check(1 <= count <= BLOCK_MAX, lg.BAD_I2C_PARAM)
        return _counted(self._transfer(handle, [bytes([reg])], count, lg.I2C_READ_FAILED))

    @called(bytearray())
    def i2c_read_device(self, handle: int, count: Count) -> list[int | bytearray]:
        _check(1 <= count <= _DEVICE_MAX, lg.BAD_I2C_PARAM)
        data = self._transfer(handle, [], min(count, _KERNEL_MAX), lg.I2C_READ_FAILED)
        _check(len(data) == count, lg.I2C_READ_FAILED)
        return _counted(data)

    @called()
    def i2c_write_device(self, handle: int, data: Data) -> int:
        sent = to_bytes(data)
        _check(1 <= len(sent) <= _DEVICE_MAX, lg.BAD_I2C_PARAM)
        self._write(handle, sent[:_KERNEL_MAX])
        _check(len(sent) <= _KERNEL_MAX, lg.I2C_WRITE_FAILED)
        return lg.OKAY

    @called(bytearray())
    def i2c_zip(self, handle: int, data: Data) -> list[int | bytearray]:
        program = to_bytes(data)
        _check(len(program) > 0, lg.BAD_POINTER)
        device = self.process.handles.find(handle, _Device)
        return _counted(_Zip(program, device).run())

    def _write(self, handle: int, data: bytes) -> int:
        self._transfer(handle, [data], None, lg.I2C_WRITE_FAILED)
        return lg.OKAY

    def _transfer(self, handle: int, writes: Sequence[bytes], reads: int | None, failed: int) -> bytes:
        """Make one transfer with the device at `handle`, and return the bytes that were read."""
        device = self.process.handles.find(handle, _Device)
        messages = [Message(device.address, data) for data in writes]
        if reads is not None:
            messages.append(Message(device.address, reads=reads))
        return b"".join(_transferred(device.wire, messages, failed))


class _Zip:
    """One call of `i2c_zip`: a program of commands for several messages."""

    def __init__(self, program: bytes, device: _Device) -> None:
        self._program = program
        self._place = 0
        self._wire = device.wire
        self._address = device.address
        self._flags = 0
        self._two_bytes = False
        self._messages: list[Message] = []
        self._room = _ZIP_MAX
        self._received: list[bytes] = []

    def run(self) -> bytes:
        """Carry out the program, and return all that was read. Messages up to a wrong command are not sent."""
        while self._place < len(self._program) and (command := self._next()) != 0:
            escape = command == 1
            match command:
                case 1:
                    pass
                case 2:
                    self._address = self._parameter(lg.BAD_I2C_CMD)
                case 3:
                    self._two_bytes = True
                    self._flags = self._parameter(lg.BAD_I2C_CMD)
                case 4:
                    count = self._parameter(lg.BAD_I2C_RLEN)
                    _check(count < self._room, lg.BAD_I2C_RLEN)
                    self._room -= count
                    self._add(Message(self._address, reads=count))
                case 5:
                    count = self._parameter(lg.BAD_I2C_WLEN)
                    # lgpio wants a command after the data, if only that for the end.
                    _check(self._place + count < len(self._program), lg.BAD_I2C_WLEN)
                    self._place += count
                    self._add(Message(self._address, self._program[self._place - count : self._place]))
                case _:
                    raise Refused(lg.BAD_I2C_CMD)
            self._two_bytes = escape
        self._send()
        return b"".join(self._received)

    def _next(self) -> int:
        self._place += 1
        return self._program[self._place - 1]

    def _parameter(self, wrong: int) -> int:
        width = 2 if self._two_bytes else 1
        _check(self._place + width <= len(self._program), wrong)
        self._place += width
        return int.from_bytes(self._program[self._place - width : self._place], "little")

    def _add(self, message: Message) -> None:
        # Like the simulated i2c-dev, which knows no flag but the one for reading.
        _check(not self._flags & 0xFFFE, lg.BAD_I2C_SEG)
        self._messages.append(message)
        if len(self._messages) == _MESSAGES_MAX:
            self._send()

    def _send(self) -> None:
        if self._messages:
            self._received += _transferred(self._wire, self._messages, lg.BAD_I2C_SEG)
            self._messages = []


def _transferred(wire: Wire, messages: Sequence[Message], failed: int) -> list[bytes]:
    try:
        return wire.transfer(messages)
    except OSError:
        raise Refused(failed) from None


def _check(valid: bool, code: int) -> None:
    if not valid:
        raise Refused(code)


def _check_byte(value: int) -> None:
    _check(0 <= value <= 0xFF, lg.BAD_I2C_PARAM)


def _block(reg: int, block: bytes) -> bytes:
    _check_byte(reg)
    _check(1 <= len(block) <= BLOCK_MAX, lg.BAD_I2C_PARAM)
    return block


def _counted(data: bytes) -> list[int | bytearray]:
    return [len(data), bytearray(data)]
