"""Stands for `tests.gpiosim._ext`, which makes chips of the kernel's gpio-sim module: chips of the board in use."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from firmware_sim.gpio_device import GpioDevice
from firmware_sim.pins import Chip as SimulatedChip
from hwloop.board import current

PULL_DOWN, PULL_UP = 1, 2
VALUE_INACTIVE, VALUE_ACTIVE = 0, 1
DIRECTION_INPUT, DIRECTION_OUTPUT_HIGH, DIRECTION_OUTPUT_LOW = 1, 2, 3

_numbers = itertools.count(1)
_lock = threading.Lock()


class Chip:
    """A chip whose lines are pulled down, and can be pulled up."""

    def __init__(self) -> None:
        self._label = "gpio-sim"
        self._lines = 1
        self._names: dict[int, str] = {}
        self._hogs: dict[int, tuple[str, int]] = {}

    def set_label(self, label: str) -> None:
        self._label = label

    def set_num_lines(self, num_lines: int) -> None:
        self._lines = num_lines

    def set_line_name(self, offset: int, name: str) -> None:
        self._names[offset] = name

    def set_hog(self, offset: int, name: str, direction: int) -> None:
        self._hogs[offset] = name, direction

    def enable(self) -> None:
        board: Any = current()
        self._chip = SimulatedChip(board.timeline, label=self._label, lines=self._lines)
        for offset in range(self._lines):
            line = self._chip.line(offset)
            line.name = self._names.get(offset, "")
            line.pull("down")
            if offset in self._hogs:
                name, direction = self._hogs[offset]
                output = {DIRECTION_INPUT: None, DIRECTION_OUTPUT_HIGH: 1, DIRECTION_OUTPUT_LOW: 0}[direction]
                line.claim(name, output=output)
        with _lock:
            self._device = GpioDevice(self._chip, next(_numbers))
        board.nodes.add(self._device.path, self._device)
        self._board = board

    def get_value(self, offset: int) -> int:
        return self._chip.line(offset).level

    def set_pull(self, offset: int, pull: int) -> None:
        self._chip.line(offset).pull("up" if pull == PULL_UP else "down")

    @property
    def dev_path(self) -> str:
        return self._device.path

    @property
    def name(self) -> str:
        return self._device.name

    def __del__(self) -> None:
        if hasattr(self, "_board"):
            self._board.nodes.remove(self._device.path)
            self._chip.remove()
