"""Files that root writes: in directories that only root can change, whole or not at all, with their own modes.

An installation runs as root, and somebody else may own a directory on the way to a file. In it, a symbolic link would
lead root's hand elsewhere. So before anything is written, each directory on the way must belong to root (or to the
caller, for an image of the caller's own) and be writable by nobody else. The umask of the shell plays no part.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hwloop.deployment.visibility import within

_MOST_LINKS = 40


class UnsafePathError(Exception):
    """Somebody else could change where a path leads; the message says where, and what to do."""


def check_trusted(path: Path, root: Path = Path("/")) -> None:
    """Raise `UnsafePathError` unless only root or the caller decide what is at a path, and it stays below `root`.

    The path need not exist.
    """
    real_root, links = os.path.realpath(root), 0
    here, waiting = "/", list(Path(os.path.abspath(path)).parts[1:])
    parent = os.lstat(here)
    while waiting:
        here = os.path.join(here, waiting.pop(0))
        try:
            found = os.lstat(here)
        except FileNotFoundError:
            found = None
        _check_entry(here, found, parent)
        if found is None:
            break
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise UnsafePathError(f"{path}: too many symbolic links; remove {here}")
            target = os.path.join(os.path.dirname(here), os.readlink(here))
            waiting = [*Path(os.path.normpath(target)).parts[1:], *waiting]
            here = "/"
            parent = os.lstat(here)
            continue
        if waiting and not stat.S_ISDIR(found.st_mode):
            raise UnsafePathError(f"{here} is a file where a directory is needed; move it away")
        parent = found
    real = os.path.realpath(path)
    if not within(real, real_root):
        raise UnsafePathError(f"{path} leads out of {root}, to {real}; remove the symbolic link")


def _check_entry(path: str, found: os.stat_result | None, parent: os.stat_result) -> None:
    """Raise unless only root or the caller can replace an entry of a directory."""
    ours = (0, os.geteuid())
    directory = os.path.dirname(path)
    if parent.st_uid not in ours:
        raise UnsafePathError(
            f"{directory} belongs to user {parent.st_uid}, and its owner could replace what is installed in it; "
            f"make it root's: sudo chown root {directory}"
        )
    others_write = parent.st_mode & stat.S_IWOTH or (
        parent.st_mode & stat.S_IWGRP and parent.st_gid not in (0, os.getegid())
    )
    if not others_write:
        return
    # In a sticky directory such as /tmp, others can't replace what is not theirs.
    if not parent.st_mode & stat.S_ISVTX or (found is not None and found.st_uid not in ours):
        raise UnsafePathError(
            f"others than its owner may write to {directory}, and could replace what is installed in it; "
            f"forbid it: sudo chmod go-w {directory}"
        )


def make_directory(path: Path, mode: int = 0o755, *, root: Path = Path("/")) -> None:
    """Make a directory and those above it, whatever the umask. An existing directory keeps its mode."""
    check_trusted(path, root)
    for each in reversed([path, *path.parents]):
        try:
            os.mkdir(each, 0o700)
        except FileExistsError:
            continue
        os.chmod(each, mode if each == path else 0o755)
    if not path.is_dir():
        raise UnsafePathError(f"{path} is a file where a directory is needed; move it away")


def write_file(path: Path, data: bytes, mode: int = 0o644, *, root: Path = Path("/")) -> None:
    """Write a file that replaces the one there at once, whole: after a power cut there is one or the other."""
    make_directory(path.parent, root=root)
    check_trusted(path, root)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_link(path: Path, target: str, *, root: Path = Path("/")) -> None:
    """Make a symbolic link that replaces the one there at once."""
    make_directory(path.parent, root=root)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, path)


def read_text(path: Path) -> str | None:
    """Return the contents of a file; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove(path: Path) -> bool:
    """Remove a file, a link or a directory with all that is in it, and return whether there was one.

    Links are not followed, not even if the owner of a directory puts one there meanwhile (`shutil.rmtree`).
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def remove_if_empty(paths: Iterable[Path]) -> None:
    """Remove directories that are empty."""
    for path in paths:
        try:
            path.rmdir()
        except OSError:
            pass


def make_readable(directory: Path) -> None:
    """Let everybody read, and only the owner change, what is in a directory, as `chmod -R u+rwX,go+rX,go-w` does."""
    for path, _folders, names in os.walk(directory):
        for each in (path, *(os.path.join(path, name) for name in names)):
            mode = os.lstat(each).st_mode
            if stat.S_ISLNK(mode):
                continue
            wanted = 0o755 if stat.S_ISDIR(mode) or mode & 0o111 else 0o644
            if stat.S_IMODE(mode) != wanted:
                os.chmod(each, wanted)
