"""The kernel's interface to GPIO lines: the structs, flags and ioctls of <linux/gpio.h>, version 2.

Programs and libgpiod give the kernel bytes, and so does everything here: what a library makes of a call on the Pi, and
what it reads in the answer, is the same on the simulated board. Version 1 of the interface is deprecated, and not
offered, as in a kernel without CONFIG_GPIO_CDEV_V1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINES_MAX = 64
ATTRIBUTES_MAX = 10
NAME_SIZE = 32

GET_CHIP_INFO = 0x8044B401
GET_LINE_INFO = 0xC100B405
WATCH_LINE_INFO = 0xC100B406
UNWATCH_LINE_INFO = 0xC004B40C
GET_LINE = 0xC250B407
SET_CONFIG = 0xC110B40D
GET_VALUES = 0xC010B40E
SET_VALUES = 0xC010B40F

CHIP_INFO = struct.Struct("=32s32sI")
"""struct gpiochip_info: name, label, number of lines."""
LINE_INFO = struct.Struct("=32s32sIIQ160s16s")
"""struct gpio_v2_line_info: name, consumer, offset, number of attributes, flags, attributes, padding."""
LINE_INFO_CHANGED = struct.Struct("=256sQI20x")
"""struct gpio_v2_line_info_changed: line info, timestamp, type."""
LINE_REQUEST = struct.Struct("=256s32s272sII20si")
"""struct gpio_v2_line_request: offsets, consumer, config, number of lines, event buffer size, padding, descriptor."""
LINE_CONFIG = struct.Struct("=QI20s240s")
"""struct gpio_v2_line_config: flags, number of attributes, padding, attributes."""
LINE_VALUES = struct.Struct("=QQ")
"""struct gpio_v2_line_values: bits, mask."""
LINE_EVENT = struct.Struct("=QIIII24x")
"""struct gpio_v2_line_event: timestamp, id, offset, number within the request, number within the line."""
_CONFIG_ATTRIBUTE = struct.Struct("=I4xQQ")
_ATTRIBUTE = struct.Struct("=I4xQ")
_OFFSETS = struct.Struct("=64I")

EDGE_RISING, EDGE_FALLING = 1, 2
"""Ids of events."""
ATTRIBUTE_FLAGS, ATTRIBUTE_VALUES, ATTRIBUTE_DEBOUNCE = 1, 2, 3
"""Ids of attributes."""


class Flag:
    """The flags of a line (enum gpio_v2_line_flag)."""

    USED = 1 << 0
    ACTIVE_LOW = 1 << 1
    INPUT = 1 << 2
    OUTPUT = 1 << 3
    RISING = 1 << 4
    FALLING = 1 << 5
    OPEN_DRAIN = 1 << 6
    OPEN_SOURCE = 1 << 7
    PULL_UP = 1 << 8
    PULL_DOWN = 1 << 9
    BIAS_DISABLED = 1 << 10
    REALTIME = 1 << 11
    HTE = 1 << 12

    EDGES = RISING | FALLING
    DIRECTIONS = INPUT | OUTPUT
    DRIVES = OPEN_DRAIN | OPEN_SOURCE
    BIASES = PULL_UP | PULL_DOWN | BIAS_DISABLED
    ALL = ACTIVE_LOW | DIRECTIONS | EDGES | DRIVES | BIASES | REALTIME | HTE


@dataclass(frozen=True)
class Attribute:
    """A setting of some lines of a request: `value` by the meaning of `kind`, for the lines whose bit is in `mask`."""

    kind: int
    value: int
    mask: int


@dataclass(frozen=True)
class LineConfig:
    """The settings of the lines of a request, each line by its place there."""

    flags: int = 0
    attributes: tuple[Attribute, ...] = ()

    def flags_of(self, place: int) -> int:
        """Return the flags of a line."""
        found = self._attribute(ATTRIBUTE_FLAGS, place)
        return self.flags if found is None else found

    def output_of(self, place: int) -> int:
        """Return the logical level at which an output begins."""
        values = self._attribute(ATTRIBUTE_VALUES, place) or 0
        return values >> place & 1

    def debounce_us_of(self, place: int) -> int | None:
        """Return the debounce time of a line in microseconds; None if the config has none for it."""
        found = self._attribute(ATTRIBUTE_DEBOUNCE, place)
        return None if found is None else found & 0xFFFF_FFFF

    def _attribute(self, kind: int, place: int) -> int | None:
        for attribute in self.attributes:  # the first one counts
            if attribute.kind == kind and attribute.mask >> place & 1:
                return attribute.value
        return None

    def pack(self) -> bytes:
        attributes = b"".join(_CONFIG_ATTRIBUTE.pack(each.kind, each.value, each.mask) for each in self.attributes)
        return LINE_CONFIG.pack(self.flags, len(self.attributes), b"", attributes)

    @classmethod
    def unpack(cls, data: bytes) -> LineConfig | None:
        """Return the config in `data`; None if the kernel would find it malformed."""
        flags, count, padding, attributes = LINE_CONFIG.unpack(data)
        if count > ATTRIBUTES_MAX or any(padding):
            return None
        return cls(flags, tuple(Attribute(*each) for each in _CONFIG_ATTRIBUTE.iter_unpack(attributes))[:count])


@dataclass(frozen=True)
class LineRequest:
    """A request for lines."""

    offsets: Sequence[int]
    config: LineConfig
    consumer: str = ""
    event_buffer_size: int = 0

    def pack(self) -> bytes:
        offsets = _OFFSETS.pack(*self.offsets, *[0] * (LINES_MAX - len(self.offsets)))
        return LINE_REQUEST.pack(
            offsets, _name(self.consumer), self.config.pack(), len(self.offsets), self.event_buffer_size, b"", 0
        )

    @classmethod
    def unpack(cls, data: bytes) -> LineRequest | None:
        """Return the request in `data`; None if the kernel would find it malformed."""
        offsets, consumer, config, count, size, padding, _ = LINE_REQUEST.unpack(data)
        checked = LineConfig.unpack(config)
        if not 0 < count <= LINES_MAX or any(padding) or checked is None:
            return None
        return cls(_OFFSETS.unpack(offsets)[:count], checked, _text(consumer), size)


def granted(request: bytes, fd: int) -> bytes:
    """Return the struct of a request with the descriptor that the kernel has made for it."""
    return request[:-4] + struct.pack("=i", fd)


def granted_fd(request: bytes) -> int:
    """Return the descriptor that the kernel has made for a request."""
    fd: int = LINE_REQUEST.unpack(request)[6]
    return fd


@dataclass(frozen=True)
class LineInfo:
    """A line as the kernel describes it."""

    offset: int
    name: str = ""
    consumer: str = ""
    flags: int = 0
    debounce_us: int = 0

    def pack(self) -> bytes:
        attributes = _ATTRIBUTE.pack(ATTRIBUTE_DEBOUNCE, self.debounce_us) if self.debounce_us else b""
        name, consumer = _name(self.name), _name(self.consumer)
        return LINE_INFO.pack(name, consumer, self.offset, bool(attributes), self.flags, attributes, b"")

    @classmethod
    def unpack(cls, data: bytes) -> LineInfo:
        name, consumer, offset, count, flags, attributes, _ = LINE_INFO.unpack(data)
        debounce_us = 0
        for kind, value in _pairs(attributes, count):
            if kind == ATTRIBUTE_DEBOUNCE:
                debounce_us = value & 0xFFFF_FFFF
        return cls(offset, _text(name), _text(consumer), flags, debounce_us)


def wanted_line(info: bytes) -> int | None:
    """Return the offset of the line for which a program wants a `LINE_INFO`; None if the struct is malformed."""
    offset, padding = LINE_INFO.unpack(info)[2], LINE_INFO.unpack(info)[6]
    return None if any(padding) else offset


def chip_info(name: str, label: str, lines: int) -> bytes:
    """Return a struct gpiochip_info."""
    return CHIP_INFO.pack(_name(name), _name(label), lines)


def chip_info_of(data: bytes) -> tuple[str, str, int]:
    """Return name, label and number of lines out of a struct gpiochip_info."""
    name, label, lines = CHIP_INFO.unpack(data)
    return _text(name), _text(label), lines


def _pairs(attributes: bytes, count: int) -> Iterator[tuple[int, int]]:
    yield from list(_ATTRIBUTE.iter_unpack(attributes))[:count]


def _name(text: str) -> bytes:
    return text.encode()[: NAME_SIZE - 1]


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode(errors="replace")
