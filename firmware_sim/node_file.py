"""A simulated node as a file object: a raw file, with Python's own buffers and text layer over it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import IO, Any

from firmware_sim.nodes import Handle

_ACCESS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "a": os.O_WRONLY, "x": os.O_WRONLY}
_CREATE = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "a": os.O_CREAT | os.O_APPEND,
    "x": os.O_CREAT | os.O_EXCL,
}


def flags_of(mode: str) -> int:
    """Return the flags of open(2) for a mode of `open`. Raises ValueError for a mode that it rejects."""
    kinds = [letter for letter in mode if letter in _ACCESS]
    if set(mode) - set("rwaxbt+") or len(mode) > len(set(mode)):
        raise ValueError(f"invalid mode: {mode!r}")
    if len(kinds) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if "b" in mode and "t" in mode:
        raise ValueError("can't have text and binary mode at once")
    return (os.O_RDWR if "+" in mode else _ACCESS[kinds[0]]) | _CREATE[kinds[0]] | os.O_CLOEXEC


class NodeFile(io.RawIOBase):
    """The raw file of an open node.

    Parameters:
        fd: its descriptor.
        handle: its handle.
        name: its path, or `fd` where the program gave that.
        mode: the mode of `open`.
        close: closes `fd`; None leaves it open.
    """

    def __init__(self, fd: int, handle: Handle, name: Any, mode: str, close: Callable[[int], object] | None) -> None:
        self.name = name
        self.mode = mode
        self._fd = fd
        self._handle = handle
        self._close = close
        self._access = flags_of(mode) & os.O_ACCMODE

    def fileno(self) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self.fileno())

    def readable(self) -> bool:
        return self._access != os.O_WRONLY

    def writable(self) -> bool:
        return self._access != os.O_RDONLY

    def seekable(self) -> bool:
        return self._handle.seekable

    def readinto(self, buffer: Any) -> int | None:
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")
        view = memoryview(buffer).cast("B")
        fd = self.fileno()
        try:
            data = os.read(fd, len(view)) if self._handle.native else self._handle.read(len(view))
        except BlockingIOError:
            return None
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int | None:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        sent = memoryview(data).cast("B").tobytes()
        fd = self.fileno()
        try:
            return os.write(fd, sent) if self._handle.native else self._handle.write(sent)
        except BlockingIOError:
            return None

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self.fileno()
        return self._handle.seek(offset, whence)

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._close is not None:
            self._close(self._fd)


def buffered(raw: NodeFile, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> IO[Any]:
    """Return the file object that `open` makes with these arguments of a raw file.

    Raises ValueError for arguments that contradict each other, and OSError as `open` does.
    """
    binary = "b" in raw.mode
    if binary and (encoding, errors, newline) != (None, None, None):
        raise ValueError("binary mode takes no encoding, errors or newline argument")
    if buffering == 0:
        if not binary:
            raise ValueError("can't have unbuffered text I/O")
        return raw  # type: ignore[return-value]
    size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) else buffering
    buffer: io.BufferedRandom | io.BufferedReader | io.BufferedWriter
    if "+" in raw.mode:
        buffer = io.BufferedRandom(raw, size)
    elif raw.writable():
        buffer = io.BufferedWriter(raw, size)
    else:
        buffer = io.BufferedReader(raw, size)
    if binary:
        return buffer
    text: Any = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1 or raw.isatty())
    text.mode = raw.mode
    return text  # type: ignore[no-any-return]
