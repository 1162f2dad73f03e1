"""The levels of simulated outputs, in a file that outlives the process, as the level of a real line does.

A real line goes on driving when the process that drove it is killed, and another process can claim it: `hwloop guard`
depends on that, and a restarted service finds it so. With HWLOOP_SIM_LINES in the environment a simulated board keeps
the levels of its outputs in the file of that name, so both can be rehearsed on a desktop; `hwloop guard` sets it for
the program that it runs. Inputs, pulls and devices end with their process: they are the world around the chip.
"""

from __future__ import annotations

import logging
import mmap
import os

from hwloop.board import Drive

logger: logging.Logger = logging.getLogger("firmware_sim")

_DRIVES: tuple[Drive, ...] = ("push-pull", "open-drain", "open-source")
_LEVELS = 2
_open: set[tuple[int, int]] = set()
"""Files that boards of this process use, by device and inode: a second board is another chip."""
os.register_at_fork(after_in_child=_open.clear)


class SurvivingLines:
    """The level that each line drives: one byte for each, 0 for an input.

    Parameters:
        path: the file; made if there is none.
        count: how many lines there are.

    Raises OSError where the file can't be opened, or another board of this process uses it.
    """

    def __init__(self, path: str, count: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            self._identity = found.st_dev, found.st_ino
            if self._identity in _open:
                raise OSError("another simulated board of this process uses it")
            if found.st_size < count:
                os.ftruncate(fd, count)
            self._bytes = mmap.mmap(fd, count)
        finally:
            os.close(fd)
        _open.add(self._identity)

    def keep(self, line: int, level: int | None, drive: Drive) -> None:
        """Record the electrical level that a line drives; None for an input."""
        self._bytes[line] = 0 if level is None else 1 + level + _LEVELS * _DRIVES.index(drive)

    def found(self, line: int) -> tuple[int | None, Drive]:
        """Return the level at which some process left the line; None for an input."""
        kept = self._bytes[line] - 1
        if not 0 <= kept < _LEVELS * len(_DRIVES):
            return None, "push-pull"
        return kept % _LEVELS, _DRIVES[kept // _LEVELS]

    def close(self) -> None:
        """Close the file, which stays."""
        self._bytes.close()
        _open.discard(self._identity)


def surviving_lines(path: str, count: int) -> SurvivingLines | None:
    """Return the file's lines; None without a path. A file that can't be used is logged, and means None too."""
    if not path:
        return None
    try:
        return SurvivingLines(path, count)
    except OSError as error:
        logger.warning("%s can't keep the simulated lines (%s): they end with this process", path, error)
        return None
