"""Metrics in a file, for node_exporter's textfile collector: written anew every 15 seconds, and removed at the end.

Whoever reads the file finds all of one text: it is written under another name, then renamed. The program holds a lock
on the file that it wrote last (fcntl(2); a forked child does not inherit it), so a second program that is given the
same path fails at its start, and the file of a program that was killed is removed then.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import stat
from collections.abc import Callable

from hwloop.service.metric_errors import MetricsError, TargetInUseError

logger: logging.Logger = logging.getLogger("hwloop.service")

EVERY = 15.0
"""Seconds from one writing to the next."""

FIRST_AFTER = 1.0
"""Seconds until the first one: the loop should run by then."""


class MetricFile:
    """The file. Raises `MetricsError` if it can't be written, and `TargetInUseError` if another program writes it."""

    shows_process: bool = False

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._process = os.getpid()
        self._file = -1
        self._is_failing = False
        try:
            self._check_unused()
            file = self._create()
        except OSError as error:
            raise MetricsError(
                f"metrics: can't write {path}: {error.strerror}; the directory must exist, and the program's user must "
                "be allowed to write there (in a unit: RuntimeDirectory= or ReadWritePaths=)"
            ) from error
        os.close(file)
        os.unlink(self._temporary)
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def serve(self, text: Callable[[str], tuple[bytes, str]]) -> None:
        """Write `text("")` every 15 seconds until `end()`."""
        ended = select.poll()
        ended.register(self._ended, select.POLLIN)
        pause = FIRST_AFTER
        while not ended.poll(pause * 1000):
            self._write_or_report(text("")[0])
            pause = EVERY
        self._remove()

    def end(self) -> None:
        """End `serve()`, which then removes the file."""
        if self._process == os.getpid():
            os.eventfd_write(self._ended, 1)

    def forget(self) -> None:
        """Leave the file to the parent, in a forked child."""

    @property
    def _temporary(self) -> str:
        return f"{self._path}.{self._process}.tmp"  # node_exporter reads *.prom only

    def _check_unused(self) -> None:
        """Remove a file that no program writes any more. Raise `TargetInUseError` if another one does."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, PermissionError):
            return  # a file of another user can be replaced where its directory may be written
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise MetricsError(f"metrics: {self._path} is not an ordinary file; choose another path")
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(self._path)  # of a program that was killed
        except BlockingIOError:
            raise TargetInUseError(
                f"metrics: another program writes {self._path}; give each program a file of its own"
            ) from None
        finally:
            os.close(file)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._temporary, flags, 0o644)
        try:
            os.fchmod(file, 0o644)  # node_exporter is another user, whatever our umask
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(file)
            raise
        return file

    def _write_or_report(self, text: bytes) -> None:
        try:
            self._write(text)
        except (OSError, TargetInUseError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if not self._is_failing:
                logger.warning(
                    "metrics: can't write %s: %s; tried again every %g s (reported once)", self._path, reason, EVERY
                )
            self._is_failing = True
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
        else:
            if self._is_failing:
                logger.warning("metrics: %s is written again", self._path)
            self._is_failing = False

    def _write(self, text: bytes) -> None:
        file = self._create()
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(text)
            if self._file >= 0 and os.path.lexists(self._path) and not self._is_ours():
                raise TargetInUseError("another program has replaced it; give each program a file of its own")
            os.replace(self._temporary, self._path)
        except BaseException:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = file

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._file))
        except OSError:
            return False

    def _remove(self) -> None:
        if self._file >= 0:
            if self._is_ours():
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._file)
            self._file = -1
        os.close(self._ended)
