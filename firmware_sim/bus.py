"""A simulated I2C bus at the ioctl level, so that smbus2's own `SMBus`, and every driver on top of it, runs unchanged.

smbus2 reaches the kernel through three names of its module: `os.open`, `os.close` and `ioctl`. While a simulated bus
is open these lead to a dispatcher that answers for simulated descriptors and passes all others on; when the last
one is closed the module is as it was. Below that stands a wire: every SMBus transaction becomes the messages that Linux
would clock out (i2c-core-smbus.c), a transfer takes its time and holds the bus meanwhile, an absent address is not
acknowledged, a device may stretch the clock, and a hung bus blocks the caller until the adapter gives up, as the real
one does: an I2C transfer can't be polled for, nor cancelled.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from firmware_sim.timeline import Timeline
from firmware_sim.wiring import WiringError
from hwloop.board import current
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    import smbus2

    from firmware_sim.board import SimBoard

FIRST_ADDRESS, LAST_ADDRESS = 0x03, 0x77
"""7-bit addresses a device may have; the I2C specification reserves the others (UM10204, 3.1.12)."""

# From the kernel's uapi/linux/i2c-dev.h and i2c.h.
_I2C_SLAVE, _I2C_TENBIT, _I2C_FUNCS, _I2C_SLAVE_FORCE = 0x0703, 0x0704, 0x0705, 0x0706
_I2C_RDWR, _I2C_PEC, _I2C_SMBUS = 0x0707, 0x0708, 0x0720
_BLOCK_MAX, _MESSAGES_MAX, _MESSAGE_MAX = 32, 42, 8192
_READ_FLAG = 0x0001
_LENGTH_FIRST = -1
"""As a count: read one byte, and then as many as it says (the kernel's I2C_M_RECV_LEN)."""

FUNCTIONS = 0x0FFF_8001
"""What I2C_FUNCS reports: plain I2C and all SMBus transactions; no 10-bit addresses, no packet error check."""


class _Size(enum.IntEnum):
    """The SMBus transactions, as uapi/linux/i2c.h numbers them."""

    QUICK = 0
    BYTE = 1
    BYTE_DATA = 2
    WORD_DATA = 3
    PROC_CALL = 4
    BLOCK_DATA = 5
    BLOCK_PROC_CALL = 7
    I2C_BLOCK_DATA = 8


class Nack(Exception):
    """Raised by a device that does not acknowledge."""


class I2cDevice:
    """A device on the wire. Its methods run with the timeline's lock held.

    Attributes:
        stretch: seconds for which it holds the clock in each transfer that begins with it.
    """

    stretch: float = 0.0

    def write(self, data: bytes) -> None:
        """Take the bytes of one write message (none for an SMBus quick command). Raise `Nack` to refuse them."""

    def read(self, count: int) -> bytes:
        """The next `count` bytes of a read message. What is missing reads as 0xFF: nobody pulls the line down."""
        return b""


class RegisterDevice(I2cDevice):
    """A device with 256 one-byte registers and a pointer, as most sensors have.

    The first byte written sets the pointer, further ones are stored; the pointer advances with every byte and wraps.
    """

    def __init__(self) -> None:
        self.registers = bytearray(256)
        self.pointer = 0

    def write(self, data: bytes) -> None:
        if data:
            self.pointer = data[0]
        for value in data[1:]:
            self.write_register(self.pointer, value)
            self.pointer = (self.pointer + 1) % 256

    def read(self, count: int) -> bytes:
        start = self.pointer
        self.pointer = (start + count) % 256
        return bytes(self.read_register((start + index) % 256) for index in range(count))

    def write_register(self, register: int, value: int) -> None:
        """Store one byte."""
        self.registers[register] = value

    def read_register(self, register: int) -> int:
        """Fetch one byte."""
        return self.registers[register]


class Message(NamedTuple):
    """One message of a transfer, from a start condition to the next (or to the stop)."""

    address: int
    data: bytes = b""
    """What is written."""
    reads: int | None = None
    """How many bytes are read; None for a write."""


class Bus:
    """One I2C bus.

    Parameters:
        number: the bus's number: 1 stands for /dev/i2c-1.
        timeline: the board's time and lock.
        clock: bits per second.
        adapter_timeout: seconds after which the adapter gives up on a transfer (Linux: 1 s).
        nack_errno: the error for an address that nobody acknowledges. EREMOTEIO is what the Pi's adapters give;
            others give ENXIO.

    Attributes:
        transfers, bytes, nacks, timeouts: what has been on the wire so far, address bytes included.
    """

    def __init__(
        self,
        number: int,
        timeline: Timeline,
        *,
        clock: int = 100_000,
        adapter_timeout: float = 1.0,
        nack_errno: int = errno.EREMOTEIO,
    ) -> None:
        self.number = number
        self.timeline = timeline
        self.clock = clock
        self.adapter_timeout = adapter_timeout
        self.nack_errno = nack_errno
        self.transfers = self.bytes = self.nacks = self.timeouts = 0
        self._devices: dict[int, I2cDevice] = {}
        self._wire = threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._closed = False

    def attach(self, address: int, device: I2cDevice) -> None:
        """Put a device on the bus. Raises `WiringError` for an address that is reserved or taken."""
        if not FIRST_ADDRESS <= address <= LAST_ADDRESS:
            raise WiringError(f"I2C address 0x{address:02x} is reserved; devices have 0x03 to 0x77")
        with self.timeline.lock:
            if address in self._devices:
                raise WiringError(
                    f"I2C bus {self.number}: address 0x{address:02x} is used already, by {self._devices[address]!r}"
                )
            self._devices[address] = device

    def detach(self, address: int) -> I2cDevice:
        """Take the device off the bus, as when its wire comes loose. KeyError if there is none."""
        with self.timeline.lock:
            return self._devices.pop(address)

    def hang(self) -> None:
        """Hold the data line low: transfers block until `release()`, or fail after the adapter's timeout."""
        self._free.clear()

    def release(self) -> None:
        """End `hang()`; transfers that still wait go on."""
        self._free.set()

    def open(self) -> smbus2.SMBus:
        """smbus2's own `SMBus`, opened on this bus. Raises `HardwareError` if smbus2 is not installed."""
        try:
            import smbus2
        except ImportError as error:
            raise HardwareError(
                f"I2C bus {self.number}",
                "the package smbus2 is not installed",
                "install it with 'pip install smbus2' or 'apt install python3-smbus2'",
            ) from error
        if self._closed:
            raise HardwareError(f"I2C bus {self.number}", "the simulated board is closed", errno=errno.ENODEV)
        with _redirection.opening(self):
            return smbus2.SMBus(self.number)

    def close(self) -> None:
        """The bus goes away: transfers fail with ENODEV from now on. Descriptors stay with those who opened them."""
        self._closed = True
        self._free.set()

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        """Clock messages over the wire with repeated starts; the bytes that were read, one entry for each read.

        Blocks for as long as the wire would take. Raises OSError: `nack_errno`, ETIMEDOUT or ENODEV.
        """
        with self._wire:
            self.transfers += 1
            if not self._free.wait(self.adapter_timeout):
                self.timeouts += 1
                raise _error(errno.ETIMEDOUT)
            if self._closed:
                raise _error(errno.ENODEV)
            busy_until = time.monotonic()
            answers = []
            for index, message in enumerate(messages):
                device = self._devices.get(message.address)
                if device is not None and index == 0 and device.stretch > 0:
                    busy_until += self._stretch(device.stretch)
                try:
                    if device is None:
                        raise Nack
                    if message.reads is None:
                        # A write takes effect at its end, a reading is taken at its beginning.
                        busy_until = self._hold(busy_until, 1 + len(message.data))
                        with self.timeline.lock:
                            device.write(message.data)
                    else:
                        with self.timeline.lock:
                            answer = _read(device, message.reads)
                        answers.append(answer)
                        busy_until = self._hold(busy_until, 1 + len(answer))
                except Nack:
                    self.nacks += 1
                    if device is None:
                        self._hold(busy_until, 1)
                    raise _error(self.nack_errno) from None
            return answers

    def _stretch(self, seconds: float) -> float:
        """Keep the clock low. The adapter loses patience as it does with a hung bus."""
        if seconds >= self.adapter_timeout:
            time.sleep(self.adapter_timeout)
            self.timeouts += 1
            raise _error(errno.ETIMEDOUT)
        time.sleep(seconds)
        return seconds

    def _hold(self, busy_until: float, count: int) -> float:
        """Wait until `count` more bytes, each with its acknowledge bit, are through; when that is (CLOCK_MONOTONIC)."""
        self.bytes += count
        busy_until += count * 9 / self.clock
        time.sleep(max(0.0, busy_until - time.monotonic()))
        return busy_until


def SMBus(bus: int, board: SimBoard | None = None) -> smbus2.SMBus:
    """smbus2's own `SMBus` on bus number `bus` of a simulated board: `board`, or else the one in use.

    Raises `HardwareError` if there is no such bus, or if the board in use is not a simulated one.
    """
    from firmware_sim.board import SimBoard

    chosen = current() if board is None else board
    if not isinstance(chosen, SimBoard):
        raise HardwareError(
            f"firmware_sim.SMBus({bus})", f"the board in use is {chosen.label}", "pass board=, or set HWLOOP_BOARD=sim"
        )
    return chosen.open_bus(bus)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _read(device: I2cDevice, count: int) -> bytes:
    if count != _LENGTH_FIRST:
        return device.read(count).ljust(count, b"\xff")
    length = device.read(1).ljust(1, b"\xff")
    if not 1 <= length[0] <= _BLOCK_MAX:
        raise _error(errno.EPROTO)
    return length + device.read(length[0]).ljust(length[0], b"\xff")


class _Descriptor:
    """What an open /dev/i2c-N knows: the slave address that was set."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.address = 0

    def ioctl(self, request: int, argument: Any) -> int:
        """Answer as i2c-dev does (drivers/i2c/i2c-dev.c). `argument` is a number or one of smbus2's ctypes objects."""
        if request in (_I2C_SLAVE, _I2C_SLAVE_FORCE):
            if not 0 <= argument <= 0x7F:
                raise _error(errno.EINVAL)
            self.address = argument
        elif request == _I2C_FUNCS:
            argument.value = FUNCTIONS
        elif request in (_I2C_TENBIT, _I2C_PEC):
            if argument:
                raise _error(errno.EOPNOTSUPP)
        elif request == _I2C_SMBUS:
            self._smbus(argument.read_write == 1, argument.command, argument.size, argument.data)
        elif request == _I2C_RDWR:
            return self._combined(argument)
        else:
            raise _error(errno.ENOTTY)
        return 0

    def _smbus(self, read: bool, command: int, size: int, data: Any) -> None:
        """One SMBus transaction as plain messages, as the kernel's i2c_smbus_xfer_emulated() makes them."""
        block = data.contents.block
        length = block[0]
        if length > _BLOCK_MAX and size >= _Size.BLOCK_DATA and not (read and size == _Size.BLOCK_DATA):
            raise _error(errno.EINVAL)
        written = bytes([command])
        count: int | None = None
        match size:
            case _Size.QUICK:  # the read/write bit is all there is
                written, count = b"", 0 if read else None
            case _Size.BYTE:  # no register
                written, count = (b"", 1) if read else (written, None)
            case _Size.BYTE_DATA | _Size.WORD_DATA:
                width = 1 if size == _Size.BYTE_DATA else 2
                if read:
                    count = width
                else:
                    written += bytes(block[0:width])
            case _Size.PROC_CALL:
                written, count = written + bytes(block[0:2]), 2
            case _Size.BLOCK_DATA:
                if read:
                    count = _LENGTH_FIRST
                else:
                    written += bytes(block[0 : length + 1])
            case _Size.BLOCK_PROC_CALL:
                written, count = written + bytes(block[0 : length + 1]), _LENGTH_FIRST
            case _Size.I2C_BLOCK_DATA:
                if read:
                    count = length
                else:
                    written += bytes(block[1 : length + 1])
            case _:
                raise _error(errno.EINVAL)
        messages = []
        if count is None or written:
            messages.append(Message(self.address, written))
        if count is not None:
            messages.append(Message(self.address, reads=count))
        answers = self.bus.transfer(messages)
        if answers:
            first = 1 if size == _Size.I2C_BLOCK_DATA else 0
            block[first : first + len(answers[0])] = list(answers[0])

    def _combined(self, argument: Any) -> int:
        """I2C_RDWR: messages with repeated starts between them."""
        if not 0 < argument.nmsgs <= _MESSAGES_MAX:
            raise _error(errno.EINVAL)
        raw = [argument.msgs[index] for index in range(argument.nmsgs)]
        if any(message.len > _MESSAGE_MAX for message in raw):
            raise _error(errno.EINVAL)
        if any(message.flags & ~_READ_FLAG for message in raw):
            raise _error(errno.EOPNOTSUPP)
        answers = iter(
            self.bus.transfer(
                [
                    Message(message.addr, reads=message.len)
                    if message.flags
                    else Message(message.addr, ctypes.string_at(message.buf, message.len))
                    for message in raw
                ]
            )
        )
        for message in raw:
            if message.flags:
                ctypes.memmove(message.buf, next(answers), message.len)
        return len(raw)


class _Redirection:
    """Stands in for `os` and `ioctl` in smbus2's module while a simulated bus is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[int, _Descriptor] = {}
        self._users = 0
        self._replaced: dict[str, Any] = {}
        self._real_ioctl: Callable[..., Any] | None = None
        self._opening = threading.local()

    @contextlib.contextmanager
    def opening(self, bus: Bus) -> Iterator[None]:
        """What this thread opens through smbus2 in this block is `bus`."""
        self._enter()
        self._opening.bus = bus
        try:
            yield
        finally:
            self._opening.bus = None
            self._leave()

    def _enter(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users += 1
            if self._users == 1:
                names = vars(module)
                self._replaced = {"os": names["os"], "ioctl": names["ioctl"]}
                self._real_ioctl = names["ioctl"]
                names.update(os=self, ioctl=self.ioctl)

    def _leave(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users -= 1
            if self._users == 0:
                vars(module).update(self._replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int) -> int:
        bus = getattr(self._opening, "bus", None)
        if bus is None:
            return os.open(path, flags)
        # A real descriptor of nothing, so that its number is nobody else's.
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._enter()
        self._descriptors[fd] = _Descriptor(bus)
        return fd

    def close(self, fd: int) -> None:
        ours = self._descriptors.pop(fd, None)
        os.close(fd)
        if ours is not None:
            self._leave()

    def ioctl(self, fd: int, request: int, *arguments: Any) -> Any:
        descriptor = self._descriptors.get(fd)
        if descriptor is None:
            assert self._real_ioctl is not None
            return self._real_ioctl(fd, request, *arguments)
        return descriptor.ioctl(request, arguments[0])


_redirection = _Redirection()
