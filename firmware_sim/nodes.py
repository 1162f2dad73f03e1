"""The device nodes and sysfs files of a simulated board: what a program finds under /dev, /sys and /proc.

    board.nodes.add("/dev/spidev0.0", SpiNode(...))      # a character device: a Node whose open() returns a Handle
    board.nodes.add("/sys/class/pwm/pwmchip0/npwm", Attribute(show=lambda: "2"))
    board.nodes.add("/dev/serial0", Link("/dev/ttyAMA0"))

A node is the driver's side of a file. Its `open` returns a `Handle`, which answers the system calls on one open file,
as the file operations of a driver in the kernel do. `firmware_sim.node_calls` leads the calls of a program to them
(`os.open`, `open`, `os.read`, `fcntl.ioctl`, `os.listdir` and so on), while the program runs and for these paths only.

Methods of handles are called on the program's thread, without the timeline's lock. They raise `OSError` as the driver
would.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable
from typing import Any

from firmware_sim.errors import WiringError

ROOTS = ("/dev", "/sys", "/proc")
"""The directories below which nodes are; a serial port may also have a name of its own."""

_LINKS_MAX = 40  # of a path, as in the kernel (MAXSYMLINKS)


def os_error(number: int, path: str | None = None) -> OSError:
    """Return the exception for a system call's error number."""
    return OSError(number, os.strerror(number)) if path is None else OSError(number, os.strerror(number), path)


def integer(text: str, base: int = 10) -> int:
    """Return a number as the kernel's kstrtoint() reads it; with base 0 it may begin with 0x. Raises OSError."""
    if re.fullmatch(r"[+-]?(0[xX])?[0-9a-fA-F]+\n?", text) is None:
        raise os_error(errno.EINVAL)
    try:
        return int(text, base)
    except ValueError:
        raise os_error(errno.EINVAL) from None


class Handle:
    """One open file of a node. The defaults answer as a driver does that lacks the operation.

    Attributes:
        seekable: whether `seek` may set `position`.
        position: where the next read or write begins, from the start of the file.
        native: whether the kernel makes the reads and writes of `descriptor()`, and only `ioctl` comes here.
    """

    seekable: bool = False
    position: int = 0
    native: bool = False

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end of the file."""
        raise os_error(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """Take the bytes of one write(2); return how many were taken."""
        raise os_error(errno.EINVAL)

    def ioctl(self, request: int, argument: Any) -> int:
        """Answer ioctl(2); return its result.

        `argument` is a number, or a writable buffer at least as long as Python got from the program: the structure of a
        request is `Structure.from_buffer(argument)`, and changes of it reach the program.
        """
        raise os_error(errno.ENOTTY)

    def seek(self, offset: int, whence: int) -> int:
        """Set the position, counted from the start or from where it is, and return it."""
        if not self.seekable:
            raise os_error(errno.ESPIPE)
        position = offset + self.position if whence == os.SEEK_CUR else offset
        if whence not in (os.SEEK_SET, os.SEEK_CUR) or position < 0:
            raise os_error(errno.EINVAL)
        self.position = position
        return position

    def descriptor(self) -> int:
        """Return a new descriptor for this open file; the program closes it.

        By default it only reserves a number, and reads and writes come here. A handle whose reads and writes the kernel
        can make, because the data passes through a pipe or a terminal, returns the end of that, and sets `native`.
        """
        return os.memfd_create("simulated", os.MFD_CLOEXEC)

    def close(self) -> None:
        """Called when the program closes the file."""


class TerminalHandle(Handle):
    """One open file of a terminal, whose data passes through `descriptor()`."""

    native = True

    def get_attributes(self) -> list[Any]:
        """Answer tcgetattr(3)."""
        raise NotImplementedError

    def set_attributes(self, when: int, attributes: list[Any]) -> None:
        """Answer tcsetattr(3)."""
        raise NotImplementedError


def _always() -> bool:
    return True


class Node:
    """A file of the simulated board.

    Attributes:
        there: returns whether the file exists now; a board may change it for a file that comes and goes.
        mode: its kind and permissions (stat(2)): by default a character device for owner and group.
        device: its device number, `os.makedev(89, 1)`; 0 for files that have none.
    """

    there: Callable[[], bool] = staticmethod(_always)
    mode: int = stat.S_IFCHR | 0o660
    device: int = 0

    def open(self, flags: int) -> Handle:
        """Open it; `flags` are those of open(2). Raises OSError."""
        raise NotImplementedError


class Link(Node):
    """A symbolic link."""

    mode = stat.S_IFLNK | 0o777

    def __init__(self, target: str) -> None:
        self.target: str = target

    def open(self, flags: int) -> Handle:
        raise os_error(errno.ELOOP)


class File(Node):
    """A file that can be read only, such as those of /proc.

    Parameters:
        content: its bytes.
    """

    mode = stat.S_IFREG | 0o444

    def __init__(self, content: bytes) -> None:
        self._content = content

    def open(self, flags: int) -> Handle:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise os_error(errno.EACCES)
        return _TextHandle(lambda: self._content, None)


class Attribute(Node):
    """A sysfs attribute: a short text that is read and written whole (Documentation/filesystems/sysfs.rst).

    Parameters:
        show: returns the text, without the newline at its end, or an empty one for an empty file; None: it can't be
            read. Raises OSError.
        store: takes what is written, without the newline at its end; None: it can't be written. Raises OSError.
    """

    def __init__(self, show: Callable[[], str] | None = None, store: Callable[[str], object] | None = None) -> None:
        self._show = show
        self._store = store
        self.mode: int = stat.S_IFREG | (0o444 if show is not None else 0) | (0o220 if store is not None else 0)

    def open(self, flags: int) -> Handle:
        access, show = flags & os.O_ACCMODE, self._show
        if (access != os.O_WRONLY and show is None) or (access != os.O_RDONLY and self._store is None):
            raise os_error(errno.EACCES)
        return _TextHandle(None if show is None else lambda: _line(show()), self._store)


def _line(text: str) -> bytes:
    return text.encode() + b"\n" if text else b""


class _TextHandle(Handle):
    seekable = True

    def __init__(self, show: Callable[[], bytes] | None, store: Callable[[str], object] | None) -> None:
        self._show = show
        self._store = store
        self._text: bytes = b""

    def read(self, count: int) -> bytes:
        assert self._show is not None
        if self.position == 0:  # the kernel asks the driver again whenever a read begins at the start
            self._text = self._show()
        data = self._text[self.position : self.position + count]
        self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        assert self._store is not None
        self._store(data.decode(errors="replace").removesuffix("\n"))
        self.position += len(data)
        return len(data)


class Nodes:
    """The files of a board by their paths. Directories exist as long as there is a file below them."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def add(self, path: str, node: Node) -> None:
        """Add a file. Raises `WiringError` if there is one already."""
        if path in self._nodes:
            raise WiringError(f"{path} is used already, by another part")
        self._nodes = {**self._nodes, path: node}  # a new one, because other threads may be looking

    def remove(self, path: str) -> None:
        """Remove a file; programs that have it open keep it. Raises KeyError if there is none."""
        nodes = dict(self._nodes)
        del nodes[path]
        self._nodes = nodes

    def remove_below(self, directory: str) -> None:
        """Remove a directory with all files in it. Harmless if there is none."""
        start = directory + "/"
        self._nodes = {path: node for path, node in self._nodes.items() if not path.startswith(start)}

    def get(self, path: str) -> Node | None:
        """Return the file of this very path, which may be a link; None if there is none."""
        node = self._nodes.get(path)
        return node if node is not None and node.there() else None

    def is_directory(self, path: str) -> bool:
        """Return whether there is a file below `path`."""
        start = path.rstrip("/") + "/"
        return any(each.startswith(start) and node.there() for each, node in self._nodes.items())

    def entries(self, directory: str) -> set[str]:
        """Return the names in a directory; none if there is no such directory."""
        start = directory.rstrip("/") + "/"
        below = (path for path, node in self._nodes.items() if path.startswith(start) and node.there())
        return {path[len(start) :].split("/", 1)[0] for path in below}

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """Return a path without the links in it, as realpath(3) does; without `follow` its last part may be a link.

        Raises OSError (ELOOP).
        """
        path = posixpath.normpath(path)
        for _ in range(_LINKS_MAX):
            parts = path.split("/")
            for end in range(2, len(parts) + follow):
                node = self.get("/".join(parts[:end]))
                if isinstance(node, Link):
                    path = posixpath.normpath(posixpath.join("/".join(parts[: end - 1]), node.target, *parts[end:]))
                    break
            else:
                return path
        raise os_error(errno.ELOOP, path)
