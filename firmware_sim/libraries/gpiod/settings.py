"""libgpiod's settings of lines, and what it makes of them for the kernel (lib/line-settings.c and line-config.c)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from firmware_sim import gpio_uapi as uapi
from firmware_sim.gpio_uapi import Attribute, Flag
from firmware_sim.libraries.gpiod.errors import failure

DIRECTION_AS_IS, DIRECTION_INPUT, DIRECTION_OUTPUT = 1, 2, 3
EDGE_NONE, EDGE_RISING, EDGE_FALLING, EDGE_BOTH = 1, 2, 3, 4
BIAS_AS_IS, BIAS_UNKNOWN, BIAS_DISABLED, BIAS_PULL_UP, BIAS_PULL_DOWN = 1, 2, 3, 4, 5
DRIVE_PUSH_PULL, DRIVE_OPEN_DRAIN, DRIVE_OPEN_SOURCE = 1, 2, 3
CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_HTE = 1, 2, 3
VALUE_INACTIVE, VALUE_ACTIVE = 0, 1

_DIRECTIONS = {DIRECTION_AS_IS: 0, DIRECTION_INPUT: Flag.INPUT, DIRECTION_OUTPUT: Flag.OUTPUT}
_EDGES = {
    EDGE_NONE: 0,
    EDGE_RISING: Flag.RISING | Flag.INPUT,
    EDGE_FALLING: Flag.FALLING | Flag.INPUT,
    EDGE_BOTH: Flag.EDGES | Flag.INPUT,
}
_BIASES = {
    BIAS_AS_IS: 0,
    BIAS_DISABLED: Flag.BIAS_DISABLED,
    BIAS_PULL_UP: Flag.PULL_UP,
    BIAS_PULL_DOWN: Flag.PULL_DOWN,
}
_DRIVES = {DRIVE_PUSH_PULL: 0, DRIVE_OPEN_DRAIN: Flag.OPEN_DRAIN, DRIVE_OPEN_SOURCE: Flag.OPEN_SOURCE}
_CLOCKS = {CLOCK_MONOTONIC: 0, CLOCK_REALTIME: Flag.REALTIME, CLOCK_HTE: Flag.HTE}


class LineSettings:
    """The settings of a line. Raises ValueError for a value that libgpiod does not know."""

    def __init__(
        self,
        direction: int,
        edge_detection: int,
        bias: int,
        drive: int,
        active_low: bool,
        debounce_period: int,
        event_clock: int,
        output_value: int,
    ) -> None:
        self.flags: int = Flag.ACTIVE_LOW if active_low else 0
        for value, known in (
            (direction, _DIRECTIONS),
            (edge_detection, _EDGES),
            (bias, _BIASES),
            (drive, _DRIVES),
            (event_clock, _CLOCKS),
        ):
            if value not in known:
                raise failure(errno.EINVAL)
            self.flags |= known[value]
        self.is_output: bool = direction == DIRECTION_OUTPUT
        self.debounce_us: int = debounce_period
        self.output: int = checked_value(output_value)


class LineConfig:
    """The settings of the lines of a request, in the order in which they were added."""

    def __init__(self) -> None:
        self._settings: dict[int, LineSettings] = {}
        self._outputs: list[int] = []

    @property
    def offsets(self) -> list[int]:
        return list(self._settings)

    def add_line_settings(self, offsets: Sequence[int], settings: LineSettings) -> None:
        checked = [checked_offset(offset) for offset in offsets]
        if type(settings) is not LineSettings:
            raise TypeError("not a gpiod._ext.LineSettings object")
        if not checked:
            raise failure(errno.EINVAL)
        if len({*self._settings, *checked}) > uapi.LINES_MAX:
            raise failure(errno.E2BIG)
        self._settings.update(dict.fromkeys(checked, settings))

    def set_output_values(self, global_output_values: Iterable[Any]) -> None:
        values = [checked_value(value.value) for value in global_output_values]
        if not 0 < len(values) <= uapi.LINES_MAX:
            raise failure(errno.EINVAL)
        self._outputs = values

    def config(self) -> uapi.LineConfig:
        """Return the config for the kernel. Raises OSError where there are more kinds of settings than it takes."""
        settings = list(self._settings.values())
        attributes = []
        if any(each.is_output for each in settings):
            outputs = {place: each.output for place, each in enumerate(settings) if each.is_output}
            outputs.update(enumerate(self._outputs))
            values = sum(value << place for place, value in outputs.items())
            attributes.append(Attribute(uapi.ATTRIBUTE_VALUES, values, sum(1 << place for place in outputs)))
        for debounce_us, mask in _masks(settings, lambda each: each.debounce_us):
            if debounce_us:
                attributes.append(Attribute(uapi.ATTRIBUTE_DEBOUNCE, debounce_us & 0xFFFF_FFFF, mask))
        (flags, _), *others = [*_masks(settings, lambda each: each.flags)] or [(0, 0)]
        attributes += [Attribute(uapi.ATTRIBUTE_FLAGS, other, mask) for other, mask in others]
        if len(attributes) > uapi.ATTRIBUTES_MAX:
            raise failure(errno.E2BIG)
        return uapi.LineConfig(flags, tuple(attributes))


def checked_value(value: int) -> int:
    if value not in (VALUE_INACTIVE, VALUE_ACTIVE):
        raise failure(errno.EINVAL)
    return value


def checked_offset(offset: int) -> int:
    """Return an offset as C's unsigned int. Raises TypeError, OverflowError or ValueError as the bindings do."""
    if not isinstance(offset, int):
        raise TypeError("an integer is required")
    if offset < 0:
        raise OverflowError("can't convert negative value to unsigned int")
    if offset > 0xFFFF_FFFF:
        raise ValueError("value exceeding UINT_MAX")
    return offset


def _masks(settings: Sequence[LineSettings], key: Callable[[LineSettings], int]) -> list[tuple[int, int]]:
    """Return the different values of `key`, in order, each with the places of the settings that have it."""
    masks: dict[int, int] = {}
    for place, each in enumerate(settings):
        masks[key(each)] = masks.get(key(each), 0) | 1 << place
    return list(masks.items())
