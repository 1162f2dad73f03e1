"""asyncio's loop, with types for the private attributes that its stubs leave out.

hwloop's loop is a genuine `asyncio.SelectorEventLoop`, and asyncio's subclasses have to use some of its private
attributes. They are declared here and nowhere else. All of them are the same in Python 3.11 to 3.14, and CPython's own
tests (tests/conformance) show when one changes.
"""

from __future__ import annotations

import asyncio
import collections
import selectors
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class SelectorEventLoop(asyncio.SelectorEventLoop):
        """As at run time, with the types of private attributes."""

        _closed: bool
        _csock: socket.socket
        _debug: bool
        _default_executor: Executor | None
        _executor_shutdown_called: bool
        _ready: collections.deque[Any]
        _selector: selectors.BaseSelector
        _signal_handlers: dict[int, asyncio.Handle]
        _ssock: socket.socket
        _stopping: bool
        _task_factory: Callable[..., asyncio.Task[Any]] | None
        _thread_id: int | None

        def _check_callback(self, callback: object, method: str) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _do_shutdown(self, done: asyncio.Future[None]) -> None: ...
        def _ensure_fd_no_transport(self, sock: socket.socket) -> None: ...
        def _handle_signal(self, sig: int) -> None: ...
        def _make_datagram_transport(self, sock: socket.socket, *args: Any) -> asyncio.DatagramTransport: ...
        def _make_read_pipe_transport(self, *args: Any) -> asyncio.ReadTransport: ...
        def _process_self_data(self, data: bytes) -> None: ...
        def _read_from_self(self) -> None: ...
        def _write_to_self(self) -> None: ...

else:
    SelectorEventLoop = asyncio.SelectorEventLoop
