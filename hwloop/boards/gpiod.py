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
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING

from hwloop.board import EdgeRequest, EdgeStream, LineName, OutputLine, OutputRequest
from hwloop.boards.chip import GpioChip, LineInfo
from hwloop.boards.chips import node_refused
from hwloop.boards.gpiod_edges import GpiodEdges
from hwloop.boards.switched import SwitchedEdges
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

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        numbers = self.find_all(request)
        if len(numbers) > MAX_LINES:
            raise HardwareError(
                f"lines {', '.join(map(str, request.lines))}",
                f"the kernel gives at most {MAX_LINES} lines to one request, and these are {len(numbers)}",
                "watch them in several",
            )
        line = self._gpiod.line
        granted = self._request(
            numbers,
            request.consumer,
            direction=line.Direction.INPUT,
            edge_detection={
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
        return GpiodEdges(self, granted, numbers, both=request.edges == "both", debounced=request.debounce > 0)

    def open_output(self, request: OutputRequest) -> OutputLine:
        number = self.find(request.line)
        numbers = {number: request.line}
        self.check_free(numbers)
        kinds = self._gpiod.line
        settings = {
            "direction": kinds.Direction.OUTPUT,
            "drive": {
                "push-pull": kinds.Drive.PUSH_PULL,
                "open-drain": kinds.Drive.OPEN_DRAIN,
                "open-source": kinds.Drive.OPEN_SOURCE,
            }[request.drive],
            "active_low": request.active_low,
        }
        if request.initial is not None:
            level = kinds.Value(request.initial)
            granted = self._request(numbers, request.consumer, **settings, output_value=level)
            return _Output(self, granted, request, settings, level)
        # The line is taken as it is, so that an output goes on driving; it is an output at its own level after that.
        granted = self._request(
            numbers, request.consumer, direction=kinds.Direction.AS_IS, active_low=request.active_low
        )
        try:
            level = granted.get_value(number)
            granted.reconfigure_lines({number: self._gpiod.LineSettings(**settings, output_value=level)})
        except BaseException as error:
            self.release(granted, numbers)
            if isinstance(error, OSError):
                raise self.refusal(numbers, text_of(error), error.errno) from error
            raise
        return _Output(self, granted, request, settings, level)

    def settings(self, **settings: object) -> gpiod.LineSettings:
        """Settings of a line, by gpiod's names."""
        made: gpiod.LineSettings = self._gpiod.LineSettings(**settings)
        return made

    def watched(self, active_low: object) -> gpiod.LineSettings:
        """Settings of an input whose edges are reported, and whose pull resistor is as it was."""
        line = self._gpiod.line
        return self.settings(
            direction=line.Direction.INPUT,
            edge_detection=line.Edge.BOTH,
            active_low=active_low,
            event_clock=line.Clock.MONOTONIC,
        )

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
    """One line that we drive.

    Parameters:
        granted: the kernel's answer to `request`.
        settings: those of the line while we drive it.
        value: the logical level that it has now.
    """

    def __init__(
        self,
        chip: GpiodChip,
        granted: gpiod.LineRequest,
        request: OutputRequest,
        settings: Mapping[str, object],
        value: gpiod.line.Value,
    ) -> None:
        self._chip = chip
        self._request = granted
        self._line = request.line
        self._number = granted.offsets[0]
        self._settings = settings
        self._values = type(value)
        self._value = value
        self._released = request.released_level  # where it can be watched
        self._edges: SwitchedEdges | None = None
        self._closed = False

    @property
    def forked(self) -> bool:
        return self._chip.forked

    def set(self, value: int) -> None:
        self._check()
        self._value = self._values(value)
        try:
            if self._edges is None:
                self._request.set_value(self._number, self._value)
            else:
                self._switch(self._edges, watched=value == self._released)
        except OSError as error:
            raise self._chip.failure(f"line {self._line}", "can't be set", error) from error

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        if self._released is None or self._edges is not None:
            return super().watch(kept)
        self._check()
        numbers = {self._number: self._line}
        stream = GpiodEdges(self._chip, self._request, numbers, both=True, debounced=False, borrowed=True)
        edges = SwitchedEdges(stream, self._number, kept, self._unwatch)
        try:
            self._switch(edges, watched=int(bool(self._value)) == self._released)
        except BaseException as error:
            stream.close()
            if isinstance(error, OSError):
                raise self._chip.refusal(numbers, text_of(error), error.errno) from error
            raise
        self._edges = edges
        return edges

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

    def _switch(self, edges: SwitchedEdges, *, watched: bool) -> None:
        """Make the line an input that is watched, or an output at its level."""
        if watched and not edges.let_go:
            self._configure(self._chip.watched(self._settings["active_low"]))
            edges.begin()
        elif not watched:
            self._configure(self._chip.settings(**self._settings, output_value=self._value))
            if edges.let_go:
                edges.end()

    def _unwatch(self) -> None:
        edges, self._edges = self._edges, None
        if edges is not None and edges.let_go and not self._closed and not self.forked:
            self._configure(self._chip.settings(**self._settings, output_value=self._value))

    def _configure(self, settings: gpiod.LineSettings) -> None:
        self._request.reconfigure_lines({self._number: settings})

    def _check(self) -> None:
        self._chip.check_process(f"line {self._line}")
        if self._closed:
            raise HardwareError(f"line {self._line}", "this output is closed", "open a new one")


def text_of(error: OSError) -> str:
    """What the system said, in small letters."""
    return (error.strerror or str(error)).lower()
