"""The files of a simulated board in directories, beside the real ones: what stat(2) and a listing say about them."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from firmware_sim.nodes import Attribute, Link, Node, Nodes, os_error

_PAGE = 4096  # the size of a sysfs attribute, whatever its text
_DIRECTORY = stat.S_IFDIR | 0o755


class Place(NamedTuple):
    """A path below one of the directories in which there are nodes."""

    nodes: Nodes
    path: str
    """Without the links in it."""
    node: Node | None
    hidden: bool
    """Whether a real file that may be there must not show."""

    def status(self) -> os.stat_result | None:
        """Return the status of the board's own file; None if the real one counts. Raises FileNotFoundError."""
        if self.node is not None:
            return status(self.path, self.node)
        if self.nodes.is_directory(self.path) and (self.hidden or not _exists(self.path)):
            return status(self.path, None)
        if not self.hidden:
            return None
        raise os_error(errno.ENOENT, self.path)

    def entries(self, directory: str, scandir: Callable[[str], Any], hides: Callable[[str], bool]) -> list[Any]:
        """Return the entries of the directory that the program calls `directory`: the board's, and real ones.

        Raises OSError if there is none of this path.
        """
        names = self.nodes.entries(self.path)
        real = list[Any]()
        if not names and self.hidden:
            raise os_error(errno.ENOENT, directory)
        if not self.hidden:
            try:
                with scandir(directory) as found:
                    real = [
                        it for it in found if it.name not in names and not hides(posixpath.join(self.path, it.name))
                    ]
            except FileNotFoundError:
                if not names:
                    raise
        return [*real, *(Entry(directory, name) for name in sorted(names))]


_access = os.access  # not the one that leads here


def _exists(path: str) -> bool:
    return _access(path, os.F_OK)


def status(path: str, node: Node | None) -> os.stat_result:
    """Return the status of a node, or of a directory with None."""
    mode = _DIRECTORY if node is None else node.mode
    size = len(node.target) if isinstance(node, Link) else _PAGE if isinstance(node, Attribute) else 0
    number = hash(path) & 0x7FFF_FFFF
    device = 0 if node is None else node.device
    plain = (mode, number, 0, 1, os.getuid(), os.getgid(), size, 0, 0, 0)
    return os.stat_result(plain, {"st_rdev": device, "st_blksize": _PAGE, "st_blocks": 0})


class Entry:
    """An entry of a directory, as `os.scandir` yields it."""

    def __init__(self, directory: str, name: str) -> None:
        self.name: str = name
        self.path: str = posixpath.join(directory, name)

    def __fspath__(self) -> str:
        return self.path

    def _mode(self, follow: bool) -> int:
        try:
            return self.stat(follow_symlinks=follow).st_mode
        except FileNotFoundError:
            return 0

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISDIR(self._mode(follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISREG(self._mode(follow_symlinks))

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._mode(False))

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=follow_symlinks)

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Entries:
    """The entries of a directory, as `os.scandir` returns them."""

    def __init__(self, entries: Iterator[Any]) -> None:
        self._entries = entries

    def __iter__(self) -> Entries:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())
