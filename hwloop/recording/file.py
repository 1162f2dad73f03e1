"""Recordings in a file that only grows, for `hwloop record`.

The caller encodes an event, which takes microseconds, and a thread writes the bytes: a card or a network drive may
block for seconds, and the loop must not. The thread writes a few times a second while events come, and sleeps
otherwise. So a program that is killed loses the last quarter of a second; a program that must not lose even that
records into a ring (`hwloop.recording.ring`).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import os
import stat
import threading

from hwloop.recording.format import Encoder, Ended, Event, Header, Lost, RecordingError, file_preamble

logger: logging.Logger = logging.getLogger("hwloop")

INTERVAL = 0.25
"""Seconds for which bytes are collected before they are written."""
BUFFER = 16 << 20
"""Bytes that wait for a slow disk; events that find no room are lost, and counted."""


class RecordingFile:
    """A recording in a file.

    Parameters:
        path: the file to create.
        overwrite: whether a file of this name is replaced.
        buffer: bytes that may wait to be written.

    Raises `RecordingError` if the file exists, or can't be created.

    Attributes:
        lost: events that found the buffer full.
        failure: the error that ended the recording before its time; None if there was none.
        discarded: whether `discard` has been called.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, buffer: int = BUFFER) -> None:
        self.path: str = os.fspath(path)
        self.lost: int = 0
        self.failure: OSError | None = None
        self.discarded: bool = False
        self._buffer = buffer
        self._encoder = Encoder()
        self._unreported = 0
        self._chunks: collections.deque[bytes] = collections.deque([file_preamble()])
        self._queued = self._taken = 0
        self._thread: threading.Thread | None = None
        self._asleep = False
        self._ending = threading.Event()
        self._place = os.path.abspath(self.path)  # the program may change its directory
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._is_new = not (overwrite and os.path.lexists(self.path))
            self._fd = os.open(self.path, flags | (os.O_EXCL if self._is_new else 0), 0o644)
        except FileExistsError:
            raise RecordingError(
                f"{self.path}: there is a file of this name; choose another one, or replace it with --overwrite"
            ) from None
        except OSError as error:
            raise RecordingError(cannot_create(self.path, error)) from error
        try:
            check_regular(self._fd, self.path)
        except RecordingError:
            os.close(self._fd)
            raise
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def begin(self, header: Header) -> None:
        self._keep(self._encoder.encode(header))
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="recording", daemon=True)
            self._thread.start()

    def write(self, event: Event) -> None:
        if self.failure is not None:
            return
        record = self._encoder.encode(event)
        if self._queued - self._taken + len(record) > self._buffer and not isinstance(event, Ended):
            self.lost += 1
            self._unreported += 1
            return
        if self._unreported:
            count, self._unreported = self._unreported, 0
            self._keep(self._encoder.encode(Lost(event.when_ns, count)))
        self._keep(record)

    def close(self) -> None:
        if self._fd < 0:
            return
        self._ending.set()
        if self._thread is not None:
            os.eventfd_write(self._wake_fd, 1)
            self._thread.join()
        self._write_chunks()
        if self.discarded and self._is_new:
            with contextlib.suppress(OSError):
                os.unlink(self._place)
        os.close(self._fd)
        os.close(self._wake_fd)
        self._fd = -1

    def discard(self) -> None:
        """Let `close()` leave no recording behind. A file that it should replace stays, if nothing is written yet."""
        self.discarded = True

    def abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._wake_fd)
        self._fd = -1

    def _keep(self, record: bytes) -> None:
        self._queued += len(record)
        self._chunks.append(record)
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._wake_fd, 1)

    def _main(self) -> None:
        while not self._ending.is_set():
            self._asleep = True
            if self._chunks:
                self._asleep = False
            else:
                os.eventfd_read(self._wake_fd)
            self._ending.wait(INTERVAL)
            self._write_chunks()

    def _write_chunks(self) -> None:
        """Write the bytes that wait. An error ends the recording, and is reported once."""
        if self.discarded:
            return
        parts = []
        while self._chunks:
            parts.append(self._chunks.popleft())
        data = memoryview(b"".join(parts))
        try:
            if not self._taken:
                os.ftruncate(self._fd, 0)  # not before: a wrong call must not cost the file that it would replace
            while self.failure is None and data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self.failure = error
            logger.error(
                "%s: %s; the recording ends here, and the program goes on", self.path, str(error.strerror).lower()
            )
        self._taken += sum(map(len, parts))


def check_regular(fd: int, path: str) -> None:
    """Raise `RecordingError` for anything but an ordinary file: a recording must not overwrite a disk."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise RecordingError(f"{path}: is not an ordinary file; give the path of one")


def cannot_create(path: str, error: OSError) -> str:
    """Return the message for a file that can't be created."""
    directory = os.path.dirname(path) or "."
    problem = str(error.strerror).lower()
    if error.errno == errno.ENOENT:
        return f"{path}: there is no directory {directory}; create it first"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: {problem}; choose a directory where this user may write, such as /tmp or a StateDirectory="
    return f"{path}: {problem}; choose another file"
