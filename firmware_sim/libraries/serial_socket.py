"""A socket in the place of a terminal: in virtual time, the bytes between a simulated port and pyserial take it.

The kernel moves the bytes of a pseudo-terminal in a thread of its own. Waiting for that takes most of the time that
bytes cost, and the moment at which they arrive is the kernel's. With the settings that pyserial makes, a terminal
changes no byte, so a pair of sockets does the same, at once.

The socket replaces the terminal behind the program's own descriptor (dup2(2)): the program reads, writes and polls as
before. Requests that only a terminal answers (settings, locks, breaks) still go to the terminal, which stays open.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import termios
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_CHUNK = 65536
_ROOM = 20480
"""Bytes that the board has not read, at most: as many as a pseudo-terminal takes."""
_FEW_PIECES = 32
"""Writes after which the bytes on the way are put together: a socket takes fewer of them in small pieces."""
_INPUT_CHANGES = (
    termios.BRKINT
    | termios.PARMRK
    | termios.ISTRIP
    | termios.INLCR
    | termios.IGNCR
    | termios.ICRNL
    | termios.IXON
    | termios.IXOFF
)
_LOCAL_CHANGES = termios.ICANON | termios.ECHO | termios.ECHONL | termios.ISIG | termios.IEXTEN


def changes_nothing(attributes: list[Any]) -> bool:
    """Return whether a terminal with these attributes (termios(3)) passes bytes on as they are, and never waits."""
    input_flags, output_flags, _, local_flags, _, _, characters = attributes
    return (
        not input_flags & _INPUT_CHANGES
        and not output_flags & termios.OPOST
        and not local_flags & _LOCAL_CHANGES
        and all(characters[index] in (0, b"\0") for index in (termios.VMIN, termios.VTIME))
    )


class TerminalSocket:
    """A pair of connected sockets. The program's takes the place of the terminal behind a descriptor.

    Attributes:
        ours: the board's end.
        theirs: the program's end, a descriptor of the board's own.
        terminal: a descriptor of the terminal that was replaced, with its locks (flock(2)).
    """

    def __init__(self, fd: int) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.ours: int = self._ours.fileno()
        self.theirs: int = self._theirs.fileno()
        self.terminal: int = os.dup(fd)
        self._fd = fd
        self._waiting = array.array("i", [0])
        self._pieces = 0
        self._is_parents = False
        self._ours.setblocking(False)
        os.set_blocking(self.theirs, os.get_blocking(fd))
        os.dup2(self.theirs, fd, inheritable=False)
        self._file = _file(fd)

    def stands(self) -> bool:
        """Return whether the descriptor still is the socket."""
        try:
            return _file(self._fd) == self._file
        except OSError:
            return False

    def hand_over(self, data: bytes) -> int:
        """Write bytes of the board, for which the program's buffer has room, and return their number."""
        try:
            return os.write(self.ours, data)
        except BlockingIOError:  # too many small pieces
            return os.write(self.ours, _taken(self._theirs) + data) and len(data)

    def read(self, count: int) -> bytes:
        """Return bytes that the program has written, `count` at most. Raises `BlockingIOError` if there are none."""
        return os.read(self.ours, count)

    def write(self, data: Buffer) -> int:
        """Write bytes of the program, and return how many there is room for, as os.write does. Raises OSError."""
        try:
            if self.ours < 0:
                raise BrokenPipeError
            fcntl.ioctl(self.ours, termios.FIONREAD, self._waiting)
            room = _ROOM - self._waiting[0]
            if room > 0 and self._pieces >= _FEW_PIECES:
                self._pieces = 0
                os.write(self.theirs, _taken(self._ours))
            # Without room single bytes, until the socket is no longer writable either: a program waits for that.
            written = os.write(self.theirs, memoryview(data).cast("B")[: max(room, 1)])
        except BrokenPipeError:  # a terminal that has hung up reports another error
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        self._pieces += 1
        return written

    def leave(self) -> bytes:
        """Put the terminal back in its place. Return the bytes that the program has not read.

        The sockets stay open, for an epoll set of the program may watch its end for a hang-up.
        """
        unread = _taken(self._theirs)
        if self.stands():
            os.set_blocking(self.terminal, os.get_blocking(self._fd))
            os.dup2(self.terminal, self._fd, inheritable=False)
        return unread

    def leave_to_parent(self) -> None:
        """In a forked child: take no bytes any more, for they are on their way to the parent or to its board."""
        self._is_parents = True

    def discard_input(self) -> None:
        """Drop the bytes that the program has not read."""
        _taken(self._theirs)

    def discard_output(self) -> None:
        """Drop the bytes that the board has not read."""
        _taken(self._ours)

    def hang_up(self) -> None:
        """Hang up, as a terminal does: bytes that are on their way are lost. Harmless when repeated."""
        if self.ours >= 0:
            if not self._is_parents:
                self.discard_input()
                self.discard_output()  # else the program's next read would raise ECONNRESET
            self._ours.close()
            self.ours = -1

    def close(self) -> None:
        """Close all but the program's descriptor. Harmless when repeated."""
        self.hang_up()
        self._theirs.close()
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1


def _taken(end: socket.socket) -> bytes:
    """Read all that there is."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := end.recv(_CHUNK, socket.MSG_DONTWAIT):
            data += more
    return data


def _file(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
