"""`gpiod._ext` over simulated chips.

The package gpiod is Python code over an extension module in C, which opens chips, makes the kernel's structs and reads
its events through libgpiod. This module stands for that one: the same names, arguments, checks and exceptions, with the
ioctls answered by `firmware_sim.gpio_device`. So a program gets the package's own classes.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from firmware_sim import gpio_uapi as uapi
from firmware_sim.descriptors import descriptors
from firmware_sim.gpio_device import ChipHandle, GpioDevice, RequestHandle
from firmware_sim.gpio_uapi import Flag
from firmware_sim.libraries.gpiod import settings
from firmware_sim.libraries.gpiod.errors import as_the_bindings_raise, failure
from firmware_sim.libraries.gpiod.settings import LineConfig, LineSettings, checked_offset
from firmware_sim.nodes import Nodes, os_error

API_VERSION = "2.3"
"""The version of libgpiod in gpiod 2.5.0, which this was written after."""
_close = os.close  # not one that leads to nodes
_EVENTS = 64  # of a read, unless the program says how many
_EVENTS_MAX = 16 * uapi.LINES_MAX


class Extension(ModuleType):
    """The module, for the chips of one board.

    Parameters:
        name: its name: "gpiod._ext".
        nodes: the board's device nodes, among which its chips are.

    Attributes:
        package: the package whose classes the results have: `gpiod`, once it is loaded.
    """

    def __init__(self, name: str, nodes: Nodes) -> None:
        super().__init__(name, __doc__)
        self.package: Any = None
        self.__dict__.update((name, value) for name, value in vars(settings).items() if name.isupper())
        self.EDGE_EVENT_TYPE_RISING: int = uapi.EDGE_RISING
        self.EDGE_EVENT_TYPE_FALLING: int = uapi.EDGE_FALLING
        self.INFO_EVENT_TYPE_LINE_REQUESTED: int = 1
        self.INFO_EVENT_TYPE_LINE_RELEASED: int = 2
        self.INFO_EVENT_TYPE_LINE_CONFIG_CHANGED: int = 3
        self.api_version: str = API_VERSION
        self.LineSettings: type[LineSettings] = LineSettings
        self.LineConfig: type[LineConfig] = LineConfig
        self.Request: type[Request] = Request
        self.Chip: functools.partial[Chip] = functools.partial(Chip, self)
        self._nodes = nodes

    def is_gpiochip_device(self, path: str) -> bool:
        try:
            self.device(path)
        except OSError:
            return False
        return True

    def device(self, path: str) -> GpioDevice:
        """Return the device at a path. Raises OSError as libgpiod's gpiod_check_gpiochip_device() fails."""
        if not isinstance(path, str):
            raise TypeError(f"argument 1 must be str, not {type(path).__name__}")
        node = self._nodes.get(self._nodes.resolve(os.path.realpath(path)))
        if isinstance(node, GpioDevice) and node.chip.present:
            return node
        if node is None and os.path.basename(path).startswith("gpiochip"):  # not one of this machine's own
            paths = [f"/dev/{name}" for name in self._nodes.entries("/dev")]
            there = ", ".join(sorted(each for each in paths if isinstance(self._nodes.get(each), GpioDevice)))
            message = f"no such chip on the simulated board; it has {there or 'none'}"
            raise FileNotFoundError(errno.ENOENT, message, path)
        if isinstance(node, GpioDevice):
            raise failure(errno.ENOENT)
        mode = os.stat(path).st_mode
        raise failure(errno.ENODEV if stat.S_ISCHR(mode) else errno.ENOTTY)


class _Descriptor:
    """A descriptor of the kernel's, which is closed with this object."""

    fd: int = -1

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def _ioctl(self, request: int, argument: bytes) -> bytes:
        handle = descriptors.handle(self.fd)
        answer = bytearray(argument)
        with as_the_bindings_raise():
            if handle is None:
                raise os_error(errno.EBADF)
            handle.ioctl(request, answer)
        return bytes(answer)

    def _read(self, size: int, record: int) -> bytes:
        """Read records, as many as there are and at most `size` bytes. Waits for the first one."""
        handle = descriptors.handle(self.fd)
        if isinstance(handle, ChipHandle | RequestHandle):
            if handle.events.virtual and os.get_blocking(self.fd):
                handle.events.wait()
            if handle.events.ended:  # what waited when the chip vanished is lost
                raise failure(errno.ENODEV)
        with as_the_bindings_raise():
            data = os.read(self.fd, size)
        if len(data) < record:
            raise failure(errno.ENODEV)
        return data

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            descriptors.close(fd)

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)  # a finalizer takes no lock: the lines are free when somebody looks at the chip


class Chip(_Descriptor):
    """An open chip."""

    def __init__(self, extension: Extension, path: str) -> None:
        with as_the_bindings_raise():
            super().__init__(descriptors.open(extension.device(path), os.O_RDWR | os.O_CLOEXEC))
        self._extension = extension
        self.path: str = path

    def close(self) -> None:
        self._close()

    def get_info(self) -> Any:
        name, label, lines = uapi.chip_info_of(self._ioctl(uapi.GET_CHIP_INFO, bytes(uapi.CHIP_INFO.size)))
        return self._extension.package.chip_info.ChipInfo(name, label, lines)

    def get_line_info(self, offset: int, watch: bool) -> Any:
        return self._line_info(self._read_info(offset, uapi.WATCH_LINE_INFO if watch else uapi.GET_LINE_INFO))

    def get_line_name(self, offset: int) -> str | None:
        return self._read_info(offset, uapi.GET_LINE_INFO).name or None

    def unwatch_line_info(self, line: int) -> None:
        self._ioctl(uapi.UNWATCH_LINE_INFO, checked_offset(line).to_bytes(4, "little"))

    def line_offset_from_id(self, id: str) -> int:
        if not isinstance(id, str):
            raise TypeError(f"argument 1 must be str, not {type(id).__name__}")
        lines = uapi.chip_info_of(self._ioctl(uapi.GET_CHIP_INFO, bytes(uapi.CHIP_INFO.size)))[2]
        for offset in range(lines):
            if self._read_info(offset, uapi.GET_LINE_INFO).name == id:
                return offset
        raise failure(errno.ENOENT)

    def request_lines(self, line_cfg: LineConfig, consumer: str | None, event_buffer_size: int | None) -> Request:
        config = _checked(line_cfg)
        if not isinstance(consumer, str | None):
            raise TypeError("bad argument type for built-in operation")
        size = 0 if event_buffer_size is None else _size(event_buffer_size)
        wanted = uapi.LineRequest(line_cfg.offsets, config, consumer or "", size & 0xFFFF_FFFF)
        name = self.get_info().name
        fd = uapi.granted_fd(self._ioctl(uapi.GET_LINE, wanted.pack()))
        return Request(self._extension, fd, name, line_cfg.offsets, size)

    def read_info_event(self) -> Any:
        data = self._read(uapi.LINE_INFO_CHANGED.size, uapi.LINE_INFO_CHANGED.size)
        info, timestamp_ns, kind = uapi.LINE_INFO_CHANGED.unpack(data)
        return self._extension.package.info_event.InfoEvent(
            kind, timestamp_ns, self._line_info(uapi.LineInfo.unpack(info))
        )

    def _read_info(self, offset: int, request: int) -> uapi.LineInfo:
        wanted = uapi.LineInfo(checked_offset(offset)).pack()
        return uapi.LineInfo.unpack(self._ioctl(request, wanted))

    def _line_info(self, info: uapi.LineInfo) -> Any:
        flags = info.flags
        return self._extension.package.line_info.LineInfo(
            info.offset,
            info.name or None,
            flags & Flag.USED != 0,
            info.consumer or None,
            settings.DIRECTION_OUTPUT if flags & Flag.OUTPUT else settings.DIRECTION_INPUT,
            flags & Flag.ACTIVE_LOW != 0,
            _first(flags, _BIASES, settings.BIAS_UNKNOWN),
            _first(flags, _DRIVES, settings.DRIVE_PUSH_PULL),
            _first(flags, _EDGES, settings.EDGE_NONE),
            _first(flags, _CLOCKS, settings.CLOCK_MONOTONIC),
            info.debounce_us > 0,
            info.debounce_us,
        )


class Request(_Descriptor):
    """Lines that are held."""

    def __init__(
        self, extension: Extension, fd: int, chip_name: str, offsets: list[int], event_buffer_size: int
    ) -> None:
        super().__init__(fd)
        self.chip_name: str = chip_name
        self.offsets: list[int] = offsets
        self._extension = extension
        self._places = {offset: place for place, offset in enumerate(offsets)}
        self._capacity = min(event_buffer_size or _EVENTS, _EVENTS_MAX)

    @property
    def num_lines(self) -> int:
        return len(self.offsets)

    def release(self) -> None:
        self._close()

    def get_values(self, offsets: Sequence[int], values: list[Any]) -> None:
        self._check_count(len(offsets))
        places = [self._place(offset) for offset in offsets]
        mask = sum({1 << place for place in places})
        bits = self._values(uapi.GET_VALUES, 0, mask)
        value = self._extension.package.line.Value
        values[:] = [value(bits >> place & 1) for place in places]

    def set_values(self, values: Mapping[int, Any]) -> None:
        self._check_count(len(values))
        bits = mask = 0
        for offset, value in values.items():
            place = self._place(offset)
            mask |= 1 << place
            bits |= bool(value.value) << place
        self._values(uapi.SET_VALUES, bits, mask)

    def reconfigure_lines(self, line_cfg: LineConfig) -> None:
        config = _checked(line_cfg)
        if line_cfg.offsets != self.offsets:
            raise failure(errno.EINVAL)
        self._ioctl(uapi.SET_CONFIG, config.pack())

    def read_edge_events(self, max_events: int | None) -> list[Any]:
        count = min(_EVENTS if max_events is None else _size(max_events), self._capacity)
        if not count:
            return []
        data = self._read(count * uapi.LINE_EVENT.size, uapi.LINE_EVENT.size)
        event = self._extension.package.edge_event.EdgeEvent
        return [
            event(kind, timestamp_ns, offset, seqno, line_seqno)
            for timestamp_ns, kind, offset, seqno, line_seqno in uapi.LINE_EVENT.iter_unpack(data)
        ]

    def _check_count(self, count: int) -> None:
        if count > len(self.offsets):
            raise ValueError("number of offsets exceeds the number of requested lines")

    def _place(self, offset: int) -> int:
        place = self._places.get(checked_offset(offset))
        if place is None:
            raise failure(errno.EINVAL)
        return place

    def _values(self, request: int, bits: int, mask: int) -> int:
        answer: int = uapi.LINE_VALUES.unpack(self._ioctl(request, uapi.LINE_VALUES.pack(bits, mask)))[0]
        return answer


_BIASES = {
    Flag.PULL_UP: settings.BIAS_PULL_UP,
    Flag.PULL_DOWN: settings.BIAS_PULL_DOWN,
    Flag.BIAS_DISABLED: settings.BIAS_DISABLED,
}
_DRIVES = {Flag.OPEN_DRAIN: settings.DRIVE_OPEN_DRAIN, Flag.OPEN_SOURCE: settings.DRIVE_OPEN_SOURCE}
_EDGES = {
    Flag.EDGES: settings.EDGE_BOTH,
    Flag.RISING: settings.EDGE_RISING,
    Flag.FALLING: settings.EDGE_FALLING,
}
_CLOCKS = {Flag.REALTIME: settings.CLOCK_REALTIME, Flag.HTE: settings.CLOCK_HTE}


def _first(flags: int, meanings: Mapping[int, int], otherwise: int) -> int:
    """Return the meaning of the first flags that are all set."""
    return next((meaning for each, meaning in meanings.items() if flags & each == each), otherwise)


def _checked(line_cfg: LineConfig) -> uapi.LineConfig:
    if type(line_cfg) is not LineConfig:
        raise TypeError("not a gpiod._ext.LineConfig object")
    return line_cfg.config()


def _size(value: int) -> int:
    """Return a size as C's size_t. Raises TypeError or OverflowError as the bindings do."""
    if not isinstance(value, int):
        raise TypeError("an integer is required")
    if value < 0:
        raise OverflowError("can't convert negative value to size_t")
    return value
