"""Transports: asyncio's own, but with reads that fit the traffic.

asyncio asks every `recv` for 256 KiB. From 128 KiB on the C library maps fresh memory for such a request and unmaps it
again (mallopt(3), M_MMAP_THRESHOLD), which for a message of a hundred bytes takes eight times as long as the read
itself. So a connection begins with small reads, doubles them while they come back full, up to just below that
threshold, and halves them again when the traffic ebbs. Everything else about a transport, from flow control to the
wording of its warnings, is asyncio's, and its code handles every special case.

The hot half of a transport, `read_ready` and `write`, is `Flow`, an object of its own, which the compiled core makes
an extension type. It keeps what it needs of the transport's state, because reading asyncio's attributes costs as much
as the rest of a small read. The private attributes and methods of asyncio's transport that both use are the same in
Python 3.11 to 3.14, and tests/test_transports.py checks that.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import selector_events
from typing import Any, TypeVar

from hwloop.core.native import COMPILED, is_plain, receive, send

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
    """The hot half of a socket's transport: what is called for each read, and for each write.

    Attributes:
        reads: whether data may be read, as long as the transport is not closed.
        writes: whether data may be sent at once, if none waits: the transport is not closed, its end has not been
            written, and it has not sent a file. Otherwise asyncio's `write` decides.
        buffered: whether the protocol brings a buffer of its own.
        protocol: the transport's protocol.
        waiting: the transport's buffer of data that the socket has not taken yet.
    """

    __slots__ = (
        "_is_plain",
        "_least",
        "_recv",
        "_send",
        "_size",
        "_small",
        "_sock",
        "_transport",
        "buffered",
        "protocol",
        "reads",
        "waiting",
        "writes",
    )

    def __init__(self, transport: Any, sock: socket.socket) -> None:
        self.reads: bool = True
        self.writes: bool = True
        self.buffered: bool = False
        self.protocol: Any = None
        self.waiting: Any = None
        self._transport = transport
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._is_plain: bool = COMPILED and is_plain(sock)
        self._size = self._least = SMALLEST_READ
        self._small = 0  # reads in a row that used little of the size

    def read_ready(self) -> None:
        """Receive once and pass the data to the protocol, as asyncio's `_read_ready__data_received` does."""
        if self.buffered:
            self._transport._read_ready__get_buffer()
            return
        if not self.reads:
            return
        size = self._size
        try:
            data = receive(self._sock, size) if COMPILED and self._is_plain else self._recv(size)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._transport._fatal_error(error, "Fatal read error on socket transport")
            return
        received = len(data)
        if not received:
            self._transport._read_ready__on_eof()
            return
        if received == size:
            self._size = min(size * 2, self._transport.max_size)
            self._small = 0
        elif size > self._least:
            self._ebb(received)
        try:
            self.protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._transport._fatal_error(error, "Fatal error: protocol.data_received() call failed.")

    def _ebb(self, received: int) -> None:
        """Ask for less once the traffic has been thin for a while."""
        if received * 4 >= self._size:
            self._small = 0
            return
        self._small += 1
        if self._small == READS_TO_SHRINK:
            self._size = max(self._size // 2, self._least)
            self._small = 0

    def write(self, data: Any) -> None:
        """Send as much as can be sent at once; asyncio handles the rest, and every special case."""
        if self.writes and type(data) is bytes and data and not self.waiting:
            try:
                sent = send(self._sock, data) if COMPILED and self._is_plain else self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._transport._fatal_error(error, "Fatal write error on socket transport")
                return
            if sent != len(data):
                self._send_later(memoryview(data)[sent:] if sent else data)
        else:
            _Base.write(self._transport, data)

    def _send_later(self, rest: bytes | memoryview) -> None:
        """Send the rest when the socket takes more."""
        transport = self._transport
        transport._loop._add_writer(transport._sock_fd, transport._write_ready)
        if type(self.waiting) is bytearray:  # until Python 3.11
            self.waiting += rest
        else:
            self.waiting.append(rest)
        transport._maybe_pause_protocol()


class _SelectorSocketTransport(_Base):  # type: ignore[misc]
    """asyncio's transport of a stream socket, with a `Flow`. Its name, seen in warnings and logs, is asyncio's too."""

    max_size = LARGEST_READ

    def __init__(self, loop: Any, sock: socket.socket, *args: Any) -> None:
        self._flow: Flow | None = Flow(self, sock)
        self._read_ready = self._flow.read_ready
        self.write = self._flow.write
        super().__init__(loop, sock, *args)
        self._flow.waiting = self._buffer

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        if self._flow is not None:
            self._flow.buffered = isinstance(protocol, asyncio.BufferedProtocol)
            self._flow.protocol = protocol

    # After each of these, asyncio's `write` raises, warns, or waits.

    def write_eof(self) -> None:
        try:
            super().write_eof()
        finally:
            self._update_flow()

    def close(self) -> None:
        super().close()
        self._update_flow()

    def _force_close(self, error: BaseException | None) -> None:
        super()._force_close(error)
        self._update_flow()

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        try:
            return super()._make_empty_waiter()  # type: ignore[no-any-return]
        finally:
            self._update_flow()

    def _update_flow(self) -> None:
        if self._flow is not None:
            self._flow.reads = not self._closing
            self._flow.writes = not (self._closing or self._eof or self._empty_waiter is not None)

    def _call_connection_lost(self, error: Exception | None) -> None:
        try:
            super()._call_connection_lost(error)
        finally:
            if self._flow is not None:
                self._flow.protocol = None
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
