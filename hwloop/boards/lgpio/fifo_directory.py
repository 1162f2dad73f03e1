"""A private directory for lgpio's FIFOs, which the next program removes if this one is killed.

A program that ends removes its directory. One that is killed can't, so a program that makes a directory first removes
the abandoned ones. A directory's owner holds a lock on it (flock(2)), which the kernel releases however the process
ends; a forked child shares it. So a directory that can be locked has no living owner, and the process that locked it
may remove it. A new directory can't be made and locked in one step, so its maker checks afterwards that it is still
there, and otherwise makes another.

Only directories of the same user are considered, links are not followed, and a directory that holds anything but
lgpio's FIFOs stays.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import glob
import os
import stat
import tempfile
import time
import weakref

from hwloop.core.deferred_signals import DeferredSignals

PREFIX = "hwloop-lgpio-"
_FIFO = ".lgd-nfy"
_UNLOCKED_FOR = 86400.0
"""Seconds after which the directory of a version that took no lock is removed, if no process has a file in it open."""

_swept: set[str] = set()
"""Directories in which this process has looked for abandoned ones."""


_left: list[weakref.finalize[..., FifoDirectory]] = []


class FifoDirectory:
    """A directory that exists until `remove()`, the end of this process, or the start of the next one.

    Parameters:
        parent: where to make it; None for the usual place (TMPDIR, /tmp).

    Raises `OSError` where none can be made.
    """

    def __init__(self, parent: str | None = None) -> None:
        parent = parent or tempfile.gettempdir()
        if parent not in _swept:
            _swept.add(parent)
            sweep(parent)
        self.remove: weakref.finalize[..., FifoDirectory]
        """Remove the directory and what is in it. Harmless when repeated; does nothing in a forked child."""
        with DeferredSignals():  # one that ends the program would leave the directory behind
            made = None
            while made is None:
                made = _make(parent)
            self.path: str = made[0]
            # Also at the end of the process, but not in a forked child: the directory belongs to its parent.
            self.remove = weakref.finalize(self, _remove_own, *made, os.getpid())
            self.remove.atexit = False  # `remove_left` does it, whose place among the exit handlers is known
            _left[:] = [each for each in (*_left, self.remove) if each.alive]


@atexit.register
def remove_left() -> None:
    """Remove this process's directories: at exit."""
    while _left:
        # Calling a finalizer does nothing once weakref's own exit handler has run.
        if (kept := _left.pop().detach()) is not None:
            _, function, args, _ = kept
            function(*args)


def sweep(parent: str) -> None:
    """Remove the directories in `parent` that programs of this user made and did not live to remove."""
    for path in glob.glob(os.path.join(glob.escape(parent), PREFIX + "*")):
        with contextlib.suppress(OSError):
            lock = _lock(path)
            try:
                if "." in os.path.basename(path) or _left_unlocked(path, lock):
                    _remove(path, lock)
            finally:
                os.close(lock)


def _make(parent: str) -> tuple[str, int] | None:
    """Make and lock a directory; None if another process took it for abandoned before it was locked."""
    # The dot distinguishes it from the directories of versions that took no lock.
    path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}.", dir=parent)
    try:
        lock = _lock(path)
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError:
        # A file system without locks: then nobody else gets one either.
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return path, lock
    os.close(lock)
    return None


def _lock(path: str) -> int:
    """Open a directory of this user and lock it. Raises `OSError` for another user's, a link, none, or a locked one."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(f"{path} is another user's")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _remove(path: str, fd: int) -> None:
    """Remove the directory that is open as `fd`, unless there is more in it than FIFOs."""
    for name in os.listdir(fd):
        if name.startswith(_FIFO) and stat.S_ISFIFO(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=fd)
    os.rmdir(path)


def _remove_own(path: str, fd: int, owner: int) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            _remove(path, fd)
    os.close(fd)


def _left_unlocked(path: str, fd: int) -> bool:
    """Return whether a directory whose maker took no lock is abandoned: old, and no process has a file in it open."""
    if time.time() - os.fstat(fd).st_mtime < _UNLOCKED_FOR:
        return False
    inside = path + os.sep
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(inside):
                return False
    return True
