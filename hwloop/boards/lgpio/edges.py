"""Edges as lgpio reports them: the FIFO, the decoding of its records, and the count of lost edges.

lgpio can write its reports to a FIFO of the caller's, and a FIFO is a file descriptor that a loop can watch.
Guaranteed: one FIFO per stream, 16-byte records decoded however the reads cut them, and lost edges counted as far as
they can be known. lgpio loses edges silently (the kernel's buffer of 16 events, its own of 2000, a full FIFO); what
shows of that from outside is in `hwloop.boards.level_tracking`.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import struct
import termios
from collections.abc import Mapping

from hwloop.boards.level_tracking import LevelTrackingStream, LineState
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.errors import HardwareError
from hwloop.lines import Edge, LineName, new_edge
from hwloop.requests import EdgeRequest

logger: logging.Logger = logging.getLogger("hwloop")

_REPORT = struct.Struct("QBBBBI")  # timestamp ns (CLOCK_MONOTONIC), chip number, line, level, flags, padding
_CHUNK = 256 * _REPORT.size  # what one read returns at most: about 0.2 ms of decoding, the loop's time slice
_TIMEOUT_LEVEL = 2
_HELD_BACK_NS = 2_000_000  # for how long lgpio may keep a report before it writes it


def watch_lines(chip: LgpioChip, request: EdgeRequest) -> LgpioEdges:
    """Claim lines and report their edges. Raises `HardwareError`, or ValueError for a line with two names."""
    return LgpioEdges(chip, request, chip.find_all(request))


class LgpioEdges(LevelTrackingStream):
    """A FIFO of reports, and the lines that report to it. Raises `HardwareError` where either is not available.

    With `borrowed` the lines are outputs, which keep them, and have lgpio report to `notify` themselves.
    """

    def __init__(
        self,
        chip: LgpioChip,
        request: EdgeRequest,
        lines: Mapping[int, LineName],
        *,
        borrowed: bool = False,
    ) -> None:
        if request.edges != "none":
            chip.alert_thread.check_room(lines.values())
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
        kind = {"none": 0, "rising": lgpio.RISING_EDGE, "falling": lgpio.FALLING_EDGE, "both": lgpio.BOTH_EDGES}[
            request.edges
        ]
        debounce = request.debounce
        self._only: int | None = None
        if debounce and request.edges not in ("both", "none"):
            # With one kind alone lgpio would not see the edge back, and would report a glitch as a settled level.
            self._only = 1 if request.edges == "rising" else 0
            kind = lgpio.BOTH_EDGES
        super().__init__(chip, lines, both=kind == lgpio.BOTH_EDGES, debounced=debounce > 0 and kind > 0)
        if debounce:
            self.settling_ns: int = round(debounce * 1e9) + _HELD_BACK_NS
        self._fifo = chip.take_fifo()
        self._fd = self._fifo.fd
        self._capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        try:
            for number, line in lines.items():
                # Set even if it is 0, because lgpio remembers the value of the line's last user.
                lgpio.gpio_set_debounce_micros(chip.handle, number, round(debounce * 1e6))
                state = LineState(line, chip.time_ns())
                if not kind:
                    chip.claim_input(number, line, flags=flags, consumer=request.consumer)
                elif not borrowed:
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
            raise HardwareError("lgpio's FIFO", "lgpio has closed it", "watch the lines again")
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
            if state is None or level == _TIMEOUT_LEVEL or chip != self._chip.number:
                continue
            if timestamp_ns < state.since_ns and self._is_settled(state, timestamp_ns):
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
            edges.append(new_edge((state.line, level, timestamp_ns, received_ns, lost)))
        return edges

    def _is_settled(self, state: LineState, timestamp_ns: int) -> bool:
        """Return whether an old report says nothing new: somebody else's, or that of an edge which was inferred."""
        # lgpio may still hold reports of a line's last user, and hand them to a new FIFO of the same number.
        if timestamp_ns < state.claimed_ns:
            return True
        # Its thread was late. One report for each inferred edge is ignored; the others are of edges between them.
        if not state.inferred:
            return False
        state.inferred -= 1
        self.losses.reconciled -= 1
        if not state.inferred:
            state.since_ns, state.inferred_ns = state.claimed_ns, 0
        return True

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
        # The reports end before the FIFO is given back.
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
        """Return whether the FIFO may have been full at a time between two reports."""
        return 0 < self._full_to_ns >= from_ns and to_ns + _HELD_BACK_NS >= self._full_from_ns

    def _note_backlog(self, now_ns: int) -> None:
        """Note whether lgpio may have dropped reports. It fills pages in batches, so half full may be full."""
        if _bytes_in(self._fd) + _CHUNK < self._capacity // 2:
            self._not_full_ns = now_ns
            return
        if self._full_to_ns <= self._not_full_ns:
            self._full_from_ns = self._not_full_ns
            self.losses.overflows += 1
            if self.losses.overflows == 1:
                logger.warning(
                    "%s: edges come faster than they are read; lgpio's FIFO of %d bytes has filled up, so edges may be "
                    "lost without being counted",
                    self._consumer,
                    self._capacity,
                )
        self._full_to_ns = now_ns


def _bytes_in(fd: int) -> int:
    """Return how many bytes wait in a FIFO."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
