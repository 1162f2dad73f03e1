"""Opening a serial port: pyserial opens, locks and configures it, and errors say what to do.

A port is exclusive unless the program asks for another: two programs that read one port get half of the bytes each.
pyserial takes a lock (flock(2)) that only programs see that ask for it, as pyserial does with `exclusive=True`; and
TIOCEXCL makes the kernel refuse the port to all others but root's (ioctl_tty(2)). Neither removes a program that has
opened the port before without a lock.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import struct
import termios
from typing import TYPE_CHECKING, cast

from hwloop import board
from hwloop.errors import HardwareError, permission_hint
from hwloop.sources.serial.device import NETWORK_HINT, SerialDevice, TracedDevice, logger
from hwloop.sources.serial.finding import PortMatch
from hwloop.sources.serial.holders import holders
from hwloop.sources.serial.options import LATER, PySerialOptions, SerialOptions

if TYPE_CHECKING:
    import serial
    from serial.rs485 import RS485Settings

_BAUD_TOLERANCE = 0.03
"""Error of a baud rate, at most: with 5 % between both ends the last bit of a character is read wrongly."""
_TCGETS2 = 0x802C542A  # ioctl_tty(2): the real rates, also those that have no B constant
_TERMIOS2 = struct.Struct("4IB19s2I")


def open_device(
    port: str | PortMatch, options: SerialOptions, *, like: serial.SerialBase | None = None
) -> SerialDevice:
    """Open and configure a port of the board in use, or one that `find` or a pyserial URL finds (hwgrep://0403:6001).

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
    port = os.fspath(port)
    if port.startswith(("socket://", "rfc2217://")):
        raise HardwareError(port, "not a serial port of this machine", NETWORK_HINT)
    dtr, rts, rs485 = options.get("dtr"), options.get("rts"), options.get("rs485")
    arguments = cast(PySerialOptions, {key: value for key, value in options.items() if key not in LATER})
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
    if rs485:
        instance.rs485_mode = _rs485_settings() if rs485 is True else rs485
    if like is not None:
        instance.apply_settings(like.get_settings())
        instance.dtr, instance.rts = like.dtr, like.rts
        instance.rs485_mode = like.rs485_mode
    exclusive = bool(options.get("exclusive"))
    try:
        instance.open()
        # A simulated board records the bytes itself, as they pass the wire.
        traced = source is not None and source.tracer is not None and not source.simulated
        device = (TracedDevice if traced else SerialDevice)(port, instance, source, exclusive=exclusive)
        _check_baudrate(port, device, instance.baudrate)
        if options.get("low_latency"):
            _set_low_latency(port, device)
        if source is not None:
            source.serial_port_opened(device.fileno())
    except (OSError, ValueError, OverflowError, termios.error) as error:
        instance.close()
        if isinstance(error, HardwareError):
            raise
        raise _refused(port, url, instance.baudrate, error) from error
    return device


def _check_baudrate(port: str, device: SerialDevice, wanted: int) -> None:
    """Compare with the rate that the driver has set: one without the wanted rate silently sets another."""
    actual = _TERMIOS2.unpack(device.ask(_TCGETS2, bytes(_TERMIOS2.size)))[-1]
    if abs(actual - wanted) > _BAUD_TOLERANCE * wanted:
        raise HardwareError(port, f"baud rate {wanted} refused: the driver set {actual}", _BAUD_HINT)


_BAUD_HINT = "try a standard rate (9600, 19200, 115200, 921600) or look up what the adapter can do"


def _rs485_settings() -> RS485Settings:
    from serial.rs485 import RS485Settings

    return RS485Settings()


def _set_low_latency(port: str, device: SerialDevice) -> None:
    with contextlib.suppress(ValueError, AttributeError):
        device.serial.set_low_latency_mode(True)  # type: ignore[attr-defined]  # Linux only
    if not device.has_low_latency():
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
    elif str(error).startswith("Failed to set RS485 mode"):
        reason = f"RS-485 mode refused: {reason}"
        hint = "leave out rs485= if the adapter switches its transmitter itself, as most on USB do"
    elif code in (errno.EAGAIN, errno.EBUSY):
        reason, hint = _busy(path, locked=code == errno.EAGAIN)
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


def _busy(path: str, *, locked: bool) -> tuple[str, str]:
    """Return the reason and the remedy for a busy port. `locked`: by a lock, which only those see that ask for it."""
    found = holders(path)
    share = ", or open it with exclusive=False to share it" if locked else ""
    if not found:
        reason = "busy: another program, or this one, holds it"
        hint = f"find it with 'sudo fuser -v {path}'{share}"
    else:
        reason = f"busy: {' and '.join(found)} {'holds' if len(found) == 1 else 'hold'} it"
        hint = f"stop that program{share}" if found != ["this program"] else f"close it first{share}"
    if not found or any(name.startswith(("agetty", "login")) for name in found):
        hint += "; on a Pi's own UART it may be the login console (raspi-config)"
    return reason, hint


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
