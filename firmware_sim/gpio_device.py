"""/dev/gpiochipN: the kernel's character device of a GPIO chip, over a simulated chip.

It answers the ioctls of <linux/gpio.h> as drivers/gpio/gpiolib-cdev.c does, with the same checks in the same order,
because that decides which error a wrong call gets. Whoever opens it shares the lines with everybody else on the board:
a line that the simulated lgpio holds is busy here, and the other way round.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from typing import Any

from firmware_sim import gpio_uapi as uapi
from firmware_sim.descriptors import descriptors
from firmware_sim.event_queue import EventQueue
from firmware_sim.gpio_lines import RequestedLines, kernel_flags
from firmware_sim.gpio_uapi import Flag
from firmware_sim.nodes import Handle, Node, os_error
from firmware_sim.pins import Chip, Line, Use
from firmware_sim.reader_rest import ReaderRest
from hwloop.core.clock import REAL

_MAJOR = 254  # of the device numbers of gpiochips on a Raspberry Pi; the kernel assigns it dynamically
_INFO_EVENTS = 32
"""Changes of lines that wait for the reader of a chip; later ones are lost (gpio_chardev_data.events)."""
_CHANGES: dict[Use, int] = {"requested": 1, "released": 2, "reconfigured": 3}
"""enum gpio_v2_line_changed_type."""
_OFFSET = struct.Struct("=I")


class GpioDevice(Node):
    """The character device of a chip.

    Parameters:
        chip: its lines.
        number: N in its name.

    Attributes:
        rest: the faults during which no program reads the events of its lines.
    """

    def __init__(self, chip: Chip, number: int) -> None:
        self.chip = chip
        self.rest: ReaderRest = ReaderRest()
        self.name: str = f"gpiochip{number}"
        self.path: str = f"/dev/{self.name}"
        self.device: int = os.makedev(_MAJOR, number)
        self._files: list[ChipHandle] = []
        self._requests: list[RequestHandle] = []
        self._stamped_by_day: set[int] = set()  # lines with the flag REALTIME, which the kernel leaves to a free line
        self._process = os.getpid()
        self._epoch_ns = time.time_ns() - chip.timeline.now_ns()  # which stays in virtual time
        chip.at_use.append(self._note_use)
        chip.at_removal.append(self._vanish)

    def open(self, flags: int) -> ChipHandle:
        self.check_process()
        with self.chip.timeline.lock:
            if not self.chip.present:
                raise os_error(errno.ENOENT)
            self.close_abandoned()
            opened = ChipHandle(self)
            self._files.append(opened)
            return opened

    def check_process(self) -> None:
        """Raise OSError in a forked child: the board runs in the process that made it."""
        if self.forked:
            message = f"{self.path} belongs to the simulated board of the process from which this one was forked"
            raise OSError(errno.ENODEV, message)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that made the board."""
        return os.getpid() != self._process

    def info(self, offset: int) -> uapi.LineInfo:
        """Return the kernel's description of a line. The lock is held."""
        line = self.chip.line(offset)
        line.find_kept()
        flags = kernel_flags(line.flags) | (Flag.INPUT if line.output is None else Flag.OUTPUT)
        if offset in self._stamped_by_day:
            flags |= Flag.REALTIME
        if line.consumer is None:
            return uapi.LineInfo(offset, line.name, "", flags)
        debounce_us = next((each.lines.debounce_us(line) for each in self._requests if each.lines.holds(line)), 0)
        return uapi.LineInfo(offset, line.name, line.consumer, flags | Flag.USED, debounce_us)

    def request(self, wanted: uapi.LineRequest) -> RequestHandle:
        """Grant lines. Raises OSError. The lock is held."""
        granted = RequestHandle(self, RequestedLines(self.chip, wanted, self._date_ns, self.rest))
        self._requests.append(granted)  # before the lines are claimed, whose notices describe them
        try:
            granted.lines.claim()
        except BaseException:
            self._requests.remove(granted)
            granted.lines.free()
            os.close(granted.descriptor())
            raise
        return granted

    def _date_ns(self, when_ns: int) -> int:
        """Return a time of the board's clock as the time of day (CLOCK_REALTIME)."""
        timeline = self.chip.timeline
        if timeline.clock is REAL:
            self._epoch_ns = time.time_ns() - timeline.now_ns()
        return when_ns + self._epoch_ns

    def close_abandoned(self) -> None:
        """Close the open files that no process has open any more, and free their lines. The lock is held."""
        self._files = [each for each in self._files if not each.events.abandoned()]
        for requested in [each for each in self._requests if each.events.abandoned()]:
            self._requests.remove(requested)
            requested.lines.free()

    def close(self) -> None:
        """End the device: whatever is open of it finds the end. Harmless when repeated."""
        with self.chip.timeline.lock:
            self._vanish()

    def _note_use(self, line: Line, use: Use) -> None:
        if use != "released":
            realtime = kernel_flags(line.flags) & Flag.REALTIME
            (self._stamped_by_day.add if realtime else self._stamped_by_day.discard)(line.number)
        for file in tuple(self._files):
            if line.number in file.watched:
                file.report(self.info(line.number), use)

    def _vanish(self) -> None:
        for file in self._files:
            file.vanish()
        self._files = []
        for requested in self._requests:
            requested.lines.free()
        self._requests = []


class ChipHandle(Handle):
    """An open /dev/gpiochipN, from which changes of watched lines are read.

    Attributes:
        events: the queue of changes (struct gpio_v2_line_info_changed).
        watched: the offsets of watched lines.
    """

    native = True

    def __init__(self, device: GpioDevice) -> None:
        self.watched: set[int] = set()
        self._device = device
        self._vanished = False
        self._timeline = device.chip.timeline
        self.events: EventQueue = EventQueue(self._timeline.clock, uapi.LINE_INFO_CHANGED.size, _INFO_EVENTS)

    def descriptor(self) -> int:
        return self.events.fd

    def ioctl(self, request: int, argument: Any) -> int:
        device = self._device
        with self._timeline.lock:
            if self._vanished:
                raise os_error(errno.ENODEV)
            device.check_process()
            self._timeline.catch_up()
            device.close_abandoned()
            if request == uapi.GET_CHIP_INFO:
                _answer(argument, uapi.chip_info(device.name, device.chip.label, len(device.chip)))
            elif request in (uapi.GET_LINE_INFO, uapi.WATCH_LINE_INFO):
                offset = self._offset(uapi.wanted_line(_read(argument, uapi.LINE_INFO)))
                if request == uapi.WATCH_LINE_INFO:
                    if offset in self.watched:
                        raise os_error(errno.EBUSY)
                    self.watched.add(offset)
                _answer(argument, device.info(offset).pack())
            elif request == uapi.UNWATCH_LINE_INFO:
                offset = self._offset(_OFFSET.unpack(_read(argument, _OFFSET))[0])
                if offset not in self.watched:
                    raise os_error(errno.EBUSY)
                self.watched.discard(offset)
            elif request == uapi.GET_LINE:
                self._get_line(argument)
            else:
                raise os_error(errno.EINVAL)
        return 0

    def close(self) -> None:
        self.events.closed()

    def poll(self, seconds: float | None) -> bool:
        """Wait in virtual time until there is something to read; return False on a timeout."""
        self._timeline.count_read()
        return self.events.wait(seconds)

    def report(self, info: uapi.LineInfo, use: Use) -> None:
        """Queue a change of a line. The lock is held."""
        if not self.events.full:
            now_ns = self._timeline.moment_ns()
            self.events.put(uapi.LINE_INFO_CHANGED.pack(info.pack(), now_ns, _CHANGES[use]))

    def vanish(self) -> None:
        """Find the end: the chip is gone. The lock is held."""
        self._vanished = True
        self.events.end()

    def _get_line(self, argument: Any) -> None:
        data = _read(argument, uapi.LINE_REQUEST)
        wanted = uapi.LineRequest.unpack(data)
        if wanted is None:
            raise os_error(errno.EINVAL)
        _answer(argument, uapi.granted(data, descriptors.add(self._device.request(wanted))))

    def _offset(self, wanted: int | None) -> int:
        if wanted is None or wanted >= len(self._device.chip):
            raise os_error(errno.EINVAL)
        return wanted


class RequestHandle(Handle):
    """An open line request, from which its edges are read.

    Attributes:
        lines: its lines.
        events: the queue of their edges.
    """

    native = True

    def __init__(self, device: GpioDevice, lines: RequestedLines) -> None:
        self.lines = lines
        self.events: EventQueue = lines.events
        self._device = device
        self._timeline = device.chip.timeline

    def descriptor(self) -> int:
        return self.events.fd

    def ioctl(self, request: int, argument: Any) -> int:
        self._device.check_process()
        if request == uapi.GET_VALUES:
            self._timeline.count_read()
        with self._timeline.lock:
            self._timeline.catch_up()
            if request == uapi.GET_VALUES:
                _, mask = uapi.LINE_VALUES.unpack(_read(argument, uapi.LINE_VALUES))
                _answer(argument, uapi.LINE_VALUES.pack(self.lines.get_values(mask), mask))
            elif request == uapi.SET_VALUES:
                self.lines.set_values(*uapi.LINE_VALUES.unpack(_read(argument, uapi.LINE_VALUES)))
            elif request == uapi.SET_CONFIG:
                self.lines.configure(uapi.LineConfig.unpack(_read(argument, uapi.LINE_CONFIG)))
            else:
                raise os_error(errno.EINVAL)
        return 0

    def poll(self, seconds: float | None) -> bool:
        """Wait in virtual time until there is something to read; return False on a timeout."""
        self._timeline.count_read()
        return self.events.wait(seconds)

    def close(self) -> None:
        self.events.closed()
        if not self._device.forked:
            with self._timeline.lock:
                self._device.close_abandoned()


def _read(argument: Any, form: struct.Struct) -> bytes:
    """Return the struct that a program has passed to an ioctl. Raises OSError where it is a number or too short."""
    if isinstance(argument, int) or len(argument) < form.size:
        raise os_error(errno.EFAULT)
    return bytes(argument[: form.size])


def _answer(argument: Any, data: bytes) -> None:
    if isinstance(argument, int) or len(argument) < len(data):
        raise os_error(errno.EFAULT)
    argument[: len(data)] = data
