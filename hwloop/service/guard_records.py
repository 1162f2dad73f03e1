"""Which outputs a process has open and how each is to be left: the one document of the guardian's protocol.

A program sends this document to its guardian and keeps it in a file for `hwloop guard --after` (docs/guard.md). It is
always the whole state of one process, so a document that is lost or repeated does no harm. It names its owner by
process id, start time and boot, because the kernel gives the number of a dead process to the next one.

A record is written by its owner alone: into a new file of the same directory, which then takes the record's place.
There is never half a record, and a link that somebody has put there is not followed. It outlives the process, not the
machine (lines are reset with it), so nothing waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from hwloop.lines import Drive, Level, LineName

VERSION = 1
LONGEST = 1 << 18
"""Bytes of a document, at most: thousands of outputs."""


class Charge(NamedTuple):
    """A line, and how it is to be left. All levels are logical."""

    line: LineName
    safe: Level
    drive: Drive
    active_low: bool
    chip: str | None
    """Its label or device node; None for the chip of the header."""
    board: str = ""
    """Where the line is, as `hwloop.board.reached` takes it; empty for the board in use."""

    @property
    def place(self) -> tuple[str, str | None, LineName]:
        """What tells this line from others."""
        return self.board, self.chip, self.line


class Owner(NamedTuple):
    """A process, and no later one of the same number."""

    pid: int
    start: int
    """Ticks since boot at which it was started: proc(5), starttime."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> Owner | None:
        """Return the process that has this number now; None if there is none, or only what is left of a dead one."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name in parentheses may contain anything.
                fields = file.read().rpartition(b")")[2].split()
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else cls(pid, int(fields[19]), boot)

    @property
    def alive(self) -> bool:
        return Owner.of(self.pid) == self


class State(NamedTuple):
    """A document."""

    owner: Owner | None
    """None in a record of an earlier version, which names none."""
    charges: tuple[Charge, ...]
    loops: Mapping[str, int]
    """The loops to watch, by a name of the owner's choice, with the number of their signs of life; only in messages."""

    def encode(self) -> bytes:
        assert self.owner is not None
        document: dict[str, Any] = {"version": VERSION, **self.owner._asdict()}
        document["outputs"] = [charge._asdict() for charge in self.charges]
        if self.loops:
            document["loops"] = dict(self.loops)
        return json.dumps(document).encode()


def decode(data: bytes) -> State:
    """Return the state that a document holds. Raises ValueError for what is none, or of a version to come."""
    try:
        document = json.loads(data)
        if isinstance(document, list):  # before there were owners
            return State(None, tuple(_charge(Charge(*entry)) for entry in document), {})
        if document["version"] != VERSION:
            raise ValueError(f"it is of version {document['version']!r}, and this hwloop knows {VERSION}")
        owner = Owner(int(document["pid"]), int(document["start"]), str(document["boot"]))
        loops = {str(name): int(count) for name, count in document.get("loops", {}).items()}
        return State(owner, tuple(_charge(Charge(**entry)) for entry in document["outputs"]), loops)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _charge(charge: Charge) -> Charge:
    line, safe, drive, active_low, chip, board = charge
    if (
        isinstance(line, bool)
        or not isinstance(line, int | str)
        or safe not in (0, 1)
        or drive not in get_args(Drive)
        or not isinstance(active_low, bool)
        or not isinstance(chip, str | None)
        or not isinstance(board, str)
    ):
        raise ValueError(f"no output is like {charge}")
    return charge


class Record:
    """A process's own record, for `hwloop guard --after`.

    Parameters:
        path: where `--after` looks. The first process to come writes there; others, and those that find the record of
            a process that was killed, write beside it: PATH.PID-START.
        owner: this process.

    `write` raises OSError; the record is as it was then.
    """

    def __init__(self, path: str, owner: Owner) -> None:
        self._path = path
        self._owner = owner
        self._own = f"{path}.{owner.pid}-{owner.start}"
        self._at: str | None = None

    def write(self, charges: tuple[Charge, ...]) -> None:
        """Record these outputs; none of them takes the record away."""
        if charges:
            self._replace(State(self._owner, charges, {}).encode())
        elif self._at is not None:
            if self._is_ours(self._at):
                os.unlink(self._at)
            self._at = None

    def _replace(self, data: bytes) -> None:
        new = f"{self._own}.new"
        fd = _create(new)
        try:
            try:
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
            if self._at is not None and not self._is_ours(self._at):
                self._at = None  # somebody has taken it away, and perhaps another process has come
            if self._at is None and _link(new, self._path):
                self._at = self._path
            else:
                self._at = self._at or self._own
                os.rename(new, self._at)
        finally:
            try:
                os.unlink(new)
            except FileNotFoundError:
                pass

    def _is_ours(self, path: str) -> bool:
        try:
            return read(path).owner == self._owner
        except (OSError, ValueError):
            return False


def records(path: str) -> Iterator[str]:
    """The files that may be records of the processes that were given `path`, that one first."""
    directory, name = os.path.split(path)
    beside = re.compile(re.escape(name) + r"\.\d+-\d+")
    if os.path.lexists(path):
        yield path
    try:
        found = sorted(entry for entry in os.listdir(directory or ".") if beside.fullmatch(entry))
    except FileNotFoundError:
        return
    for entry in found:
        yield os.path.join(directory, entry)


def read(path: str) -> State:
    """Return the state in a record. Raises OSError, ValueError where it is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link, and links are not followed") from error
        raise
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no file")
        with open(fd, "rb", closefd=False) as file:
            return decode(file.read(LONGEST))


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:  # of a writing that was broken off, or somebody's trap
        os.unlink(path)
        return os.open(path, flags, 0o600)


def _link(new: str, path: str) -> bool:
    """Give a file its place unless that is taken: whether it has it now."""
    try:
        os.link(new, path, follow_symlinks=False)
    except OSError:  # taken, or a file system without links
        return False
    os.unlink(new)
    return True
