"""One line that this program drives, and that it can watch while the line is released.

The libraries differ in the calls that make a line an output or a watched input; when each is due is the same for all,
and stands here. `hwloop.boards.switched_edges` says why a watched output changes between the two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from hwloop.boards.chip import GpioChip
from hwloop.boards.level_tracking import LevelTrackingStream
from hwloop.boards.switched_edges import SwitchedEdges
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream, OutputLine
from hwloop.requests import OutputRequest


class ChipOutput(OutputLine):
    """An output on a chip. Its subclass makes the library's calls.

    Parameters:
        number: the line's number on the chip.
        value: the logical level that it has now; None if that is unknown.
    """

    def __init__(self, chip: GpioChip, number: int, request: OutputRequest, value: int | None) -> None:
        self.chip = chip
        self.number = number
        self.request = request
        self.edges: SwitchedEdges | None = None
        self._value = value
        self._closed = False

    @abstractmethod
    def write(self, value: int) -> None:
        """Set the level of the line, which is an output. Raises `HardwareError`."""

    @abstractmethod
    def make_output(self, value: int) -> None:
        """Make the line an output at `value`. Raises `HardwareError`."""

    @abstractmethod
    def make_input(self) -> None:
        """Make the line an input whose edges are reported. Raises `HardwareError`."""

    @abstractmethod
    def open_stream(self) -> LevelTrackingStream:
        """Return the stream of the line's edges while it is an input. Raises `HardwareError`."""

    @abstractmethod
    def give_back(self) -> None:
        """Give the line back to the chip."""

    @property
    def forked(self) -> bool:
        return self.chip.forked

    def set(self, value: int) -> None:
        self.check_open()
        self._value = value
        if self.edges is None:
            self.write(value)
        else:
            self._switch(self.edges, value)

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        if self.request.released_level is None or self.edges is not None:
            return super().watch(kept)
        self.check_open()
        stream = self.open_stream()
        edges = SwitchedEdges(stream, self.number, kept, self._unwatch)
        try:
            if self._value is None:
                self._value = self.get()
            self._switch(edges, self._value)
        except BaseException:
            stream.close()
            raise
        self.edges = edges
        return edges

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.give_back()

    def check_open(self) -> None:
        """Raise `HardwareError` where the output is closed, or belongs to the parent of this process."""
        if self._closed or self.chip.forked:
            name = f"line {self.request.line}"
            self.chip.check_process(name)
            raise HardwareError(name, "this output is closed", "open a new one")

    def _switch(self, edges: SwitchedEdges, value: int) -> None:
        """Make the line an input that is watched, or an output at `value`."""
        if value != self.request.released_level:
            self.make_output(value)
            if edges.released:
                edges.end()
        elif not edges.released:
            self.make_input()
            edges.begin()

    def _unwatch(self) -> None:
        edges, self.edges = self.edges, None
        if edges is not None and edges.released and not self._closed and not self.forked and self._value is not None:
            self.make_output(self._value)
