"""One line that lgpio drives, and whose edges it reports while the line is let go of.

The fact that shaped it: lgpio frees a line of ours by itself when we claim it as something else, and nobody else can
have it before the new claim; so an output becomes an alert, and an output again, in one call each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hwloop.board import EdgeRequest, EdgeStream, OutputLine, OutputRequest
from hwloop.boards.lgpio_edges import Edges
from hwloop.boards.switched import SwitchedEdges
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from hwloop.boards.lgpio import LgpioChip


class LgpioOutput(OutputLine):
    """One line that we drive.

    Parameters:
        flags: lgpio's, while we drive it.
    """

    def __init__(self, chip: LgpioChip, number: int, request: OutputRequest, flags: int) -> None:
        self._chip = chip
        self._number = number
        self._request = request
        self._line = request.line
        self._flags = flags
        self._value: int | None = request.initial  # None for the level that the line had
        self._released = request.released_level
        self._edges: SwitchedEdges | None = None
        self._notify = 0
        self._pulses = False
        self._closed = False

    @property
    def forked(self) -> bool:
        return self._chip.forked

    def set(self, value: int) -> None:
        self._check_open()
        self._end_pulses()
        self._value = value
        if self._edges is None:
            self._chip.write(self._number, self._line, value)
        else:
            self._switch(self._edges, value)

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        if self._released is None or self._edges is not None:
            return super().watch(kept)
        self._check_open()
        self._end_pulses()
        chip = self._chip
        chip.check_alerts([self._line])
        asked = self._request
        watch = EdgeRequest([asked.line], active_low=asked.active_low, consumer=asked.consumer)
        stream = Edges(chip, {self._number: asked.line}, watch, borrowed=True)
        self._notify = stream.notify
        edges = SwitchedEdges(stream, self._number, kept, self._unwatch)
        if self._value is None:
            self._value = self.get()
        try:
            self._switch(edges, self._value)
        except BaseException:
            stream.close()
            raise
        self._edges = edges
        return edges

    def get(self) -> int:
        self._check_open()
        return self._chip.read(self._number, self._line)

    def pwm(self, frequency: float, duty: float) -> None:
        self._check_open()
        if self._edges is not None:
            raise HardwareError(f"line {self._line}", "lgpio sends no pulses on a line whose edges it reports")
        self._chip.send_pwm(self._number, self._line, frequency, duty)
        self._pulses = True

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._chip.free(self._number)

    def _switch(self, edges: SwitchedEdges, value: int) -> None:
        """Make the line an input that is watched, or an output at `value`."""
        if value != self._released:
            self._claim_output(value)
            if edges.let_go:
                edges.end()
        elif not edges.let_go:
            chip, number = self._chip, self._number
            lgpio = chip.lgpio
            # Whether lgpio's thread is awake is not proved here, as for a watch: a sensor's answer takes less time.
            flags = self._flags & lgpio.SET_ACTIVE_LOW
            chip.switch(
                number,
                self._line,
                lambda: lgpio.gpio_claim_alert(chip.handle, number, lgpio.BOTH_EDGES, flags, self._notify),
                alert=True,
            )
            edges.begin()

    def _unwatch(self) -> None:
        edges, self._edges = self._edges, None
        if edges is not None and edges.let_go and not self._closed and not self.forked and self._value is not None:
            self._claim_output(self._value)

    def _claim_output(self, value: int) -> None:
        chip, number = self._chip, self._number
        if number in chip.alerts:
            chip.switch(
                number,
                self._line,
                lambda: chip.lgpio.gpio_claim_output(chip.handle, number, value, self._flags),
                alert=False,
            )
        else:
            chip.write(number, self._line, value)

    def _end_pulses(self) -> None:
        if self._pulses:
            self._chip.send_pwm(self._number, self._line, 0, 0)
            self._pulses = False

    def _check_open(self) -> None:
        if self._closed:
            raise HardwareError(f"line {self._line}", "this output is closed", "open a new one")
