"""An open serial port, beneath both the source and the asyncio transport.

pyserial opens, locks and configures the port; reading and writing happen here, on the descriptor itself, without
blocking and with all bytes that are there at a time. Guaranteed are errors that say what to do, that nothing stays open
after one, and that an unplugged port is distinguished from a silent one.

The last takes some care. pyserial sets VMIN = VTIME = 0, so reading an open, silent port returns no bytes, just as
reading an unplugged one does (termios(3), "Canonical and noncanonical mode"); and poll(2) reports the latter as
readable for ever. Only POLLHUP distinguishes them, a spinning loop from a closed port.
"""

from __future__ import annotations

import array
import errno
import fcntl
import glob
import logging
import os
import select
import struct
import termios
from typing import TYPE_CHECKING, cast

from hwloop import board
from hwloop.board import Board
from hwloop.errors import HardwareError, permission_hint
from hwloop.sources.serial.options import PySerialOptions, SerialOptions
from hwloop.trace_events import Direction, SerialData, SerialSettings

if TYPE_CHECKING:
    import serial
    from _typeshed import WriteableBuffer as Buffer

logger: logging.Logger = logging.getLogger("hwloop")

READ_SIZE = 65536
"""Bytes asked for at a time; the line discipline hands over at most 4095."""

_BAUD_TOLERANCE = 0.03
"""Error of a baud rate, at most: with 5 % between both ends the last bit of a character is read wrongly."""
_TCGETS2 = 0x802C542A  # ioctl_tty(2): the real rates, also those that have no B constant
_TERMIOS2 = struct.Struct("4IB19s2I")


class SerialDevice:
    """An open port.

    Parameters:
        name: the port as the program calls it, for messages.
        instance: pyserial's object, open.
        source: the board that has the port; None if the program opened it without one.

    Raises `HardwareError` if it has no terminal of this machine behind it.

    Attributes:
        serial: that object, for the modem lines (`serial.rts = True`) and the settings.
        board: the parameter `source`.
    """

    def __init__(self, name: str, instance: serial.SerialBase, source: Board | None = None) -> None:
        self.board: Board | None = source
        self.name = name
        self.serial = instance
        try:
            self._fd = instance.fileno()
        except OSError:  # loop://
            self._fd = -1
        if self._fd < 0 or not os.isatty(self._fd):
            raise HardwareError(name, "not a serial port of this machine", _NETWORK_HINT)

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
            return os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise self._gone("writing", error) from error

    def flush_input(self) -> None:
        """Discard all bytes that have arrived, those in the driver included. Raises `HardwareError`."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            raise self._gone("discarding", OSError(*error.args)) from error

    def in_waiting(self) -> int:
        """Return how many bytes can be read now; 0 if the port is gone."""
        return self._count(termios.FIONREAD)

    def out_waiting(self) -> int:
        """Return how many bytes the kernel has yet to send; 0 if the driver does not report it, or the port is gone."""
        return self._count(termios.TIOCOUTQ)

    def close(self) -> int:
        """Close the port, and return how many unsent bytes the kernel has dropped."""
        unsent = self.out_waiting()
        if unsent:
            # Otherwise closing waits for them: up to 30 s on a line that is held (closing_wait, setserial(8)).
            termios.tcflush(self._fd, termios.TCOFLUSH)
        self.serial.close()
        return unsent

    def _count(self, request: int) -> int:
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._fd, request, count)
        except OSError:
            return 0
        return count[0]

    def _check_hang_up(self) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)
        if poll.poll(0):
            raise self._gone("reading", OSError(errno.EIO, "hang-up"))

    def _gone(self, action: str, error: OSError) -> HardwareError:
        return HardwareError(
            self.name,
            f"{action} failed: {error.strerror}",
            "is it still plugged in? reopen=Backoff() waits for it to come back",
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


def open_device(
    port: str, options: SerialOptions, *, low_latency: bool = False, like: serial.SerialBase | None = None
) -> SerialDevice:
    """Open and configure a port of the board in use, or one that a pyserial URL finds (hwgrep://0403:6001).

    With `like`, the port gets the present settings of this object of pyserial instead of those in `options`.

    Opening is quick, but a system call that may block: a driver can wait for the hardware.

    Raises ValueError for settings that make no sense, `HardwareError` if the port is missing or busy, is not a serial
    port, rejects the settings, or the program may not use it; nothing is left open then.
    """
    try:
        from serial import SerialException, serial_for_url
    except ImportError as error:
        raise HardwareError(
            "pyserial",
            "not installed (the package called 'serial' is another one)",
            "pip install pyserial, or apt install python3-serial",
        ) from error
    if port.startswith(("socket://", "rfc2217://")):
        raise HardwareError(port, "not a serial port of this machine", _NETWORK_HINT)
    dtr, rts = options.get("dtr"), options.get("rts")
    arguments = cast(PySerialOptions, {name: value for name, value in options.items() if name not in ("dtr", "rts")})
    url, source = port, None
    if "://" not in port:
        source = board.current()
        url = board.checked_call(source.serial_port, port, str)
    try:
        instance = serial_for_url(url, do_not_open=True, **arguments)
    except SerialException as error:  # hwgrep:// that finds nothing
        raise HardwareError(port, str(error), _known_ports()) from error
    if "://" in port and instance.portstr is not None and "://" not in instance.portstr:
        # A URL that names a port (spy://, hwgrep://): that of the board in use, which may be a simulated one.
        source = board.current()
        url = instance.portstr = board.checked_call(source.serial_port, instance.portstr, str)
    # pyserial sets them right after it has opened the port; the kernel has raised both by then (docs/serial.md).
    if dtr is not None:
        instance.dtr = bool(dtr)
    if rts is not None:
        instance.rts = bool(rts)
    if like is not None:
        instance.apply_settings(like.get_settings())
        instance.dtr, instance.rts = like.dtr, like.rts
        instance.rs485_mode = like.rs485_mode
    try:
        instance.open()
        # A simulated board records the bytes itself, as they pass the wire.
        traced = source is not None and source.tracer is not None and not source.simulated
        device = (TracedDevice if traced else SerialDevice)(port, instance, source)
        _check_baudrate(port, device.fileno(), instance.baudrate)
        if low_latency:
            _set_low_latency(port, instance)
    except (OSError, ValueError, OverflowError, termios.error) as error:
        instance.close()
        if isinstance(error, HardwareError):
            raise
        raise _refused(port, url, instance.baudrate, error) from error
    return device


def _check_baudrate(port: str, fd: int, wanted: int) -> None:
    """Compare with the rate that the driver has set: one without the wanted rate silently sets another."""
    actual = _TERMIOS2.unpack(fcntl.ioctl(fd, _TCGETS2, bytes(_TERMIOS2.size)))[-1]
    if abs(actual - wanted) > _BAUD_TOLERANCE * wanted:
        raise HardwareError(port, f"baud rate {wanted} refused: the driver set {actual}", _BAUD_HINT)


_NETWORK_HINT = "for a serial server on the network use asyncio.open_connection(host, port)"
_BAUD_HINT = "try a standard rate (9600, 19200, 115200, 921600) or look up what the adapter can do"


def _set_low_latency(port: str, instance: serial.SerialBase) -> None:
    try:
        instance.set_low_latency_mode(True)  # type: ignore[attr-defined]  # Linux only
    except (ValueError, AttributeError):
        logger.info("%s: its driver has no low-latency mode", port)


def _refused(port: str, path: str, baudrate: int, error: Exception) -> HardwareError:
    """Return pyserial's error on opening as one that says what it means and what to do."""
    code = _errno(error)
    reason = os.strerror(code) if code else str(error)
    hint = ""
    if code == errno.ENOENT:
        reason, hint = "no such port", _known_ports()
    elif code in (errno.EACCES, errno.EPERM):
        reason = "permission denied"
        hint = permission_hint(path, "on a Pi's own UART it may be the login console's (raspi-config)")
    elif code in (errno.EAGAIN, errno.EBUSY):
        reason = "busy: another program, or this one, holds it"
        hint = f"find it with 'fuser -v {path}'; on a Pi's own UART it may be the login console (raspi-config)"
    elif code in (errno.ENOTTY, errno.EISDIR):
        reason, hint = "not a serial port", _known_ports()
    elif code in (errno.EIO, errno.ENXIO, errno.ENODEV):
        hint = "there is no device behind it; is it plugged in, and is the UART enabled (raspi-config)?"
    elif code == errno.EINVAL and path.startswith("/dev/pts/"):
        reason = "settings refused: a pseudo-terminal has neither parity nor 5 to 7 data bits"
        hint = "leave out parity= and bytesize=, or use a simulated board's port, which has them"
    elif "baud" in reason or isinstance(error, OverflowError):
        reason, hint = f"baud rate {baudrate} refused: {error}", _BAUD_HINT
    return HardwareError(port, reason, hint, errno=code)


def _errno(error: BaseException | None) -> int | None:
    """Return the error number of pyserial's exception, or of the one that caused it."""
    while error is not None:
        code = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
        if isinstance(code, int):
            return code
        error = error.__context__
    return None


def _known_ports() -> str:
    found = [path for kind in ("serial/by-id/*", "ttyAMA*", "ttyUSB*", "ttyACM*") for path in glob.glob(f"/dev/{kind}")]
    return f"there are: {', '.join(sorted(found))}" if found else "there is none here; is the adapter plugged in?"
