"""Metrics over HTTP, on a Unix socket or an address of this computer, one thread for each of a few requests at a time.

Whoever connects and does not ask, or does not read, holds a thread for five seconds and nobody else up.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import re
import select
import socket
import stat
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from hwloop.service.metric_errors import MetricsError, TargetInUseError

logger: logging.Logger = logging.getLogger("hwloop.service")

AT_A_TIME = 4
"""Requests."""

PATIENCE = 5.0
"""Seconds for which a request may say nothing, and the answer is not read."""

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5})")


def address_of(target: str) -> tuple[str, int] | None:
    """Return host and port of a target such as "127.0.0.1:9101", "[::1]:9101" or "localhost:9101"; None for others."""
    found = _ADDRESS.fullmatch(target)
    return None if found is None else (found["v6"] or found["host"], int(found["port"]))


class MetricServer:
    """Serves metrics at a listening socket; `on_path` and `on_address` open one.

    Attributes:
        address: the socket's: host and port, or a path.
    """

    shows_process: bool = True

    def __init__(self, listener: socket.socket, path: str = "") -> None:
        self.address: Any = listener.getsockname()
        listener.setblocking(False)
        self._listener = listener
        self._path = path
        self._inode = os.lstat(path).st_ino if path else 0
        self._process = os.getpid()
        self._slots = threading.BoundedSemaphore(AT_A_TIME)
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @classmethod
    def on_path(cls, path: str) -> MetricServer:
        """Listen on a Unix socket. Raises `MetricsError`."""
        path = os.path.abspath(path)
        listener = socket.socket(socket.AF_UNIX)
        try:
            _remove_stale(path)
            listener.bind(path)
            os.chmod(path, 0o666)  # as open as an address; the rights of its directory limit access
            listener.listen()
            return cls(listener, path)
        except MetricsError:
            listener.close()
            raise
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            raise MetricsError(
                f"metrics: can't listen on unix:{path}: {reason}; the directory must exist, and the program's user "
                "must be allowed to write there"
            ) from error

    @classmethod
    def on_address(cls, host: str, port: int) -> MetricServer:
        """Listen on an address. Raises `MetricsError`."""
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise MetricsError(f"metrics: {host!r} is not an IP address; write 127.0.0.1:{port}") from None
        if port > 65535:
            raise MetricsError(f"metrics: a port is at most 65535, not {port}")
        listener = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(address), port))
            listener.listen()
        except OSError as error:
            listener.close()
            kind = TargetInUseError if error.errno == errno.EADDRINUSE else MetricsError
            raise kind(f"metrics: can't listen on {host}:{port}: {error.strerror}; choose another port") from error
        if not address.is_loopback:
            logger.warning(
                "metrics are served to other computers on %s:%d, without a password or encryption; 127.0.0.1 keeps "
                "them on this one", host, port,
            )  # fmt: skip
        return cls(listener)

    def serve(self, text: Callable[[str], tuple[bytes, str]]) -> None:
        """Answer requests with `text(accept)` until `end()`."""
        handler = type("Handler", (_Handler,), {"text": staticmethod(text)})
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        ready.register(self._ended, select.POLLIN)
        while self._ended not in {fd for fd, _ in ready.poll()}:
            with contextlib.suppress(OSError):  # the client has gone, or there are no descriptors
                connection, address = self._listener.accept()
                if self._slots.acquire(blocking=False):
                    self._answer(handler, connection, address)
                else:
                    connection.close()
        self._listener.close()
        if self._path:
            with contextlib.suppress(OSError):
                if os.lstat(self._path).st_ino == self._inode:
                    os.unlink(self._path)
        os.close(self._ended)

    def end(self) -> None:
        """End `serve()`, which then closes the socket."""
        if self._process == os.getpid():
            os.eventfd_write(self._ended, 1)

    def forget(self) -> None:
        """Close the socket in a forked child, which would keep the address in use after the parent has ended."""
        self._listener.close()

    def _answer(self, handler: Any, connection: socket.socket, address: Any) -> None:
        def answer() -> None:
            try:
                with connection, contextlib.suppress(OSError):
                    handler(connection, address, self)
            finally:
                self._slots.release()

        try:
            threading.Thread(target=answer, name="metrics request", daemon=True).start()
        except RuntimeError:  # no more threads
            self._slots.release()
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = PATIENCE
    server_version = "hwloop"
    sys_version = ""
    text: Callable[[str], tuple[bytes, str]]

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self.send_error(HTTPStatus.NOT_FOUND, explain="the metrics are at /metrics")
            return
        body, content_type = self.text(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a request every few seconds is no news."""


def _remove_stale(path: str) -> None:
    """Remove the socket of a program that has ended. Raises `MetricsError` if there is anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise MetricsError(f"metrics: {path} exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise TargetInUseError(f"metrics: another program listens on unix:{path}; give each program a socket of its own")
