"""The parts of a serial driver that a pseudo-terminal lacks: parity, data bits, modem lines, counters, RS-485 mode.

A pseudo-terminal is a terminal without a UART. Its driver silently drops parity and any number of data bits but 8
(`pty_set_termios()` in drivers/tty/pty.c), which some C libraries then report as EINVAL, and it has no modem lines
(ENOTTY). So pyserial's `os`, `termios` and `fcntl` lead here while a simulated port is plugged in: calls on the
descriptor of a simulated port get the answers of a UART's driver, and all others are passed on.

As on Linux, the first to open a port raises DTR and RTS, before the program can lower them, and the last to close it
drops both (HUPCL, termios(3)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Callable
from typing import Any

from firmware_sim.descriptors import descriptors
from firmware_sim.libraries.partial_module import PartialModule
from firmware_sim.libraries.serial_socket import TerminalSocket, changes_nothing
from hwloop.trace_events import SerialSettings

_CMSPAR = 0x40000000  # asm-generic/termbits.h: mark and space parity
_PTY_LACKS = termios.CSIZE | termios.PARENB
_CHARACTER = _PTY_LACKS | termios.PARODD | _CMSPAR | termios.CSTOPB
_BITS = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7, termios.CS8: 8}
_TCGETS2 = 0x802C542A  # ioctl_tty(2): the real rates, also those without a B constant
_TERMIOS2 = struct.Struct("4IB19s2I")
_MODEM = struct.Struct("I")

_RS485 = struct.Struct("8I")  # struct serial_rs485
_SERIAL = struct.Struct("5i52x")  # struct serial_struct, up to its flags
_COUNTERS = struct.Struct("11i36x")  # struct serial_icounter_struct
_COUNTED = ("cts", "dsr", "ri", "cd", "received", "sent", "framing", "overrun", "parity", "breaks", "buffer_overruns")
_GET_RS485, _SET_RS485 = 0x542E, 0x542F

_MODEM_REQUESTS = (termios.TIOCMGET, termios.TIOCMSET, termios.TIOCMBIS, termios.TIOCMBIC)
DRIVER_REQUESTS = frozenset(
    (*_MODEM_REQUESTS, termios.TIOCGICOUNT, termios.TIOCGSERIAL, termios.TIOCSSERIAL, _GET_RS485, _SET_RS485)
)
"""The ioctls that a UART's driver answers and that of a pseudo-terminal does not."""

_tcgetattr, _tcsetattr = termios.tcgetattr, termios.tcsetattr  # not those that lead here

DTR, RTS = termios.TIOCM_DTR, termios.TIOCM_RTS
OUTPUTS = DTR | RTS
INPUTS = {"cts": termios.TIOCM_CTS, "dsr": termios.TIOCM_DSR, "cd": termios.TIOCM_CAR, "ri": termios.TIOCM_RNG}


class Terminal:
    """The state that a UART's driver keeps of one port.

    Parameters:
        lock: held while the state changes and `on_outputs` runs.
        on_outputs: called with DTR and RTS after one of them has changed.
        on_way: called with the sockets that bytes take from now on, or with None if they take the terminal again; None
            if bytes must always take the terminal.

    Attributes:
        outputs: DTR and RTS, as bits of TIOCMGET.
        inputs: CTS, DSR, CD and RI, likewise.
        counts: the driver's counts: changes of these inputs, characters, and errors.
        flags: the driver's flags; 0x2000 is its low-latency mode.
        fixed_flags: whether the driver ignores flags, as that of a ttyACM does.
        rs485: the settings of its RS-485 mode; None for a driver without one.
        device: the device number of the pseudo-terminal; 0 while there is none.
    """

    def __init__(
        self,
        lock: threading.RLock,
        on_outputs: Callable[[bool, bool], object],
        on_way: Callable[[TerminalSocket | None], object] | None,
    ) -> None:
        self.outputs: int = 0
        self.inputs: int = 0
        self.counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self.flags: int = 0
        self.fixed_flags: bool = False
        self.rs485: bytes | None = None
        self._lock: Any = lock
        self._on_outputs = on_outputs
        self._on_way = on_way
        self._socket: TerminalSocket | None = None
        self.device: int = 0
        self._fd = -1
        self._cflag = termios.CS8
        self._users = 0

    def plug_in(self, fd: int) -> None:
        """Use the pseudo-terminal `fd` for the port from now on."""
        self._fd = fd
        self.device = os.fstat(fd).st_rdev
        self._cflag = termios.CS8
        self._users = 0
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.flags = 0

    def unplug(self) -> None:
        self._socket = None
        calls.forget(self)
        self._fd = -1
        self.device = 0
        self._users = 0
        self.set_outputs(0)

    def expose(self) -> str:
        """Return the path to open, and have pyserial led here when it does."""
        path = os.ttyname(self._fd)
        calls.lead(self.device, self)
        return path

    @property
    def settings(self) -> SerialSettings | None:
        """The settings; None while no program has the port open."""
        with self._lock:
            if not self._users:
                return None
            cflag = self._cflag
            baudrate = _TERMIOS2.unpack(fcntl.ioctl(self._fd, _TCGETS2, bytes(_TERMIOS2.size)))[-1]
        parity = "N"
        if cflag & termios.PARENB:
            odd = cflag & termios.PARODD
            parity = ("M" if odd else "S") if cflag & _CMSPAR else ("O" if odd else "E")
        return SerialSettings(baudrate, _BITS[cflag & termios.CSIZE], parity, 2 if cflag & termios.CSTOPB else 1)

    def set_outputs(self, outputs: int) -> None:
        with self._lock:
            before, self.outputs = self.outputs, outputs & OUTPUTS
            if self.outputs != before:
                self._on_outputs(bool(self.outputs & DTR), bool(self.outputs & RTS))

    # The driver's work for an open descriptor.

    def opened(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self.set_outputs(OUTPUTS)
            self._leave_socket()  # which only one of them would read

    def released(self) -> None:
        with self._lock:
            self._leave_socket()
            self._users = max(0, self._users - 1)
            if not self._users:
                self.set_outputs(0)

    def replace(self, fd: int) -> TerminalSocket | None:
        """Put a socket in the place of the terminal behind `fd`, if that makes no difference. Return the sockets."""
        with self._lock:
            if self._on_way is None or self._users != 1 or not changes_nothing(_tcgetattr(self._fd)):
                return None
            self._leave_socket()
            self._socket = TerminalSocket(fd)
            self._on_way(self._socket)
            return self._socket

    def leave(self, socket: TerminalSocket) -> None:
        """Put the terminal back in its place if this is its socket, and close the socket."""
        with self._lock:
            if self._socket is socket:
                self._leave_socket()
        socket.close()

    def leave_to_parent(self) -> None:
        """In a forked child: leave the bytes to the parent, and with them their way."""
        self._socket = self._on_way = None

    def _leave_socket(self) -> None:
        if self._socket is not None and self._on_way is not None:
            self._socket = None
            self._on_way(None)

    def get_attributes(self, fd: int) -> list[Any]:
        attributes = _tcgetattr(fd)
        attributes[2] = self.read_flags(attributes[2])
        return attributes

    def set_attributes(self, fd: int, when: int, attributes: list[Any]) -> None:
        _tcsetattr(fd, when, [*attributes[:2], attributes[2] & ~_CHARACTER | termios.CS8, *attributes[3:]])
        self.write_flags(attributes[2])
        with self._lock:
            if self._socket is not None and not changes_nothing(_tcgetattr(self._fd)):
                self._leave_socket()

    def read_flags(self, flags: int) -> int:
        """Return the control flags (c_cflag) of the pseudo-terminal with the program's character format."""
        return flags & ~_CHARACTER | self._cflag

    def write_flags(self, flags: int) -> int:
        """Keep the character format of control flags, and return flags that the pseudo-terminal takes."""
        with self._lock:
            self._cflag = flags & _CHARACTER
        return flags & ~_CHARACTER | termios.CS8

    def set_inputs(self, inputs: int) -> None:
        """Set CTS, DSR, CD and RI, and count those that change."""
        with self._lock:
            before, self.inputs = self.inputs, inputs
            for name, bit in INPUTS.items():
                if (before ^ inputs) & bit:
                    self.counts[name] += 1

    def answer(self, request: int, argument: bytes) -> bytes:
        """Return the answer to one of `DRIVER_REQUESTS` (ioctl_tty(2), linux/serial.h). Raises OSError."""
        if request in _MODEM_REQUESTS:
            return self._modem(request, argument)
        if request == termios.TIOCGICOUNT:
            return _COUNTERS.pack(*self.counts.values())
        if request == termios.TIOCGSERIAL:
            return _SERIAL.pack(0, 0, 0, 0, self.flags)
        if request == termios.TIOCSSERIAL:
            if not self.fixed_flags:
                self.flags = _SERIAL.unpack_from(argument)[-1]
            return argument
        if self.rs485 is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if request == _SET_RS485:
            self.rs485 = argument[: _RS485.size]
        return self.rs485

    def _modem(self, request: int, argument: bytes) -> bytes:
        """Answer TIOCMGET, TIOCMSET, TIOCMBIS and TIOCMBIC (ioctl_tty(2))."""
        if request == termios.TIOCMGET:
            return _MODEM.pack(self.outputs | self.inputs)
        (bits,) = _MODEM.unpack_from(argument)
        with self._lock:
            if request == termios.TIOCMSET:
                self.set_outputs(bits)
            elif request == termios.TIOCMBIS:
                self.set_outputs(self.outputs | bits)
            else:
                self.set_outputs(self.outputs & ~bits)
        return argument


class _Calls:
    """The simulated terminals, and pyserial's way to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._terminals: dict[int, Terminal] = {}
        self._sockets: dict[int, tuple[TerminalSocket, Terminal]] = {}
        self._replaced: dict[str, Any] | None = None

    def lead(self, device: int, terminal: Terminal) -> None:
        """Lead calls on descriptors of the device number `device` to `terminal`; one call for each device."""
        try:
            import serial.serialposix as module
        except ImportError:  # then nobody opens it through pyserial
            return
        with self._lock:
            self._terminals[device] = terminal
            if self._replaced is None:
                names = vars(module)
                self._replaced = {name: names[name] for name in ("os", "termios", "fcntl")}
                asked = {name: self._asked(getattr(termios, name)) for name in ("tcdrain", "tcflow", "tcsendbreak")}
                names.update(
                    os=PartialModule(
                        os, open=self._open, close=self._close, write=self._write, isatty=self._asked(os.isatty)
                    ),
                    termios=PartialModule(
                        termios,
                        tcgetattr=self._tcgetattr,
                        tcsetattr=self._tcsetattr,
                        tcflush=self._tcflush,
                        **asked,
                    ),
                    fcntl=PartialModule(fcntl, ioctl=self._ioctl, flock=self._asked(fcntl.flock)),
                )

    def forget(self, terminal: Terminal) -> None:
        """Drop a terminal that has gone; dropping the last one restores pyserial."""
        with self._lock:
            self._terminals = {device: it for device, it in self._terminals.items() if it is not terminal}
        self._restore_unused()

    def choose_way(self, fd: int) -> None:
        """Choose the way of the bytes of a descriptor that pyserial has opened: sockets, where they may replace it."""
        terminal = self._of(fd)
        if terminal is None or descriptors.handle(fd) is not None or self._socket_at(fd) is not None:
            return
        self._drop_socket(fd)
        if (socket := terminal.replace(fd)) is not None:
            self._sockets[fd] = socket, terminal

    def _drop_socket(self, fd: int) -> None:
        """Close the sockets of a descriptor. They may have left their place, or lost it to another file."""
        if (entry := self._sockets.pop(fd, None)) is not None:
            socket, terminal = entry
            terminal.leave(socket)

    def leave_to_parent(self) -> None:
        """In a forked child: let a descriptor that is closed here take nothing from the parent's ports."""
        self._lock = threading.Lock()
        for terminal in self._terminals.values():
            terminal.leave_to_parent()
        for socket, _ in self._sockets.values():
            socket.leave_to_parent()

    def _restore_unused(self) -> None:
        """Restore pyserial if it has no open descriptor of a simulated port, and can't get one."""
        with self._lock:
            if self._replaced is not None and not self._terminals and not self._sockets:
                import serial.serialposix as module

                vars(module).update(self._replaced)
                self._replaced = None

    def _socket_at(self, fd: int) -> TerminalSocket | None:
        """Return the sockets that have taken the place of a terminal behind this descriptor, if any have."""
        socket, _ = self._sockets.get(fd, (None, None))
        return socket if socket is not None and socket.stands() else None

    def _terminal_of(self, fd: int) -> int:
        """Return the descriptor of the terminal whose place sockets have taken, or `fd` itself."""
        socket = self._socket_at(fd)
        return fd if socket is None else socket.terminal

    def _of(self, fd: int) -> Terminal | None:
        try:
            return self._terminals.get(os.fstat(self._terminal_of(fd)).st_rdev)
        except (OSError, TypeError):
            return None

    def _asked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function on a descriptor that asks the terminal instead of a socket in its place."""
        return lambda fd, *arguments: function(self._terminal_of(fd), *arguments)

    def _open(self, path: str, flags: int, *arguments: Any) -> int:
        fd = os.open(path, flags, *arguments)
        terminal = self._of(fd)
        if terminal is not None and descriptors.handle(fd) is None:
            terminal.opened()
        return fd

    def _close(self, fd: int) -> None:
        if descriptors.close(fd):  # of a node, whose handle has done the rest
            return
        if (terminal := self._of(fd)) is not None:
            terminal.released()
        try:
            os.close(fd)
        finally:
            self._drop_socket(fd)
            self._restore_unused()

    def _write(self, fd: int, data: Any) -> int:
        socket = self._socket_at(fd)
        return os.write(fd, data) if socket is None else socket.write(data)

    def _tcgetattr(self, fd: int) -> list[Any]:
        terminal = self._of(fd)
        real = self._terminal_of(fd)
        return termios.tcgetattr(real) if terminal is None else terminal.get_attributes(real)

    def _tcsetattr(self, fd: int, when: int, attributes: list[Any]) -> None:
        terminal = self._of(fd)
        set_attributes = termios.tcsetattr if terminal is None else terminal.set_attributes
        set_attributes(self._terminal_of(fd), when, attributes)

    def _tcflush(self, fd: int, queue: int) -> None:
        if (socket := self._socket_at(fd)) is not None:
            if queue != termios.TCOFLUSH:
                socket.discard_input()
            if queue != termios.TCIFLUSH:
                socket.discard_output()
        termios.tcflush(self._terminal_of(fd), queue)

    def _ioctl(self, fd: int, request: int, *arguments: Any) -> Any:
        terminal = self._of(fd) if request in DRIVER_REQUESTS else None
        if terminal is None:
            return fcntl.ioctl(fd if request == termios.FIONREAD else self._terminal_of(fd), request, *arguments)
        if len(arguments) != 1 or isinstance(arguments[0], int):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        (argument,) = arguments
        answer = terminal.answer(request, bytes(argument))
        if isinstance(argument, bytes):
            return answer
        memoryview(argument).cast("B")[: len(answer)] = answer
        return 0


calls: _Calls = _Calls()
os.register_at_fork(after_in_child=calls.leave_to_parent)
