"""Lines through libgpiod's Python bindings: the kernel's own account of edges, without a helper thread.

A request for lines is a descriptor of its own, which lives as long as somebody has it open. The fact that shaped it:
a forked child has it open too, and would keep the lines from everybody after its parent has ended; so a child closes
the requests it finds, and leaves those of its parent alone.

The bindings are those of libgpiod 2 (PyPI's gpiod, python3-libgpiod of Debian 13 and later); Debian 12 has the older
ones, under the same name, which can't do what is needed here.
"""

from __future__ import annotations

import errno
import importlib
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING

from hwloop.board import Bias, Drive, EdgeKind, EdgeStream, LineName, OutputLine
from hwloop.boards.chip import GpioChip, LineInfo
from hwloop.boards.chips import node_refused
from hwloop.boards.gpiod_edges import GpiodEdges
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    import gpiod

MAX_LINES = 64
"""Lines of one request: GPIO_V2_LINES_MAX of <linux/gpio.h>."""
EVENT_BUFFER = 1024
"""Events that the kernel keeps for a request: the most it allows (16 for each of `MAX_LINES`)."""

_HOW_TO_GET = "pip install 'gpiod>=2.2', or on Debian 13 and later apt install python3-libgpiod"

_requests: weakref.WeakSet[gpiod.LineRequest] = weakref.WeakSet()
"""Those that this process has open."""


def _leave_to_parent() -> None:
    for request in _requests:
        request.release()
    _requests.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def load_gpiod() -> ModuleType:
    """The gpiod module. Raises `HardwareError` where it is not installed, or too old."""
    try:
        module = importlib.import_module("gpiod")
    except ModuleNotFoundError as error:
        raise HardwareError("import gpiod", "the package is not installed", _HOW_TO_GET) from error
    except ImportError as error:
        raise HardwareError("import gpiod", str(error), _HOW_TO_GET) from error
    if not hasattr(module, "LineSettings"):
        raise HardwareError("import gpiod", f"{module.__file__} is of libgpiod 1; 2 is needed", _HOW_TO_GET)
    return module


class GpiodChip(GpioChip):
    """One GPIO chip, opened through gpiod.

    Parameters:
        gpiod: the module (`load_gpiod()`).
        path: the chip's device node.

    Raises `HardwareError` where the chip can't be opened.
    """

    def __init__(self, gpiod: ModuleType, path: str) -> None:
        self._gpiod = gpiod
        try:
            self._chip = gpiod.Chip(path)
        except OSError as error:
            raise node_refused(path, error) from error
        info = self._chip.get_info()
        super().__init__(path, node=path, label=info.label, lines=info.num_lines, revision=None)

    def close(self) -> None:
        self._chip.close()

    def gone(self) -> bool:
        try:
            self._chip.get_line_info(0)
        except OSError:
            return True
        return False

    def line_info(self, number: int) -> LineInfo:
        info = self._chip.get_line_info(number)
        return LineInfo(info.name or "", info.used, info.consumer or "")

    def open_edges(
        self,
        lines: Sequence[LineName],
        *,
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
    ) -> EdgeStream:
        numbers = self.find_all(lines, debounce)
        if len(numbers) > MAX_LINES:
            raise HardwareError(
                f"lines {', '.join(map(str, lines))}",
                f"the kernel gives at most {MAX_LINES} lines to one request, and these are {len(numbers)}",
                "watch them in several",
            )
        line = self._gpiod.line
        request = self._request(
            numbers,
            consumer,
            direction=line.Direction.INPUT,
            edge_detection={"rising": line.Edge.RISING, "falling": line.Edge.FALLING, "both": line.Edge.BOTH}[edges],
            bias={
                "as-is": line.Bias.AS_IS,
                "up": line.Bias.PULL_UP,
                "down": line.Bias.PULL_DOWN,
                "none": line.Bias.DISABLED,
            }[bias],
            active_low=active_low,
            debounce_period=timedelta(microseconds=round(debounce * 1e6)),
            event_clock=line.Clock.MONOTONIC,
        )
        return GpiodEdges(self, request, numbers, both=edges == "both", debounced=debounce > 0)

    def open_output(
        self, line: LineName, *, initial: int | None, drive: Drive, active_low: bool, consumer: str
    ) -> OutputLine:
        number = self.find(line)
        numbers = {number: line}
        self.check_free(numbers)
        kinds = self._gpiod.line
        settings = {
            "direction": kinds.Direction.OUTPUT,
            "drive": {
                "push-pull": kinds.Drive.PUSH_PULL,
                "open-drain": kinds.Drive.OPEN_DRAIN,
                "open-source": kinds.Drive.OPEN_SOURCE,
            }[drive],
            "active_low": active_low,
        }
        if initial is not None:
            request = self._request(numbers, consumer, **settings, output_value=kinds.Value(initial))
            return _Output(self, request, line, kinds.Value)
        # The line is taken as it is, so that an output goes on driving; it is an output at its own level after that.
        request = self._request(numbers, consumer, direction=kinds.Direction.AS_IS, active_low=active_low)
        try:
            level = request.get_value(number)
            request.reconfigure_lines({number: self._gpiod.LineSettings(**settings, output_value=level)})
        except BaseException as error:
            self.release(request, numbers)
            if isinstance(error, OSError):
                raise self.refusal(numbers, text_of(error), error.errno) from error
            raise
        return _Output(self, request, line, kinds.Value)

    # For streams and outputs.

    def release(self, request: gpiod.LineRequest, numbers: Iterable[int]) -> None:
        """Give a request's lines back."""
        for number in numbers:
            del self.users[number]
        if not self.forked:  # a child has released it when it began
            request.release()
            _requests.discard(request)

    def failure(self, tried: str, what: str, error: OSError) -> HardwareError:
        """What it means that a request's descriptor fails."""
        if error.errno == errno.ENODEV:
            return self.vanished(tried)
        return HardwareError(tried, f"{what}: {text_of(error)}", errno=error.errno)

    def _request(self, numbers: Mapping[int, LineName], consumer: str, **settings: object) -> gpiod.LineRequest:
        try:
            request: gpiod.LineRequest = self._chip.request_lines(
                {tuple(numbers): self._gpiod.LineSettings(**settings)}, consumer, EVENT_BUFFER
            )
        except OSError as error:
            raise self.refusal(numbers, text_of(error), error.errno) from error
        _requests.add(request)
        self.users.update(dict.fromkeys(numbers, consumer))
        return request


class _Output(OutputLine):
    """One line that we drive."""

    def __init__(
        self, chip: GpiodChip, request: gpiod.LineRequest, line: LineName, values: type[gpiod.line.Value]
    ) -> None:
        self._chip = chip
        self._request = request
        self._line = line
        self._number = request.offsets[0]
        self._values = values
        self._closed = False

    @property
    def forked(self) -> bool:
        return self._chip.forked

    def set(self, value: int) -> None:
        self._check()
        try:
            self._request.set_value(self._number, self._values(value))
        except OSError as error:
            raise self._chip.failure(f"line {self._line}", "can't be set", error) from error

    def get(self) -> int:
        self._check()
        try:
            return int(bool(self._request.get_value(self._number)))
        except OSError as error:
            raise self._chip.failure(f"line {self._line}", "can't be read", error) from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._chip.release(self._request, [self._number])

    def _check(self) -> None:
        self._chip.check_process(f"line {self._line}")
        if self._closed:
            raise HardwareError(f"line {self._line}", "this output is closed", "open a new one")


def text_of(error: OSError) -> str:
    """What the system said, in small letters."""
    return (error.strerror or str(error)).lower()
