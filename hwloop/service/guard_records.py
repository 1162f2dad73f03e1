"""The document of the guardian's protocol: the outputs that a process has open, and the level at which to leave each.

A program sends this document to its guardian and keeps it in a file for `hwloop guard --after` (docs/guard.md). It is
always the complete state of one process, so a lost or repeated document does no harm. It names its owner by process id,
start time and boot, because the kernel gives the id of a dead process to a later one.

Only its owner writes a record: into a new file in the same directory, which then replaces the record. So there is never
half a record, and a link in that place is not followed. A record outlives the process, not the machine (lines are reset
with it), so nothing waits for the disk.
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
"""The longest document in bytes: thousands of outputs."""


class GuardedOutput(NamedTuple):
    """An output, and the level at which to leave it. All levels are logical."""

    line: LineName
    safe: Level | None
    """None only for an output that is kept, and ends at any level."""
    drive: Drive
    active_low: bool
    chip: str | None
    """Its label or device node; None for the chip of the header."""
    board: str = ""
    """The address of its board, as `hwloop.board.reached` takes it; empty for the board in use."""
    within: float | None = None
    """Seconds within which a program must take over a line that is kept; None for an output that is not kept."""
    left: bool = False
    """Whether its program has left it to the guardian."""

    @property
    def place(self) -> tuple[str, str | None, LineName]:
        """The board, chip and line."""
        return self.board, self.chip, self.line

    @property
    def kept(self) -> bool:
        """Whether it outlives its program."""
        return self.within is not None

    def entry(self) -> dict[str, Any]:
        """Return it as an object of the document, in which an ordinary output is what it is to earlier versions."""
        entry = self._asdict()
        if not self.kept and not self.left:
            del entry["within"], entry["left"]
        return entry


class Owner(NamedTuple):
    """A process, distinct from later ones with the same id."""

    pid: int
    start: int
    """Ticks since boot at which it was started: proc(5), starttime."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> Owner | None:
        """Return the process that has this id now; None if there is none, or only a zombie."""
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
    """The content of a document."""

    owner: Owner | None
    """None in a record of an earlier version, which has no owner."""
    outputs: tuple[GuardedOutput, ...]
    loops: Mapping[str, int]
    """The loops to watch, by a name that the owner chooses, with the number of their beats; only in messages."""
    take: tuple[int, int] | None = None
    """The output, by its place in `outputs`, whose kept line the owner wants, and the number of the answer; only in
    messages."""
    hand: int | None = None
    """The output, by its place in `outputs`, whose line is to be kept: its descriptor comes with the message."""

    def encode(self) -> bytes:
        assert self.owner is not None
        document: dict[str, Any] = {"version": VERSION, **self.owner._asdict()}
        document["outputs"] = [output.entry() for output in self.outputs]
        if self.loops:
            document["loops"] = dict(self.loops)
        if self.take is not None:
            document["take"] = self.take
        if self.hand is not None:
            document["hand"] = self.hand
        return json.dumps(document).encode()


def decode(data: bytes) -> State:
    """Return the state in a document. Raises `ValueError` if it is malformed, or of a later version."""
    try:
        document = json.loads(data)
        if isinstance(document, list):  # an early version, without owners
            return State(None, tuple(_checked_output(GuardedOutput(*entry)) for entry in document), {})
        if document["version"] != VERSION:
            raise ValueError(f"its version is {document['version']!r}, and this hwloop reads version {VERSION}")
        owner = Owner(int(document["pid"]), int(document["start"]), str(document["boot"]))
        loops = {str(name): int(count) for name, count in document.get("loops", {}).items()}
        outputs = tuple(_checked_output(GuardedOutput(**entry)) for entry in document["outputs"])
        take, hand = document.get("take"), document.get("hand")
        if take is not None:
            place, serial = take
            take = _place(place, outputs), int(serial)
        return State(owner, outputs, loops, take, None if hand is None else _place(hand, outputs))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _checked_output(output: GuardedOutput) -> GuardedOutput:
    line, safe, drive, active_low, chip, board, within, left = output
    if (
        isinstance(line, bool)
        or not isinstance(line, int | str)
        or safe not in ((0, 1) if within is None else (0, 1, None))
        or drive not in get_args(Drive)
        or not isinstance(active_low, bool)
        or not isinstance(chip, str | None)
        or not isinstance(board, str)
        or not (within is None or (isinstance(within, int | float) and 0 <= within < 1e9))
        or not isinstance(left, bool)
    ):
        raise ValueError(f"invalid output {output}")
    return output


def _place(place: object, outputs: tuple[GuardedOutput, ...]) -> int:
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(outputs):
        raise ValueError(f"no output has the place {place!r}")
    return place


class Record:
    """The record of this process, for `hwloop guard --after`.

    Parameters:
        path: the path given to `--after`. The first process writes there; others, and those that find the record of a
            process that was killed, write beside it, to PATH.PID-START.
        owner: this process.
    """

    def __init__(self, path: str, owner: Owner) -> None:
        self._path = path
        self._owner = owner
        self._own = f"{path}.{owner.pid}-{owner.start}"
        self._at: str | None = None

    def write(self, outputs: tuple[GuardedOutput, ...]) -> None:
        """Record these outputs, or remove the record without any. Raises `OSError`, and leaves the record as it was."""
        if outputs:
            self._replace(State(self._owner, outputs, {}).encode())
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
                self._at = None  # it was removed, and another process may have its place
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
    """Yield the files that may be records of the processes that use `path`, beginning with `path` itself."""
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
    """Return the state in a record. Raises `OSError`, or `ValueError` if it is not a record."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link, and links are not followed") from error
        raise
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            return decode(file.read(LONGEST))


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:  # an interrupted write, or a trap
        os.unlink(path)
        return os.open(path, flags, 0o600)


def _link(new: str, path: str) -> bool:
    """Move a file to its place unless the place is taken, and return whether it was moved."""
    try:
        os.link(new, path, follow_symlinks=False)
    except OSError:  # taken, or a file system without links
        return False
    os.unlink(new)
    return True
