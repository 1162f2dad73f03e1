"""Transports: asyncio's own, but with reads that fit the traffic.

asyncio asks every `recv` for 256 KiB. From 128 KiB on the C library maps fresh memory for such a request and unmaps it
again (mallopt(3), M_MMAP_THRESHOLD), which for a message of a hundred bytes takes eight times as long as the read
itself. So a connection begins with small reads, doubles them while they come back full, up to just below that
threshold, and halves them again when the traffic ebbs. Everything else about a transport, from flow control to the
wording of its warnings, is asyncio's, and its code handles every special case.

The hot half of a transport, `read_ready` and `write`, is `Flow`, an object of its own that could be compiled as it
stands. The private attributes of asyncio's transport that it uses are the same in Python 3.11 to 3.14, and
tests/test_transports.py checks that.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import selector_events
from typing import Any, TypeVar

from hwloop.core.native import COMPILED, receive, send

T = TypeVar("T", bound=asyncio.BaseTransport)

SMALLEST_READ = 16 * 1024
LARGEST_READ = 120 * 1024
"""Bytes asked of one `recv`. The largest stays below the C library's 128 KiB together with a bytes object's header."""

READS_TO_SHRINK = 16
"""After this many reads in a row that use less than a quarter of their size, the size is halved."""

LARGEST_PACKET = 64 * 1024
"""Bytes: an Internet datagram has at most 65,535, and a pipe holds 65,536 unless someone enlarges it (pipe(7))."""

_Loop: Any = selector_events.BaseSelectorEventLoop
_CHECKS_SOCKETS = "_ensure_fd_no_transport" in _Loop._make_socket_transport.__code__.co_names
"""Whether this asyncio rejects a second transport for a socket, as it does from Python 3.12 on."""

_Base: Any = getattr(selector_events, "_SelectorSocketTransport")  # noqa: B009  # the stubs leave it out


class Flow:
    """The hot half of a socket's transport: what is called for each read, and for each write."""

    __slots__ = ("_fileno", "_is_plain", "_recv", "_send", "_size", "_small", "_transport", "buffered")

    def __init__(self, transport: Any, sock: socket.socket) -> None:
        self._transport = transport
        self._recv = sock.recv
        self._send = sock.send
        self._fileno = sock.fileno
        self._is_plain = type(sock) is socket.socket  # no mock, nor a class of the program's
        self._size = SMALLEST_READ
        self._small = 0  # reads in a row that used little of the size
        self.buffered: bool = False  # the protocol brings a buffer of its own

    def read_ready(self) -> None:
        """Receive once and pass the data to the protocol, as asyncio's `_read_ready__data_received` does."""
        transport = self._transport
        if self.buffered:
            transport._read_ready__get_buffer()
            return
        if transport._conn_lost:
            return
        size = self._size
        try:
            data = receive(self._fileno(), size) if COMPILED and self._is_plain else self._recv(size)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            transport._fatal_error(error, "Fatal read error on socket transport")
            return
        if not data:
            transport._read_ready__on_eof()
            return
        if len(data) == size:
            self._size = min(size * 2, transport.max_size)
            self._small = 0
        elif size > SMALLEST_READ:
            self._ebb(len(data))
        try:
            transport._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            transport._fatal_error(error, "Fatal error: protocol.data_received() call failed.")

    def _ebb(self, received: int) -> None:
        """Ask for less once the traffic has been thin for a while."""
        if received * 4 >= self._size:
            self._small = 0
            return
        self._small += 1
        if self._small == READS_TO_SHRINK:
            self._size = max(self._size // 2, SMALLEST_READ)
            self._small = 0

    def write(self, data: Any) -> None:
        """Send as much as can be sent at once; asyncio handles the rest, and every special case."""
        transport = self._transport
        if (
            data.__class__ is bytes
            and data
            and not transport._buffer
            and not transport._conn_lost
            and not transport._eof
            and transport._empty_waiter is None
        ):
            try:
                sent = send(self._fileno(), data) if COMPILED and self._is_plain else self._send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                transport._fatal_error(error, "Fatal write error on socket transport")
                return
            else:
                if sent == len(data):
                    return
                data = memoryview(data)[sent:]
            transport._loop._add_writer(transport._sock_fd, transport._write_ready)
            if type(transport._buffer) is bytearray:  # until Python 3.11
                transport._buffer += data
            else:
                transport._buffer.append(data)
            transport._maybe_pause_protocol()
        else:
            _Base.write(transport, data)


class _SelectorSocketTransport(_Base):  # type: ignore[misc]
    """asyncio's transport of a stream socket, with a `Flow`. Its name, seen in warnings and logs, is asyncio's too."""

    max_size = LARGEST_READ

    def __init__(self, loop: Any, sock: socket.socket, *args: Any) -> None:
        self._flow: Flow | None = Flow(self, sock)
        self._read_ready = self._flow.read_ready
        self.write = self._flow.write
        super().__init__(loop, sock, *args)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        if self._flow is not None:
            self._flow.buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def _call_connection_lost(self, error: Exception | None) -> None:
        try:
            super()._call_connection_lost(error)
        finally:
            if self._flow is not None:
                self._flow = None  # it refers to this transport, and so do its methods
                del self._read_ready, self.write


def make_socket_transport(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    *,
    extra: dict[str, Any] | None = None,
    server: Any = None,
) -> asyncio.Transport:
    """Return a transport of a stream socket, as asyncio's `_make_socket_transport` does."""
    if _CHECKS_SOCKETS:
        loop._ensure_fd_no_transport(sock)
    return _SelectorSocketTransport(loop, sock, protocol, waiter, extra, server)


def with_packet_size(transport: T) -> T:
    """Have a datagram or pipe transport read at most as much as can arrive at once."""
    made: Any = transport
    made.max_size = LARGEST_PACKET
    return transport
