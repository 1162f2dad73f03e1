"""/dev/input/eventN: a simulated input device, whose events a program reads as `struct input_event`.

The events pass through a pipe, so programs wait for them and read them as they do from the kernel. The ioctls are those
of <linux/input.h> that say what the device is; python-evdev makes them in C, and is led here
(`firmware_sim.libraries.evdev`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from firmware_sim.nodes import Handle, Node, os_error
from firmware_sim.timeline import Timeline

EV_SYN, EV_KEY = 0, 1
_SYN_DROPPED = 3
_EVENT = struct.Struct("@llHHi")
_MAJOR, _FIRST_MINOR = 13, 64  # of the device numbers
_VERSION = 0x010001
_CLOCK_ID = 0x4004_45A0  # EVIOCSCLOCKID
_GRAB = 0x4004_4590


class Identity(NamedTuple):
    """The answer to EVIOCGID."""

    bus: int = 0x19  # BUS_HOST
    vendor: int = 1
    product: int = 1
    version: int = 0x0100


class InputDevice(Node):
    """The node of an input device.

    Parameters:
        timeline: the board's time and lock.
        number: N in its name.
        name: the name of the device.
        codes: what it can send: codes by the type of event.

    Attributes:
        pressed: the codes of the keys that are down.
    """

    def __init__(self, timeline: Timeline, number: int, name: str, codes: Mapping[int, list[int]]) -> None:
        self.timeline = timeline
        self.device: int = os.makedev(_MAJOR, _FIRST_MINOR + number)
        self.name = name
        self.identity: Identity = Identity()
        self.codes: dict[int, list[int]] = {kind: sorted(each) for kind, each in codes.items()}
        self.pressed: set[int] = set()
        self._files: list[InputHandle] = []

    def open(self, flags: int) -> InputHandle:
        with self.timeline.lock:
            handle = InputHandle(self, flags, self._files.remove)
            self._files.append(handle)
            return handle

    def emit(self, kind: int, code: int, value: int) -> None:
        """Send an event, and the one that ends a report."""
        with self.timeline.lock:
            if kind == EV_KEY:
                (self.pressed.discard if value == 0 else self.pressed.add)(code)
            grabbing = self.grabbed_by()
            for handle in self._files if grabbing is None else [grabbing]:
                handle.send((kind, code, value), (EV_SYN, 0, 0))

    def grabbed_by(self) -> InputHandle | None:
        """Return the file that gets the events alone; None if all do. The timeline's lock is held."""
        return next((each for each in self._files if each.grabbed), None)


class InputHandle(Handle):
    """One open file of an input device."""

    native = True

    def __init__(self, node: InputDevice, flags: int, forget: Any) -> None:
        self.node = node
        self.grabbed: bool = False
        self._forget = forget
        self._monotonic = False
        self._lost = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, not flags & os.O_NONBLOCK)
        node.timeline.clock.claim(self._write)

    def descriptor(self) -> int:
        return self._read

    def send(self, *events: tuple[int, int, int]) -> None:
        """Write events; where the program does not read, they are lost, and the next one it gets says so."""
        when_ns = self.node.timeline.moment_ns()
        if not self._monotonic:
            when_ns += time.time_ns() - self.node.timeline.now_ns()
        stamp = when_ns // 1_000_000_000, when_ns % 1_000_000_000 // 1000
        lost = [(EV_SYN, _SYN_DROPPED, 0)] if self._lost else []
        try:
            os.write(self._write, b"".join(_EVENT.pack(*stamp, *event) for event in [*lost, *events]))
            self._lost = False
        except BlockingIOError:
            self._lost = True
        except BrokenPipeError:
            pass  # closed behind our back

    def ioctl(self, request: int, argument: Any) -> int:
        if request == _CLOCK_ID:
            (clock,) = struct.unpack_from("I", argument)
            if clock not in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC):
                raise os_error(errno.EINVAL)
            self._monotonic = clock == time.CLOCK_MONOTONIC
            return 0
        if request == _GRAB:
            self.grab(bool(argument))
            return 0
        size, number = request >> 16 & 0x3FFF, request & 0xFF
        if request >> 30 != 2 or request >> 8 & 0xFF != ord("E"):
            raise os_error(errno.ENOTTY)
        answer = self._answer(number)
        if answer is None:
            raise os_error(errno.EINVAL)
        answer = answer[:size]
        ctypes.memmove((ctypes.c_char * len(answer)).from_buffer(argument), answer, len(answer))
        return len(answer)

    def _answer(self, number: int) -> bytes | None:
        """Return the answer to a reading ioctl by its number; None if the device has no such property."""
        node = self.node
        if number == 0x01:  # EVIOCGVERSION
            return _VERSION.to_bytes(4, "little")
        if number == 0x02:  # EVIOCGID
            return struct.pack("4H", *node.identity)
        if number == 0x06:  # EVIOCGNAME
            return node.name.encode() + b"\0"
        if number in (0x07, 0x08):  # EVIOCGPHYS, EVIOCGUNIQ
            return b"\0"
        if number == 0x18:  # EVIOCGKEY
            return _bits(node.pressed)
        if number == 0x20:  # EVIOCGBIT(0)
            return _bits({EV_SYN, *node.codes})
        if 0x20 < number < 0x40:
            return _bits(node.codes.get(number - 0x20, ()))
        return b"\0" if number in (0x09, 0x19, 0x1A, 0x1B) else None

    def grab(self, wanted: bool) -> None:
        """Get the events alone, or share them again. Raises OSError (EBUSY) if another file has them."""
        with self.node.timeline.lock:
            if wanted and self.node.grabbed_by() not in (None, self):
                raise os_error(errno.EBUSY)
            self.grabbed = wanted

    def close(self) -> None:
        with self.node.timeline.lock:
            self._forget(self)
            self.node.timeline.clock.disclaim(self._write)
            os.close(self._write)


def _bits(numbers: Iterable[int]) -> bytes:
    value = sum(1 << number for number in numbers)
    return value.to_bytes(96, "little")  # KEY_MAX is 0x2ff
