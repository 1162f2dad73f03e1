"""Edges as lgpio reports them: the FIFO, the decoding of its records, and the account of what was lost.

lgpio can write its reports to a FIFO of one's own, and a FIFO is a file descriptor that a loop can watch. It promises:
one FIFO per stream, gone from the directory as soon as it is open; decoding of the 16-byte records however they are
cut; and lost edges told as far as they can be known. lgpio loses without a word (the kernel's buffer of 16 events, its
own of 2000, a full FIFO), and what can be seen from outside is this: under both edges two equal levels in a row mean
that at least one edge is missing, and a quiet line at another level than the last one reported means it too.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import logging
import os
import struct
import termios
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hwloop.board import Bias, Edge, EdgeKind, EdgeStream, LineName
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from hwloop.boards.lgpio import LgpioChip

logger = logging.getLogger("hwloop")

_REPORT = struct.Struct("QBBBBI")  # timestamp ns (CLOCK_MONOTONIC), chip number, line, level, flags, padding
_CHUNK = 256 * _REPORT.size  # what one read takes: about 0.2 ms of decoding, the loop's time slice
_PIPE_SIZE = 1 << 20
_TIMEOUT_LEVEL = 2


class _LineState:
    """What a stream knows of one of its lines."""

    __slots__ = ("claimed_ns", "level", "line", "made_up_ns", "read_ns", "reported", "suspect")

    def __init__(self, line: LineName, claimed_ns: int) -> None:
        self.line = line
        self.claimed_ns = claimed_ns
        self.level = 0
        """Last level reported, or before any report the one read after the claim; logical."""
        self.read_ns = 0
        """When it was read after the claim."""
        self.reported = False
        self.suspect = False
        self.made_up_ns = 0
        """When `recheck` last told of an edge that no report had told of."""


class Edges(EdgeStream):
    """A FIFO of reports, and the lines that report to it. Raises `HardwareError` where it can't be had."""

    def __init__(
        self,
        chip: LgpioChip,
        lines: Mapping[int, LineName],
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
    ) -> None:
        lgpio = chip.lgpio
        self._chip = chip
        self._consumer = consumer
        self._debounced = debounce > 0
        self._both = edges == "both"
        self._numbers = {line: number for number, line in lines.items()}
        self._lines: dict[int, _LineState] = {}
        self._fd = -1
        self._rest = b""
        self._overflowed = False
        self._closed = False
        flags = {"as-is": 0, "up": lgpio.SET_PULL_UP, "down": lgpio.SET_PULL_DOWN, "none": lgpio.SET_PULL_NONE}[bias]
        if active_low:
            flags |= lgpio.SET_ACTIVE_LOW
        kind = {"rising": lgpio.RISING_EDGE, "falling": lgpio.FALLING_EDGE, "both": lgpio.BOTH_EDGES}[edges]
        try:
            self._notify = lgpio.notify_open()
        except lgpio.error as error:
            raise HardwareError("lgpio's FIFO", text_of(error), f"it is made in {chip.workdir}: look there") from error
        try:
            self._open_fifo()
            for number, line in lines.items():
                # Set even if it is 0, for lgpio remembers what the line's last user set.
                lgpio.gpio_set_debounce_micros(chip.handle, number, round(debounce * 1e6))
                state = _LineState(line, chip.time_ns())
                chip.claim_alert(number, line, flags=flags, edges=kind, notify=self._notify, consumer=consumer)
                self._lines[number] = state
                state.level = chip.read(number, line)
                state.read_ns = chip.time_ns()
        except BaseException:
            self.close()
            raise

    def _open_fifo(self) -> None:
        path = os.path.join(self._chip.workdir, f".lgd-nfy{self._notify}")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HardwareError(
                path, error.strerror or str(error), "lgpio made it a moment ago", errno=error.errno
            ) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # lgpio never does
        self._capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        size = _PIPE_SIZE
        while size > self._capacity:
            try:
                self._capacity = fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, size)
            except PermissionError:
                size //= 2  # above /proc/sys/fs/pipe-max-size, or the user's share is used up

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        received_ns = self._chip.time_ns()
        if not data:
            raise HardwareError("lgpio's FIFO", "lgpio has closed it", "watch the lines anew")
        if len(data) == _CHUNK:
            self._note_backlog()
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % _REPORT.size
        self._rest = data[whole:]
        edges = []
        for timestamp_ns, chip, number, level, _, _ in _REPORT.iter_unpack(data[:whole]):
            state = self._lines.get(number)
            # lgpio may still hold reports of a line's last user, and hand them to a new FIFO of the same number.
            if state is None or level == _TIMEOUT_LEVEL or chip != self._chip.number or timestamp_ns < state.claimed_ns:
                continue
            lost = 0
            if self._both and level == state.level:
                if timestamp_ns <= state.made_up_ns:
                    continue  # the late report of an edge that was told of already
                if state.reported or not (self._debounced or timestamp_ns <= state.read_ns):
                    lost = 1
                elif self._debounced:
                    continue  # a glitch at the moment of the claim: the level is the one that was read then
            state.level, state.reported, state.suspect = level, True, False
            edges.append(Edge(state.line, level, timestamp_ns, received_ns, lost))
        return edges

    def recheck(self) -> list[Edge]:
        if not self._both or self._debounced or _waiting(self._fd):
            return []
        edges = []
        for number, state in self._lines.items():
            level = self._chip.read(number, state.line)
            if level == state.level:
                state.suspect = False
            elif not state.suspect:
                state.suspect = True
            else:
                now_ns = self._chip.time_ns()
                state.level, state.reported, state.suspect, state.made_up_ns = level, True, False, now_ns
                edges.append(Edge(state.line, level, now_ns, now_ns, 0))
        return edges

    def level(self, line: LineName) -> int:
        return self._chip.read(self._numbers[line], line)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # First no more reports, then our end of the FIFO, then lgpio's.
        for number in self._lines:
            self._chip.free(number)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self._chip.lgpio.notify_close(self._notify)
        except self._chip.lgpio.error:
            pass  # the simulated lgpio was closed as a whole

    def _note_backlog(self) -> None:
        """Say once that lgpio may have dropped reports. It fills pages in batches, so half full may be full."""
        if not self._overflowed and _waiting(self._fd) + _CHUNK >= self._capacity // 2:
            self._overflowed = True
            logger.warning(
                "%s: edges come faster than they are read; lgpio's FIFO of %d bytes has filled up, so edges may be "
                "lost that nothing tells of",
                self._consumer,
                self._capacity,
            )


def _waiting(fd: int) -> int:
    """Bytes that wait in a FIFO."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def text_of(error: Exception) -> str:
    """lgpio's text without the quotation marks that its str() puts around it."""
    return str(error.args[0]) if error.args else str(error)
