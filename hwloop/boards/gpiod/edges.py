"""Edges as the kernel reports them: one line request for all lines of a stream, and its 48-byte events.

libgpiod makes the request, and its descriptor is read here: the events are the kernel's own stable format, and the
Python object that libgpiod makes for each costs more than everything else on the way. Guaranteed: events are in the
order of their interrupts as far as one read finds them together, each with the time of its interrupt, and every event
that the kernel numbered is either returned or counted as lost. The fact that shaped this: when nobody reads, the kernel
drops the oldest events of the request and goes on numbering them, so each loss shows as a gap. But changes that its
interrupt thread finds together are one event, whose level is read late, and that shows only as the same level twice.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from hwloop.boards.gpiod.chip import MAX_LINES, GpiodChip
from hwloop.boards.gpiod.decoder import EVENT, EventDecoder
from hwloop.boards.level_tracking import LevelTrackingStream
from hwloop.boards.levels import LineState
from hwloop.errors import HardwareError
from hwloop.lines import Edge, LineName
from hwloop.requests import EdgeRequest

if TYPE_CHECKING:
    import gpiod

_CHUNK = 256 * EVENT.size  # what one read returns at most: about 0.2 ms of decoding, the loop's time slice


def watch_lines(chip: GpiodChip, request: EdgeRequest) -> GpiodEdges:
    """Claim lines and report their edges. Raises `HardwareError`, or ValueError for a line with two names."""
    numbers = chip.find_all(request)
    if len(numbers) > MAX_LINES:
        raise HardwareError(
            f"lines {', '.join(map(str, request.lines))}",
            f"the kernel gives at most {MAX_LINES} lines to one request, and these are {len(numbers)}",
            "watch them in several",
        )
    line = chip.gpiod.line
    granted = chip.request(
        numbers,
        request.consumer,
        direction=line.Direction.INPUT,
        edge_detection={
            "none": line.Edge.NONE,
            "rising": line.Edge.RISING,
            "falling": line.Edge.FALLING,
            "both": line.Edge.BOTH,
        }[request.edges],
        bias={
            None: line.Bias.AS_IS,
            "up": line.Bias.PULL_UP,
            "down": line.Bias.PULL_DOWN,
            "none": line.Bias.DISABLED,
        }[request.pull],
        active_low=request.active_low,
        debounce_period=timedelta(microseconds=round(request.debounce * 1e6)),
        event_clock=line.Clock.MONOTONIC,
    )
    return GpiodEdges(chip, granted, numbers, both=request.edges == "both", debounced=request.debounce > 0)


class GpiodEdges(LevelTrackingStream):
    """The events of a line request, which it takes over: closing, or failing to open, releases the request.

    With `borrowed` the request belongs to an output, which keeps it.
    """

    disorder_ns = 1_000_000  # the interrupt thread of each line queues its own events; as lgpio allows for

    def __init__(
        self,
        chip: GpiodChip,
        granted: gpiod.LineRequest,
        lines: Mapping[int, LineName],
        *,
        both: bool,
        debounced: bool,
        borrowed: bool = False,
    ) -> None:
        self._decoder = EventDecoder(both=both, debounced=debounced)
        super().__init__(chip, lines, self._decoder)
        self._borrowed = borrowed
        self._chip = chip
        self._granted = granted
        self._fd = granted.fd
        self._time_ns = chip.time_ns
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._closed = False
        try:
            os.set_blocking(self._fd, False)
            for number, line in lines.items():
                state = self.states[number] = LineState(line, 0)
                state.level = self.read_level(number)
                state.read_ns = chip.time_ns()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            self._chip.check_process(self._name())
            raise self._chip.failure(self._name(), "can't be read", error) from error
        if not data:  # the real kernel raises instead
            raise self._chip.vanished(self._name())
        return self._decoder.decode(data, self._time_ns())

    def level(self, line: LineName) -> int:
        return self.read_level(self._numbers[line])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._fd = -1
        super().close()
        if not self._borrowed:
            self._chip.release(self._granted, self._numbers.values())

    def read_level(self, number: int) -> int:
        name = self.states[number].line
        self._chip.check_process(f"line {name}")
        try:
            return int(bool(self._granted.get_value(number)))
        except OSError as error:
            raise self._chip.failure(f"line {name}", "can't be read", error) from error

    def now_ns(self) -> int:
        return self._time_ns()

    def waiting(self) -> bool:
        return bool(self._poll.poll(0))

    def _name(self) -> str:
        return f"line {', '.join(map(str, self._numbers))}"
