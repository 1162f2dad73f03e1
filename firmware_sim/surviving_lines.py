"""What simulated lines are driven to, in a file that outlives the process, as a real line's level does.

A real line goes on driving when the process that drove it is killed, and another process can take it: that is what
`hwloop guard` lives by, and what a restarted service finds. With HWLOOP_SIM_LINES in the environment a simulated board
keeps what its lines drive in the file of that name, so both can be rehearsed on a desktop; `hwloop guard` sets it for
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
"""Files in use by boards of this process, by device and inode: a second board is another chip."""
os.register_at_fork(after_in_child=_open.clear)


class SurvivingLines:
    """What each line drives: a byte a line, 0 for nothing.

    Parameters:
        path: the file; made if there is none.
        count: how many lines there are.

    Raises OSError where the file can't be had, or another board of this process has it.
    """

    def __init__(self, path: str, count: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            self._identity = found.st_dev, found.st_ino
            if self._identity in _open:
                raise OSError("another simulated board of this process has it")
            if found.st_size < count:
                os.ftruncate(fd, count)
            self._bytes = mmap.mmap(fd, count)
        finally:
            os.close(fd)
        _open.add(self._identity)

    def keep(self, line: int, level: int | None, drive: Drive) -> None:
        """Note what a line drives: an electrical level, or None for nothing."""
        self._bytes[line] = 0 if level is None else 1 + level + _LEVELS * _DRIVES.index(drive)

    def found(self, line: int) -> tuple[int | None, Drive]:
        """What a line was left driving, by whichever process."""
        kept = self._bytes[line] - 1
        if not 0 <= kept < _LEVELS * len(_DRIVES):
            return None, "push-pull"
        return kept % _LEVELS, _DRIVES[kept // _LEVELS]

    def close(self) -> None:
        """The file stays."""
        self._bytes.close()
        _open.discard(self._identity)


def surviving_lines(path: str, count: int) -> SurvivingLines | None:
    """The file's lines; None where there is no path, or the file can't be used, which is logged."""
    if not path:
        return None
    try:
        return SurvivingLines(path, count)
    except OSError as error:
        logger.warning("%s can't keep the simulated lines (%s): they end with this process", path, error)
        return None
