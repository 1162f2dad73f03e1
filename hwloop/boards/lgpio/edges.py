"""Edges as lgpio reports them: the FIFO, the decoding of its records, and the count of lost edges.

lgpio can write its reports to a FIFO of the caller's, and a FIFO is a file descriptor that a loop can watch.
Guaranteed: one FIFO per stream, 16-byte records decoded however the reads cut them, and lost edges counted as far as
they can be known. lgpio loses edges silently (the kernel's buffer of 16 events, its own of 2000, a full FIFO); what
shows of that from outside is in `hwloop.boards.levels` and `hwloop.boards.level_tracking`.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import termios
from collections.abc import Mapping

from hwloop.boards.level_tracking import LevelTrackingStream
from hwloop.boards.levels import LineState
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.lgpio.decoder import HELD_BACK_NS, REPORT, ReportDecoder
from hwloop.errors import HardwareError
from hwloop.lines import Edge, LineName
from hwloop.requests import EdgeRequest

logger: logging.Logger = logging.getLogger("hwloop")

_CHUNK = 256 * REPORT.size  # what one read returns at most: about 0.2 ms of decoding, the loop's time slice


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
        self._not_full_ns = 0
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
        only = None
        if debounce and request.edges not in ("both", "none"):
            # With one kind alone lgpio would not see the edge back, and would report a glitch as a settled level.
            only = 1 if request.edges == "rising" else 0
            kind = lgpio.BOTH_EDGES
        self._decoder = ReportDecoder(
            chip.number,
            both=kind == lgpio.BOTH_EDGES,
            debounced=debounce > 0 and kind > 0,
            settling_ns=round(debounce * 1e9) + HELD_BACK_NS if debounce else 0,
            only=only,
        )
        super().__init__(chip, lines, self._decoder)
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
        return self._decoder.decode(data, received_ns)

    def recheck(self) -> list[Edge]:
        return [edge for edge in super().recheck() if self._decoder.only in (None, edge.value)]

    def level(self, line: LineName) -> int:
        number = self._numbers[line]
        self._chip.check_process(f"line {line}")
        # lgpio debounces what it reports, not what it reads.
        return self.states[number].level if self._decoder.debounced else self.read_level(number)

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

    def _note_backlog(self, now_ns: int) -> None:
        """Note whether lgpio may have dropped reports. It fills pages in batches, so half full may be full."""
        if _bytes_in(self._fd) + _CHUNK < self._capacity // 2:
            self._not_full_ns = now_ns
            return
        if self._decoder.full_to_ns <= self._not_full_ns:
            self._decoder.full_from_ns = self._not_full_ns
            self.losses.overflows += 1
            if self.losses.overflows == 1:
                logger.warning(
                    "%s: edges come faster than they are read; lgpio's FIFO of %d bytes has filled up, so edges may be "
                    "lost without being counted",
                    self._consumer,
                    self._capacity,
                )
        self._decoder.full_to_ns = now_ns


def _bytes_in(fd: int) -> int:
    """Return how many bytes wait in a FIFO."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
