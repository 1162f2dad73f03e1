"""The socket at which a guardian listens: without a name for the program that it runs, or at a path for any program."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from hwloop.errors import HardwareError

_BACKLOG = 128


class Door(NamedTuple):
    socket: socket.socket
    handle: int
    """A descriptor through whose entry in /proc a process can connect."""
    name: str


@contextlib.contextmanager
def listening() -> Iterator[Door]:
    """Make a socket for the processes of the program, without a name that others could use or that would remain.

    Its file is removed at once; a descriptor of the file (O_PATH) remains, through which connect(2) finds it.
    """
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        try:
            with tempfile.TemporaryDirectory(prefix="hwloop-guard-") as directory:
                path = os.path.join(directory, "socket")
                door.bind(path)
                # The directory keeps others out; later, connecting needs the descriptor, or this user's rights.
                os.chmod(path, 0o666)
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise HardwareError(
                "the guardian's socket",
                f"it can't be made in the directory for temporary files ({(error.strerror or str(error)).lower()})",
                "set TMPDIR to another one",
            ) from error
        stack.callback(os.close, handle)
        door.listen(_BACKLOG)
        found = os.fstat(handle)
        yield Door(door, handle, f"{os.getpid()}:{found.st_dev}:{found.st_ino}")


@contextlib.contextmanager
def listening_at(path: str) -> Iterator[socket.socket]:
    """Make a socket at a path, which only this user may use, and remove it at the end. Raises `HardwareError`.

    The socket of a guardian that was killed is replaced.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as door:
        try:
            if _is_abandoned(path):
                os.unlink(path)
            mask = os.umask(0o177)
            try:
                door.bind(path)
            finally:
                os.umask(mask)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "choose a path in a directory of this user, such as that of RuntimeDirectory="
            if error.errno == errno.EADDRINUSE:
                reason, hint = "another guardian listens there, or it is not a socket", "stop that one, or remove it"
            raise HardwareError(path, f"a guardian can't listen there ({reason})", hint, errno=error.errno) from error
        door.listen(_BACKLOG)
        try:
            yield door
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _is_abandoned(path: str) -> bool:
    """Return whether a path is a socket at which nobody listens."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False  # connect(2) fails in the same way for other files
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False
