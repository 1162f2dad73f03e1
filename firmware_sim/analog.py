"""Analog voltages: the inputs of a simulated ADC, which tests, board files and other parts set.

    board["adc"].inputs[0] = 1.65                                   # volts
    board["adc"].inputs[0] = lambda seconds: 1.65 + math.sin(seconds)   # volts, seconds since the board began

A part with a voltage as its output (a potentiometer, a joystick) sets one input of an ADC. An ADC part has a field
`inputs: list[Voltage] = inputs(4, -0.3, 5.3)`, and calls `volts_at(self.inputs, channel, seconds)` when it converts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, SupportsIndex, TypeAlias

from firmware_sim.limits import Limited, Limits
from hwloop.core.clock import Disturbed
from hwloop.core.naming import error_text, short_name

logger: logging.Logger = logging.getLogger("firmware_sim")

Voltage: TypeAlias = float | Callable[[float], float]
"""Volts, or a function that returns them for the seconds since the board began."""


class Adc(Protocol):
    """A part with analog inputs."""

    inputs: list[Voltage]


class Inputs(list[Voltage]):
    """The voltages on an ADC's inputs, one for each, within the limits that its pins stand.

    A new voltage counts from now on: conversions that ended before it was set keep their value.
    """

    def __init__(self, voltages: Iterable[Voltage], limits: Limits, settle: Callable[[], object]) -> None:
        super().__init__(voltages)
        self._limits = limits
        self._settle = settle
        self._reported = set[int]()

    def __setitem__(self, channel: Any, voltage: Any) -> None:
        if not isinstance(channel, SupportsIndex) or not -len(self) <= channel.__index__() < len(self):
            raise IndexError(f"there is no input {channel!r}; the inputs are 0 to {len(self) - 1}")
        channel = channel.__index__() % len(self)
        if not callable(voltage):
            self._limits.check(f"inputs[{channel}]", voltage)
        self._settle()
        self._reported.discard(channel)
        super().__setitem__(channel, voltage)

    def volts(self, channel: int, seconds: float) -> float:
        """Return the voltage of an input at a time, as `volts_at` does."""
        voltage = self[channel]
        if not callable(voltage):
            return voltage
        try:
            volts = voltage(seconds)
            self._limits.check(f"inputs[{channel}]", volts)
        except (SystemExit, KeyboardInterrupt, Disturbed):
            raise
        except BaseException as error:
            if channel not in self._reported:
                self._reported.add(channel)
                logger.error(
                    "the function %s of analog input %d failed: %s; the input has 0 V until it succeeds",
                    *(short_name(voltage), channel, error_text(error)),
                )
            return 0.0
        return volts


def volts_at(inputs: list[Voltage], channel: int, seconds: float) -> float:
    """Return the voltage of an ADC's input at a time in seconds since the board began.

    A function that fails, or returns no voltage within the limits, is reported once and gives 0 V.
    """
    assert isinstance(inputs, Inputs)  # the field has made it one
    return inputs.volts(channel, seconds)


class _InputsField(Limited):
    """The field `inputs` of an ADC part: a list of voltages, shorter than the part's inputs if the rest have 0 V."""

    def __init__(self, count: int, limits: Limits) -> None:
        super().__init__(limits, None)
        self.default = [0.0] * count

    def __set__(self, instance: Any, value: Any) -> None:
        voltages, count = self.default if value is self else value, len(self.default)
        if not isinstance(voltages, list) or len(voltages) > count:
            raise ValueError(f"inputs must be a list of {count} voltages or fewer, not {value!r}")
        inputs = Inputs(self.default, self.limits, instance.catch_up)
        for channel, voltage in enumerate(voltages):
            inputs[channel] = voltage
        vars(instance)["inputs"] = inputs


def inputs(count: int, low: float, high: float) -> Any:
    """Return the default of an ADC part's field `inputs`: `count` voltages from `low` to `high`, 0 V at first.

    The part has a method `catch_up()`, which ends the conversions that are due by now.
    """
    return _InputsField(count, Limits(low, high, "volts"))
