"""Edges as lgpio reports them: the FIFO, the decoding of its records, and the account of what was lost.

lgpio can write its reports to a FIFO of one's own, and a FIFO is a file descriptor that a loop can watch. It promises:
one FIFO per stream; decoding of the 16-byte records however they are
cut; and lost edges told as far as they can be known. lgpio loses without a word (the kernel's buffer of 16 events, its
own of 2000, a full FIFO); what can be seen of it from outside is in `hwloop.boards.levels`.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import struct
import termios
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hwloop.board import Edge, EdgeRequest, LineName
from hwloop.boards.levels import LevelStream, LineState
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from hwloop.boards.lgpio import LgpioChip

logger = logging.getLogger("hwloop")

_REPORT = struct.Struct("QBBBBI")  # timestamp ns (CLOCK_MONOTONIC), chip number, line, level, flags, padding
_CHUNK = 256 * _REPORT.size  # what one read takes: about 0.2 ms of decoding, the loop's time slice
_TIMEOUT_LEVEL = 2
_HELD_BACK_NS = 2_000_000  # for how long lgpio may keep a report before it writes it


class Edges(LevelStream):
    """A FIFO of reports, and the lines that report to it. Raises `HardwareError` where it can't be had.

    With `borrowed` the lines are outputs, which keep them, and have lgpio report to `notify` themselves.
    """

    def __init__(
        self,
        chip: LgpioChip,
        lines: Mapping[int, LineName],
        request: EdgeRequest,
        *,
        borrowed: bool = False,
    ) -> None:
        lgpio = chip.lgpio
        self._borrowed = borrowed
        self._chip = chip
        self._consumer = request.consumer
        self._fd = -1
        self._rest = b""
        self._not_full_ns = self._full_from_ns = self._full_to_ns = 0
        self._closed = self._broken = False
        flags = {
            None: 0,
            "up": lgpio.SET_PULL_UP,
            "down": lgpio.SET_PULL_DOWN,
            "none": lgpio.SET_PULL_NONE,
        }[request.pull]
        if request.active_low:
            flags |= lgpio.SET_ACTIVE_LOW
        kind = {"rising": lgpio.RISING_EDGE, "falling": lgpio.FALLING_EDGE, "both": lgpio.BOTH_EDGES}[request.edges]
        debounce = request.debounce
        self._only: int | None = None
        if debounce and request.edges != "both":
            # With one kind lgpio sees no edge back, and would report a glitch as a settled level.
            self._only = 1 if request.edges == "rising" else 0
            kind = lgpio.BOTH_EDGES
        super().__init__(chip, lines, both=kind == lgpio.BOTH_EDGES, debounced=debounce > 0)
        if debounce:
            self.settling_ns = round(debounce * 1e9) + _HELD_BACK_NS
        self._fifo = chip.take_fifo()
        self._fd = self._fifo.fd
        self._capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        try:
            for number, line in lines.items():
                # Set even if it is 0, for lgpio remembers what the line's last user set.
                lgpio.gpio_set_debounce_micros(chip.handle, number, round(debounce * 1e6))
                state = LineState(line, chip.time_ns())
                if not borrowed:
                    chip.claim_alert(
                        number, line, flags=flags, edges=kind, notify=self._fifo.notify, consumer=request.consumer
                    )
                self.states[number] = state
                state.level = chip.read(number, line)
                state.read_ns = chip.time_ns()
        except BaseException:
            self.close()
            raise

    @property
    def notify(self) -> int:
        """lgpio's handle of the FIFO."""
        return self._fifo.notify

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        received_ns = self._chip.time_ns()
        if not data:
            self._broken = True
            raise HardwareError("lgpio's FIFO", "lgpio has closed it", "watch the lines anew")
        if len(data) == _CHUNK:
            self._note_backlog(received_ns)
        else:
            self._not_full_ns = received_ns
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % _REPORT.size
        self._rest = data[whole:]
        edges = []
        for timestamp_ns, chip, number, level, _, _ in _REPORT.iter_unpack(data[:whole]):
            state = self.states.get(number)
            # lgpio may still hold reports of a line's last user, and hand them to a new FIFO of the same number.
            if state is None or level == _TIMEOUT_LEVEL or chip != self._chip.number or timestamp_ns < state.since_ns:
                continue
            lost = 0
            if self._both and level == state.level:
                missing = self.missing_before(state, level, timestamp_ns)
                if missing is None:
                    continue
                lost = missing
                if self._was_full(state.last_ns, timestamp_ns):
                    self.losses.fifo += lost
                else:
                    self.losses.merged += lost
            state.level, state.reported, state.suspect_ns, state.last_ns = level, True, 0, timestamp_ns
            if self._only is not None:
                state.owed += lost
                if level != self._only:
                    continue
                lost, state.owed = state.owed, 0
            edges.append(Edge(state.line, level, timestamp_ns, received_ns, lost))
        return edges

    def recheck(self) -> list[Edge]:
        return [edge for edge in super().recheck() if self._only in (None, edge.value)]

    def level(self, line: LineName) -> int:
        number = self._numbers[line]
        self._chip.check_process(f"line {line}")
        # lgpio debounces what it reports, not what it reads.
        return self.states[number].level if self._debounced else self.read_level(number)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        super().close()
        # First no more reports, then the FIFO.
        if not self._borrowed:
            for number in self.states:
                self._chip.free(number)
        self._fd = -1
        self._chip.give_fifo(self._fifo, usable=not self._broken)

    def read_level(self, number: int) -> int:
        return self._chip.read(number, self.states[number].line)

    def now_ns(self) -> int:
        return self._chip.time_ns()

    def waiting(self) -> bool:
        return _bytes_in(self._fd) > 0

    def _was_full(self, from_ns: int, to_ns: int) -> bool:
        """Whether the FIFO may have been full at a time between two reports."""
        return 0 < self._full_to_ns >= from_ns and to_ns + _HELD_BACK_NS >= self._full_from_ns

    def _note_backlog(self, now_ns: int) -> None:
        """See whether lgpio may have dropped reports. It fills pages in batches, so half full may be full."""
        if _bytes_in(self._fd) + _CHUNK < self._capacity // 2:
            self._not_full_ns = now_ns
            return
        if self._full_to_ns <= self._not_full_ns:
            self._full_from_ns = self._not_full_ns
            self.losses.overflows += 1
            if self.losses.overflows == 1:
                logger.warning(
                    "%s: edges come faster than they are read; lgpio's FIFO of %d bytes has filled up, so edges may be "
                    "lost that nothing tells of",
                    self._consumer,
                    self._capacity,
                )
        self._full_to_ns = now_ns


def _bytes_in(fd: int) -> int:
    """Bytes that wait in a FIFO."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def text_of(error: Exception) -> str:
    """lgpio's text without the quotation marks that its str() puts around it."""
    return str(error.args[0]) if error.args else str(error)
