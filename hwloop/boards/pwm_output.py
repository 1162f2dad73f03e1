"""A line that the kernel's PWM drives, through its files in sysfs: pulses without jitter, which cost no processor.

A PWM and the GPIO chip share the output stage of a pin, and claiming the line switches the pin to the chip. So an
output on such a line never claims it: the PWM is disabled for low, and has a duty cycle of 100 % for high. Unlike a
claimed line, a PWM has no owner: it goes on after its program was killed, and the next program takes it over.

Source: Documentation/driver-api/pwm.rst of the kernel.
"""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from hwloop.errors import HardwareError
from hwloop.lines import OutputLine
from hwloop.requests import OutputRequest

_FIRST_PERIOD_NS = 10_000_000
_SETTLE, _PAUSE = 2.0, 0.01
"""Seconds for which udev may take to give the files of a new channel to their group, and those between two looks."""


class PwmFiles(ABC):
    """The files of sysfs. Methods raise OSError.

    Attributes:
        open: the directories of the channels that this program has open.
    """

    def __init__(self) -> None:
        self.open: set[str] = set()

    @abstractmethod
    def read(self, path: str) -> str:
        """Return the text of a file."""

    @abstractmethod
    def write(self, path: str, text: str) -> None:
        """Write a text to a file."""


class SysfsPwmFiles(PwmFiles):
    """The files of this machine."""

    def read(self, path: str) -> str:
        with open(path, encoding="ascii") as file:
            return file.read()

    def write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)


class PwmChannel(NamedTuple):
    """A channel of the kernel's PWM."""

    chip: str
    """The directory of its chip: "/sys/class/pwm/pwmchip0"."""
    number: int


class PwmOutput(OutputLine):
    """An output on a line that a PWM drives. Raises `HardwareError` where its files can't be used."""

    def __init__(
        self,
        files: PwmFiles,
        channel: PwmChannel,
        request: OutputRequest,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files = files
        self._channel = channel
        self._line = request.line
        self._low = request.active_low
        self._directory = f"{channel.chip}/pwm{channel.number}"
        self._process = os.getpid()
        self._closed = self._pulses = False
        if request.keep:
            raise HardwareError(
                f"line {self._line}",
                "a PWM drives it, whose level outlives the program without being kept",
                "open it without keep=True, with initial=None",
            )
        if self._directory in files.open:
            raise HardwareError(f"line {self._line}", "this program has it open already", errno=errno.EBUSY)
        self._export(sleep)
        self._period_ns = self._number("period")
        self._duty_ns = self._number("duty_cycle")
        if not self._period_ns:
            self._write("period", _FIRST_PERIOD_NS)
            self._period_ns = _FIRST_PERIOD_NS
        self._enabled = bool(self._number("enable"))
        kept = int(self._enabled and 2 * self._duty_ns >= self._period_ns) ^ self._low
        self._value: int = kept if request.initial is None else request.initial
        if not (request.initial is None and self._duty_ns in (0, self._period_ns)):  # what is steady goes on
            self.set(self._value)
        files.open.add(self._directory)

    @property
    def forked(self) -> bool:
        return self._process != os.getpid()

    def set(self, value: int) -> None:
        # A new duty cycle counts from the next period on. Enabling it begins one, and disabling it ends one, low.
        self._check_open()
        self._enable(False)
        if value ^ self._low:
            self._set_duty(self._period_ns)
            self._enable(True)
        self._pulses, self._value = False, value

    def get(self) -> int:
        """Return the level that was set last; while it sends pulses, 1. The PWM can't read its pin."""
        self._check_open()
        return self._value

    def pwm(self, frequency: float, duty: float) -> None:
        period_ns = round(1e9 / frequency)
        duty_ns = round(period_ns * (1 - duty if self._low else duty))
        self._check_open()
        # At no moment may the duty cycle be longer than the period.
        if period_ns < self._duty_ns:
            self._set_duty(duty_ns)
        if period_ns != self._period_ns:
            self._write("period", period_ns)
            self._period_ns = period_ns
        self._set_duty(duty_ns)
        self._enable(True)
        self._pulses, self._value = True, 1 if duty else 0

    def close(self) -> None:
        if self._closed:
            return
        try:
            if self._pulses and not self.forked:
                self.set(0)
        finally:
            self._closed = True
            if not self.forked:
                self._files.open.discard(self._directory)

    def _export(self, sleep: Callable[[float], None]) -> None:
        try:
            self._files.write(f"{self._channel.chip}/export", str(self._channel.number))
        except OSError as error:
            if error.errno != errno.EBUSY:  # a program before this one has exported it
                raise self._failure(error) from error
        for left in range(round(_SETTLE / _PAUSE), -1, -1):
            try:
                self._files.write(f"{self._directory}/enable", self._files.read(f"{self._directory}/enable").strip())
                return
            except OSError as error:
                if error.errno == errno.EINVAL:  # enabled without a period: it is ours to set
                    return
                if not left or error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT):
                    raise self._failure(error) from error
            sleep(_PAUSE)

    def _enable(self, enabled: bool) -> None:
        if enabled != self._enabled:
            self._write("enable", int(enabled))
            self._enabled = enabled

    def _set_duty(self, duty_ns: int) -> None:
        if duty_ns != self._duty_ns:
            self._write("duty_cycle", duty_ns)
            self._duty_ns = duty_ns

    def _number(self, name: str) -> int:
        try:
            return int(self._files.read(f"{self._directory}/{name}"))
        except OSError as error:
            raise self._failure(error) from error

    def _write(self, name: str, value: int) -> None:
        try:
            self._files.write(f"{self._directory}/{name}", str(value))
        except OSError as error:
            raise self._failure(error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise HardwareError(f"line {self._line}", "it has been closed")

    def _failure(self, error: OSError) -> HardwareError:
        hint = ""
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "add the user to group gpio, to which Raspberry Pi OS gives these files"
        elif error.errno == errno.EINVAL:
            hint = "the PWM does not have this period; choose another frequency"
        elif error.errno == errno.ENODEV:
            hint = "is its overlay loaded?"
        reason = (error.strerror or str(error)).lower()
        return HardwareError(f"line {self._line}, PWM {self._directory}", reason, hint, errno=error.errno)
