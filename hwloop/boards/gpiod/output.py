"""One line that gpiod drives."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hwloop.boards.chip_output import ChipOutput
from hwloop.boards.gpiod.chip import GpiodChip, text_of
from hwloop.boards.gpiod.edges import GpiodEdges
from hwloop.requests import OutputRequest

if TYPE_CHECKING:
    import gpiod


class GpiodOutput(ChipOutput):
    """An output through gpiod. Raises `HardwareError` where the line is not available."""

    def __init__(self, chip: GpiodChip, request: OutputRequest) -> None:
        number = chip.find(request.line)
        numbers = {number: request.line}
        chip.check_free(numbers)
        line = chip.gpiod.line
        self._chip = chip
        self._level = line.Value
        self._settings: dict[str, object] = {
            "direction": line.Direction.OUTPUT,
            "drive": {
                "push-pull": line.Drive.PUSH_PULL,
                "open-drain": line.Drive.OPEN_DRAIN,
                "open-source": line.Drive.OPEN_SOURCE,
            }[request.drive],
            "active_low": request.active_low,
        }
        if request.initial is not None:
            level = line.Value(request.initial)
            self._granted = chip.request(numbers, request.consumer, **self._settings, output_value=level)
        else:
            # The line is taken as it is, so that an output goes on driving, and becomes an output at that level then.
            as_is, low = line.Direction.AS_IS, request.active_low
            self._granted = chip.request(numbers, request.consumer, direction=as_is, active_low=low)
        super().__init__(chip, number, request, request.initial)
        if request.initial is None:
            try:
                value = self.get()
                self.make_output(value)
            except BaseException:
                chip.release(self._granted, numbers)
                raise
            self._value = value

    def get(self) -> int:
        self.check_open()
        try:
            return int(bool(self._granted.get_value(self.number)))
        except OSError as error:
            raise self._chip.failure(f"line {self.request.line}", "can't be read", error) from error

    def write(self, value: int) -> None:
        try:
            self._granted.set_value(self.number, self._level(value))
        except OSError as error:
            raise self._chip.failure(f"line {self.request.line}", "can't be set", error) from error

    def make_output(self, value: int) -> None:
        self._configure(self._chip.gpiod.LineSettings(**self._settings, output_value=self._level(value)))

    def make_input(self) -> None:
        line = self._chip.gpiod.line
        self._configure(
            self._chip.gpiod.LineSettings(
                direction=line.Direction.INPUT,
                edge_detection=line.Edge.BOTH,
                active_low=self.request.active_low,
                event_clock=line.Clock.MONOTONIC,
            )
        )

    def open_stream(self) -> GpiodEdges:
        lines = {self.number: self.request.line}
        return GpiodEdges(self._chip, self._granted, lines, both=True, debounced=False, borrowed=True)

    def give_back(self) -> None:
        self._chip.release(self._granted, [self.number])

    def _configure(self, settings: gpiod.LineSettings) -> None:
        try:
            self._granted.reconfigure_lines({self.number: settings})
        except OSError as error:
            line = self.request.line
            if error.errno == errno.ENODEV:
                raise self._chip.vanished(f"line {line}") from error
            raise self._chip.refusal({self.number: line}, text_of(error), error.errno) from error
