"""An open serial port, beneath both the source and the asyncio transport.

`opening` opens it through pyserial; reading and writing happen here, on the descriptor itself, without blocking and
with all bytes that are there at a time. Guaranteed are errors that say what to do, and that an unplugged port is
distinguished from a silent one.

The last takes some care. pyserial sets VMIN = VTIME = 0, so reading an open, silent port returns no bytes, just as
reading an unplugged one does (termios(3), "Canonical and noncanonical mode"); and poll(2) reports the latter as
readable for ever. Only POLLHUP distinguishes them, a spinning loop from a closed port.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import select
import struct
import termios
from typing import TYPE_CHECKING, Any, NamedTuple

from hwloop.board import Board
from hwloop.errors import HardwareError
from hwloop.trace_events import Direction, SerialData, SerialSettings

if TYPE_CHECKING:
    import serial
    from _typeshed import WriteableBuffer as Buffer

logger: logging.Logger = logging.getLogger("hwloop")

READ_SIZE = 65536
"""Bytes asked for at a time; the line discipline hands over at most 4095."""

NETWORK_HINT = "for a serial server on the network use asyncio.open_connection(host, port)"

_COUNTERS = struct.Struct("11i36x")  # struct serial_icounter_struct of linux/serial.h
_SERIAL_STRUCT = struct.Struct("5i52x")  # struct serial_struct, up to its flags
_ASYNC_LOW_LATENCY = 0x2000
_MODEM = struct.Struct("I")


class DriverCounts(NamedTuple):
    """Counts of the port's driver since the adapter was plugged in or the machine was started (TIOCGICOUNT)."""

    cts: int
    """Changes of the modem lines, ..."""
    dsr: int
    ri: int
    cd: int
    received: int
    """... characters, ..."""
    sent: int
    framing_errors: int
    """... and errors."""
    overruns: int
    parity_errors: int
    breaks: int
    buffer_overruns: int


class SerialDevice:
    """An open port.

    Parameters:
        name: the port as the program calls it, for messages.
        instance: pyserial's object, open.
        source: the board that has the port; None if the program opened it without one.
        exclusive: whether to keep other programs from opening the port (TIOCEXCL), as far as they aren't root's.

    Raises `HardwareError` if it has no terminal of this machine behind it.

    Attributes:
        serial: that object, for the modem lines (`serial.rts = True`) and the settings.
        board: the parameter `source`.
    """

    def __init__(
        self, name: str, instance: serial.SerialBase, source: Board | None = None, *, exclusive: bool = False
    ) -> None:
        self.board: Board | None = source
        self.name = name
        self.serial = instance
        from serial import serialposix

        # Not the modules themselves: pyserial's names lead to the driver of a simulated port too.
        self._pyserial: Any = serialposix
        try:
            self._fd = instance.fileno()
        except OSError:  # loop://
            self._fd = -1
        if self._fd < 0 or not self._pyserial.os.isatty(self._fd):
            raise HardwareError(name, "not a serial port of this machine", NETWORK_HINT)
        self._process = os.getpid()
        self._exclusive = exclusive
        if exclusive:
            self._pyserial.fcntl.ioctl(self._fd, termios.TIOCEXCL)

    def fileno(self) -> int:
        return self._fd

    @property
    def character_time(self) -> float:
        """The time of one character on the wire, in seconds: start bit, data, parity, stop."""
        port = self.serial
        return float(1 + port.bytesize + (port.parity != "N") + port.stopbits) / port.baudrate

    def read(self) -> bytes:
        """Return the bytes that are there now. Raises `HardwareError` when the port is gone."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise self._gone("reading", error) from error
        if not data:
            self._check_hang_up()
        return data

    def read_into(self, buffer: Buffer) -> int:
        """Read the bytes that are there now into `buffer`, as far as it holds them, and return their number."""
        try:
            count = os.readv(self._fd, [buffer])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise self._gone("reading", error) from error
        if not count:
            self._check_hang_up()
        return count

    def write(self, data: bytes | bytearray) -> int:
        """Write the bytes that the kernel takes now, and return their number. Raises `HardwareError`."""
        try:
            return int(self._pyserial.os.write(self._fd, data))
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise self._gone("writing", error) from error

    def flush_input(self) -> None:
        """Discard all bytes that have arrived, those in the driver included. Raises `HardwareError`."""
        try:
            self._pyserial.termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            raise self._gone("discarding", OSError(*error.args)) from error

    def in_waiting(self) -> int:
        """Return how many bytes can be read now; 0 if the port is gone."""
        return self._count(termios.FIONREAD)

    def out_waiting(self) -> int:
        """Return how many bytes the kernel has yet to send; 0 if the driver does not report it, or the port is gone."""
        return self._count(termios.TIOCOUTQ)

    def counts(self) -> DriverCounts | None:
        """Return the driver's counts; None if it has none, or the port is gone."""
        try:
            return DriverCounts._make(_COUNTERS.unpack(self.ask(termios.TIOCGICOUNT, bytes(_COUNTERS.size))))
        except OSError:
            return None

    def modem_lines(self) -> int:
        """Return the levels of the modem lines as bits of TIOCMGET. An adapter may have to be asked, which blocks.

        Raises OSError where the driver has none, or the port is gone.
        """
        return int(_MODEM.unpack(self.ask(termios.TIOCMGET, bytes(_MODEM.size)))[0])

    def has_low_latency(self) -> bool:
        """Return whether the driver delivers bytes at once. Some drivers accept that setting and ignore it."""
        try:
            *_, flags = _SERIAL_STRUCT.unpack(self.ask(termios.TIOCGSERIAL, bytes(_SERIAL_STRUCT.size)))
        except OSError:
            return False
        return bool(flags & _ASYNC_LOW_LATENCY)

    def ask(self, request: int, argument: bytes) -> bytes:
        """Make an ioctl of the port's driver (ioctl_tty(2)), and return its answer. Raises OSError."""
        return bytes(self._pyserial.fcntl.ioctl(self._fd, request, argument))

    def close(self) -> int:
        """Close the port, and return how many unsent bytes the kernel has dropped.

        A forked child closes its descriptor, and leaves the unsent bytes and the lock to its parent.
        """
        if self._process != os.getpid():
            self.serial.close()
            return 0
        unsent = self.out_waiting()
        if unsent:
            # Otherwise closing waits for them: up to 30 s on a line that is held (closing_wait, setserial(8)).
            self._pyserial.termios.tcflush(self._fd, termios.TCOFLUSH)
        if self._exclusive:
            with contextlib.suppress(OSError):  # the port is gone
                # It would last while another program has the port open.
                self._pyserial.fcntl.ioctl(self._fd, termios.TIOCNXCL)
        self.serial.close()
        return unsent

    def _count(self, request: int) -> int:
        count = array.array("i", [0])
        try:
            self._pyserial.fcntl.ioctl(self._fd, request, count)
        except OSError:
            return 0
        return count[0]

    def _check_hang_up(self) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)
        if poll.poll(0):
            raise self.hung_up()

    def hung_up(self) -> HardwareError:
        """Return the error for a port that has hung up: it was unplugged."""
        return self._gone("reading", OSError(errno.EIO, "hang-up"))

    def _gone(self, action: str, error: OSError) -> HardwareError:
        return HardwareError(
            self.name,
            f"{action} failed: {error.strerror}",
            "is it still plugged in? serial.open(..., reopen=Backoff()) waits for it to come back",
            errno=error.errno,
        )


class TracedDevice(SerialDevice):
    """An open port of a real board with a tracer, which records the bytes that are read and written."""

    def read(self) -> bytes:
        data = super().read()
        if data:
            self._record("received", data)
        return data

    def read_into(self, buffer: Buffer) -> int:
        count = super().read_into(buffer)
        if count:
            self._record("received", bytes(memoryview(buffer).cast("B")[:count]))
        return count

    def write(self, data: bytes | bytearray) -> int:
        taken = super().write(data)
        if taken:
            self._record("sent", bytes(data[:taken]))
        return taken

    def _record(self, direction: Direction, data: bytes) -> None:
        source, port = self.board, self.serial
        if source is not None and source.tracer is not None:
            settings = SerialSettings(port.baudrate, port.bytesize, port.parity, port.stopbits)
            source.tracer.record(SerialData(source.clock.now_ns(), self.name, direction, data, settings))
