"""Python's calls on files, led to the nodes of a simulated board for the paths that it has.

    with node_calls.reaching(board.nodes, hides):
        os.listdir("/sys/bus/w1/devices")

`os.open`, `open`, `os.stat`, `os.listdir`, `os.scandir`, `os.readlink`, `os.access`, `fcntl.ioctl` and two functions of
`termios` are replaced in such a block; what is built on them (`os.path`, `glob`, `pathlib`) follows. `os.read`,
`os.write`, `os.lseek` and `os.close` are replaced only while the program has a node open, because hwloop calls them all
the time. Each function passes on the calls that concern no node. A module may keep one beyond the block, as `from fcntl
import ioctl` does; it then passes everything on.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import fcntl
import glob
import io
import os
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from firmware_sim import node_file
from firmware_sim.descriptors import descriptors
from firmware_sim.node_listing import Entries, Place
from firmware_sim.nodes import ROOTS, Link, Node, Nodes, TerminalHandle, os_error

_STATIC = 1024
"""Bytes of the buffer into which fcntl.ioctl copies a shorter argument: a driver finds a whole structure there."""


def _working_directory() -> str:
    """Return its path; an empty string if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


class _Replacements:
    """Functions that stand in modules, or in a class, instead of others for a while.

    Attributes:
        real: the functions that they replace, or have replaced last, by the names of the replacements.
    """

    def __init__(self, *places: tuple[Any, str, Callable[..., Any]]) -> None:
        self._places = places
        self._before: list[tuple[Any, str, Any]] = []
        self.real: dict[str, Callable[..., Any]] = {ours.__name__: getattr(place, name) for place, name, ours in places}

    def put_in(self) -> None:
        """Replace the functions. Harmless if they are replaced."""
        if self._before:
            return
        for place, name, ours in self._places:
            found = getattr(place, name)
            self._before.append((place, name, vars(place)[name]))
            if found != ours:  # it is if somebody has put ours back after its time
                self.real[ours.__name__] = found
            setattr(place, name, ours)

    def take_out(self) -> None:
        """Put the functions back that were there before. Harmless if they are there."""
        before, self._before = self._before, []
        for place, name, found in before:
            setattr(place, name, found)


class _Board(NamedTuple):
    nodes: Nodes
    hides: Callable[[str], bool]


class _Calls:
    """The functions, and when they stand in the modules. There is one object for the process, as there are modules."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boards: tuple[_Board, ...] = ()
        self._open: frozenset[int] = frozenset()
        self._path_calls = _Replacements(
            (builtins, "open", self.open_file),
            (io, "open", self.open_file),
            (os, "open", self.open),
            (os, "stat", self.stat),
            (os, "lstat", self.lstat),
            (os, "listdir", self.listdir),
            (os, "scandir", self.scandir),
            (os, "readlink", self.readlink),
            (os, "access", self.access),
            (fcntl, "ioctl", self.ioctl),
            (termios, "tcgetattr", self.tcgetattr),
            (termios, "tcsetattr", self.tcsetattr),
            *self._kept_by_glob(),
        )
        self._descriptor_calls = _Replacements(
            (os, "read", self.read), (os, "write", self.write), (os, "lseek", self.lseek), (os, "close", self.close)
        )
        self._real = self._path_calls.real
        self._real_fd = self._descriptor_calls.real
        descriptors.at_close.append(self._forget)

    def _kept_by_glob(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        """Return the places where Python 3.13 keeps two of the functions for `Path.glob`."""
        globber = getattr(glob, "_StringGlobber", None)
        return [
            (globber, name, ours)
            for name, ours in (("scandir", self.scandir), ("lstat", self.lstat))
            if getattr(globber, name, None) is getattr(os, name)
        ]

    @contextlib.contextmanager
    def reaching(self, nodes: Nodes, hides: Callable[[str], bool]) -> Iterator[None]:
        """Lead the calls to `nodes` in this block. `hides(path)` says whether the real file there must not show."""
        board = _Board(nodes, hides)
        with self._lock:
            if not self._boards:
                self._path_calls.put_in()
            self._boards = (*self._boards, board)
        try:
            yield
        finally:
            with self._lock:
                self._boards = tuple(other for other in self._boards if other is not board)
                if not self._boards:
                    self._descriptor_calls.take_out()
                    self._path_calls.take_out()
                    self._open = frozenset()

    def _place(self, path: Any, *, follow: bool = True) -> Place | None:
        """Return where a path leads on the board in use; None if it certainly leads elsewhere."""
        boards = self._boards
        if not boards:
            return None
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        name = os.fsdecode(path) if isinstance(path, bytes) else path
        if not isinstance(name, str):
            return None
        nodes, hides = boards[-1]
        node = nodes.get(name)
        if node is None or isinstance(node, Link):
            if not name.startswith(ROOTS):
                if name.startswith("/") or not (here := _working_directory()).startswith(ROOTS):
                    return None
                name = os.path.join(here, name)
            name = nodes.resolve(name, follow=follow)
            node = nodes.get(name)
        return Place(nodes, name, node, hides(name))

    # Calls with a path.

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path) if dir_fd is None else None
        if place is not None and place.node is not None:
            return self._open_node(place.node, flags, path)
        fd: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        return fd

    def _open_node(self, node: Node, flags: int, path: Any) -> int:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST, path)
        try:
            fd = descriptors.open(node, flags)
        except OSError as error:
            if error.filename is None:
                error.filename = path
            raise
        with self._lock:
            if self._boards:
                self._open |= {fd}
                self._descriptor_calls.put_in()
        return fd

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        handle, node, fd = None, None, file
        if isinstance(file, int):
            handle = descriptors.handle(file)
        elif opener is None and (place := self._place(file)) is not None:
            node = place.node
        if handle is None and node is None:
            return self._real["open_file"](file, mode, buffering, encoding, errors, newline, closefd, opener)
        flags = node_file.flags_of(mode)
        if node is not None:
            if not closefd:
                raise ValueError("Cannot use closefd=False with file name")
            fd = self._open_node(node, flags, file)
            handle = descriptors.handle(fd)
        assert handle is not None
        raw = node_file.NodeFile(fd, handle, file, mode, self.close if closefd else None)
        try:
            return node_file.buffered(raw, buffering, encoding, errors, newline)
        except BaseException:
            if node is not None:
                raw.close()
            raise

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        place = self._place(path, follow=follow_symlinks) if dir_fd is None else None
        status = None if place is None else place.status()
        if status is None:
            status = self._real["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return status

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def access(
        self,
        path: Any,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        place = self._place(path, follow=follow_symlinks) if dir_fd is None else None
        try:
            status = None if place is None else place.status()
        except FileNotFoundError:
            return False
        if status is None:
            options = {"dir_fd": dir_fd, "effective_ids": effective_ids, "follow_symlinks": follow_symlinks}
            return bool(self._real["access"](path, mode, **options))
        return (status.st_mode >> 6 & 7) & mode == mode

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        place = self._place(path, follow=False) if dir_fd is None else None
        if place is None or (place.node is None and not place.hidden):
            return self._real["readlink"](path, dir_fd=dir_fd)
        if not isinstance(place.node, Link):
            raise os_error(errno.ENOENT if place.node is None else errno.EINVAL, path)
        return os.fsencode(place.node.target) if isinstance(path, bytes) else place.node.target

    def scandir(self, path: Any = ".") -> Any:
        place = self._directory(path)
        if place is None or (not place.hidden and not place.nodes.is_directory(place.path)):
            return self._real["scandir"](path)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return Entries(iter(place.entries(os.fspath(path), self._real["scandir"], self._boards[-1].hides)))

    def _directory(self, path: Any) -> Place | None:
        place = self._place(path)
        if place is not None and place.node is not None:
            raise os_error(errno.ENOTDIR, path)
        return place

    def listdir(self, path: Any = None) -> list[Any]:
        place = self._directory(path)
        if place is None or (not place.hidden and not place.nodes.is_directory(place.path)):
            return self._real["listdir"](path)  # type: ignore[no-any-return]
        with self.scandir(path) as entries:
            names = [entry.name for entry in entries]
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    # Calls with a descriptor.

    def ioctl(self, fd: Any, request: int, argument: Any = 0, mutate_flag: bool = True, /) -> Any:
        number = fd if isinstance(fd, int) else _number(fd)
        handle = None if number is None else descriptors.handle(number)
        if handle is None:
            return self._real["ioctl"](fd, request, argument, mutate_flag)
        request &= 0xFFFF_FFFF
        if isinstance(argument, int):
            return handle.ioctl(request, argument)
        argument = argument.encode() if isinstance(argument, str) else argument
        view = memoryview(argument)
        size, changeable = view.nbytes, mutate_flag and not view.readonly
        if size > _STATIC:
            if not changeable:
                raise ValueError("ioctl argument 3 is too long")
            return handle.ioctl(request, argument)
        copy = bytearray(_STATIC)
        copy[:size] = view.tobytes()
        result = handle.ioctl(request, copy)
        if not changeable:
            return bytes(copy[:size])
        ctypes.memmove((ctypes.c_char * size).from_buffer(argument), bytes(copy[:size]), size)
        return result

    def read(self, fd: int, length: int, /) -> bytes:
        handle = descriptors.handle(fd) if fd in self._open else None
        if handle is None or handle.native:
            return self._real_fd["read"](fd, length)  # type: ignore[no-any-return]
        return handle.read(length)

    def write(self, fd: int, data: Any, /) -> int:
        handle = descriptors.handle(fd) if fd in self._open else None
        if handle is None or handle.native:
            return self._real_fd["write"](fd, data)  # type: ignore[no-any-return]
        return handle.write(memoryview(data).tobytes())

    def lseek(self, fd: int, position: int, whence: int, /) -> int:
        handle = descriptors.handle(fd) if fd in self._open else None
        if handle is None or handle.native:
            return self._real_fd["lseek"](fd, position, whence)  # type: ignore[no-any-return]
        return handle.seek(position, whence)

    def close(self, fd: int) -> None:
        if not descriptors.close(fd):
            self._real_fd["close"](fd)

    def _forget(self, fd: int) -> None:
        with self._lock:
            if fd in self._open:
                self._open -= {fd}
                if not self._open:
                    self._descriptor_calls.take_out()

    def tcgetattr(self, fd: Any, /) -> list[Any]:
        handle = self._terminal(fd)
        return self._real["tcgetattr"](fd) if handle is None else handle.get_attributes()

    def tcsetattr(self, fd: Any, when: int, attributes: list[Any], /) -> None:
        handle = self._terminal(fd)
        if handle is None:
            self._real["tcsetattr"](fd, when, attributes)
        else:
            handle.set_attributes(when, attributes)

    def _terminal(self, fd: Any) -> TerminalHandle | None:
        number = fd if isinstance(fd, int) else _number(fd)
        handle = None if number is None else descriptors.handle(number)
        return handle if isinstance(handle, TerminalHandle) else None


def _number(file: Any) -> int | None:
    try:
        number = file.fileno()
    except (AttributeError, ValueError, OSError):
        return None  # the real call says what is wrong with it
    return number if isinstance(number, int) else None


calls: _Calls = _Calls()
