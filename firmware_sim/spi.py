"""A simulated SPI bus: the wires, and the devices on them.

SPI has no acknowledgement: a transfer always succeeds, and an absent device, a wrong mode or too high a clock show in
the bytes only. So this bus models what arrives. A device that is not there leaves MISO to its pull. A device in another
mode than the controller, or on a clock that is too fast for it, samples one bit late, and so does the controller. A
device that sends its lowest bit first is read in the wrong order by a controller that does not.
"""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from firmware_sim.errors import WiringError
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.spi_device import SpiDevice
from firmware_sim.timeline import Timeline
from hwloop.core.clock import Disturbed
from hwloop.core.naming import short_name
from hwloop.trace_events import SpiTransfer

FASTEST = 125_000_000
"""Hz: the clock of a device that no program has set, as in the device trees of the Pi."""


class Mode:
    """The bits of a mode, as <linux/spi/spi.h> numbers them."""

    CPHA = 0x01
    CPOL = 0x02
    CS_HIGH = 0x04
    LSB_FIRST = 0x08
    THREE_WIRE = 0x10
    LOOP = 0x20
    NO_CS = 0x40
    READY = 0x80


class Segment(NamedTuple):
    """A part of a message, as the kernel's `struct spi_ioc_transfer` describes one."""

    sent: bytes
    speed: float
    """Hz."""
    bits: int = 8
    """The number of bits of a word."""
    delay: float = 0.0
    """Seconds to wait after it."""
    deselect: bool = False
    """Whether the device is deselected for a moment after it."""


class Disturbance:
    """A fault on the wires. The bus calls these methods in each transfer; the defaults disturb nothing."""

    def start(self, select: int, sent: bytes) -> None:
        """Called before a transfer. Raises OSError to fail it before anything is sent."""

    def connected(self, select: int) -> bool:
        """Return whether the device is connected."""
        return True

    def answer(self, select: int, data: bytes) -> bytes:
        """Return the bytes that the controller reads where the device sent `data`; as many."""
        return data


class SpiBus:
    """One SPI bus.

    Parameters:
        number: the bus's number: 0 stands for /dev/spidev0.0 and /dev/spidev0.1.
        timeline: the board's time and lock.

    Attributes:
        pull: the pull of MISO, which is read where no device drives it.
        transfers, bytes: the traffic so far.
        disturbances: the faults on the wires, in the order in which they began.
        answered_by: what answers transfers instead of the devices: a replay.
    """

    core_clock: float = within(1, 1e10, "Hz", default=FASTEST)

    def __init__(self, number: int, timeline: Timeline) -> None:
        self.number = number
        self.timeline = timeline
        self.core_clock = FASTEST
        self.pull: Literal["up", "down"] = "down"
        self.transfers: int = 0
        self.bytes: int = 0
        self.disturbances: list[Disturbance] = []
        self.answered_by: Callable[[int, Sequence[Segment]], list[bytes]] | None = None
        self._devices: dict[int, SpiDevice] = {}
        self._selected: list[SpiDevice] = []
        self._wire = timeline.clock.condition()
        self._busy = self._closed = False
        self._blocked_by: set[object] = set()

    @property
    def selects(self) -> range:
        """The numbers of its select lines, as the Pi has them: three on bus 1, else two."""
        return range(3 if self.number == 1 else 2)

    def attach(self, select: int, device: SpiDevice) -> None:
        """Put a device on the bus. Raises `WiringError` for a select line that is in use, or for no device."""
        if not isinstance(device, SpiDevice):
            raise WiringError(
                f"{short_name(device)} is not an SPI device; derive its class from firmware_sim.spi_device.SpiDevice"
            )
        if select not in self.selects:
            raise WiringError(f"SPI bus {self.number} has the select lines 0 to {self.selects[-1]}, not {select}")
        with self.timeline.lock:
            if select in self._devices:
                raise WiringError(
                    f"SPI bus {self.number}: select {select} is used already, "
                    f"by the part {type(self._devices[select]).__name__}"
                )
            self._devices[select] = device
            device.connected()

    def attach_to_line(self, line: Line, device: SpiDevice) -> None:
        """Put a device on the bus that a line of the board selects, whichever device a transfer is for.

        A transfer reads the low bits of all devices that are selected, since two that drive MISO make a short circuit.
        """
        line.observe(lambda level, when_ns: self._switch(device, level))
        device.connected()

    def _switch(self, device: SpiDevice, level: int) -> None:
        if bool(level) == device.cs_high and device not in self._selected:
            self._selected.append(device)
            device.begin()
        elif bool(level) != device.cs_high and device in self._selected:
            self._selected.remove(device)
            device.end()

    def detach(self, select: int) -> SpiDevice:
        """Remove the device from the bus, as when its wire comes loose. Raises KeyError if there is none."""
        with self.timeline.lock:
            return self._devices.pop(select)

    def __getitem__(self, select: int) -> SpiDevice:
        """Return the device at a select line. Raises KeyError, naming those that are there."""
        try:
            return self._devices[select]
        except KeyError:
            there = ", ".join(map(str, sorted(self._devices))) or "none"
            message = f"no device at select {select} of SPI bus {self.number}; there are: {there}"
            raise KeyError(message) from None

    @property
    def used(self) -> list[int]:
        """The numbers of the select lines with a device."""
        return sorted(self._devices)

    def devices(self) -> list[SpiDevice]:
        """Return its devices, in the order of their select lines."""
        return [self._devices[select] for select in sorted(self._devices)]

    def block(self, by: object) -> None:
        """Let the controller hang: transfers block until `unblock(by)`, however long that is."""
        with self._wire:
            self._blocked_by.add(by)

    def unblock(self, by: object) -> None:
        """End `block()`; transfers that wait continue."""
        with self._wire:
            self._blocked_by.discard(by)
            self._wire.notify_all()

    def close(self) -> None:
        """Remove the bus: transfers fail with ESHUTDOWN from now on."""
        with self._wire:
            self._closed = True
            self._blocked_by.clear()
            self._wire.notify_all()

    def transfer(self, select: int, segments: Sequence[Segment], mode: int = 0) -> list[bytes]:
        """Make a message of several segments, the device selected all the while. Return what was read in each.

        Blocks for as long as the wires would take. Raises OSError: ESHUTDOWN, or the error of a fault.
        """
        with self._wire:
            if self._busy:
                self._wire.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            if self.answered_by is not None:
                return self.answered_by(select, segments)
            return [answer for selection in selections(segments) for answer in self._selection(select, selection, mode)]
        finally:
            with self._wire:
                self._busy = False
                self._wire.notify_all()

    def _selection(self, select: int, segments: Sequence[Segment], mode: int) -> list[bytes]:
        """Make the segments for which the device stays selected, and record them."""
        when_ns, error, answers = self.timeline.now_ns(), "", list[bytes]()
        try:
            self._clocked(select, segments, mode, answers)
        except Disturbed:  # it will be made again
            error = "Disturbed"
            raise
        except BaseException as failure:
            code = failure.errno if isinstance(failure, OSError) else None
            error = errno.errorcode.get(code or 0) or type(failure).__name__
            raise
        finally:
            if error != "Disturbed" and self.timeline.tracer is not None:
                received = b"".join(answers)
                sent = b"".join(segment.sent for segment in segments)[: len(received) or None]
                with self.timeline.lock:
                    event = SpiTransfer(when_ns, self.timeline.now_ns(), self.number, select, sent, received, error)
                    self.timeline.tracer.record(event)
        return answers

    def _clocked(self, select: int, segments: Sequence[Segment], mode: int, answers: list[bytes]) -> None:
        """Make the segments of one selection, which have the wires to themselves. Add what was read to `answers`."""
        device = self._devices.get(select)
        quiet = not self.disturbances and not self._blocked_by
        took = sum(self._seconds(segment) for segment in segments)
        foreseen = quiet and all(each.passive for each in (*self._selected, *filter(None, [device])))
        self.timeline.clock.foresee(round(took * 1e9) if foreseen else None)
        self.transfers += 1
        if self._blocked_by:
            with self._wire:
                self._wire.wait_for(lambda: not self._blocked_by)
        if self._closed:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        disturbances = tuple(self.disturbances)
        for disturbance in disturbances:
            disturbance.start(select, b"".join(segment.sent for segment in segments))
        # A device with the other polarity is selected whenever it is not meant.
        if device is not None and (
            mode & Mode.NO_CS
            or bool(mode & Mode.CS_HIGH) != device.cs_high
            or not all(disturbance.connected(select) for disturbance in disturbances)
        ):
            device = None
        busy_until = self.timeline.now_ns()
        with self.timeline.lock:
            self.timeline.catch_up()
            if device is not None:
                device.begin()
        try:
            for segment in segments:
                self.bytes += len(segment.sent)
                with self.timeline.lock:
                    self.timeline.catch_up()
                    answer = segment.sent if mode & Mode.LOOP else self._read(device, segment, mode)
                for disturbance in disturbances:
                    answer = disturbance.answer(select, answer)
                busy_until += round(self._seconds(segment) * 1e9)
                self.timeline.clock.wait_until(busy_until)
                answers.append(answer)
        finally:
            if device is not None:
                with self.timeline.lock:
                    self.timeline.catch_up()
                    device.end()

    def _read(self, device: SpiDevice | None, segment: Segment, mode: int) -> bytes:
        """Return what is read while a segment is sent. The lock is held."""
        devices = [*self._selected, *filter(None, [device])]
        if not devices:
            return (b"\xff" if self.pull == "up" else b"\x00") * len(segment.sent)
        answers = [self._exchange(each, segment, mode) for each in devices]
        if len(answers) == 1:
            return answers[0]
        low = functools.reduce(operator.and_, map(int.from_bytes, answers))
        return low.to_bytes(len(segment.sent))

    def _exchange(self, device: SpiDevice, segment: Segment, mode: int) -> bytes:
        """Return what is read while a segment is sent to a device. The lock is held."""
        count = len(segment.sent)
        late = (mode & 0x03) not in device.modes or segment.speed > device.max_speed
        turned = bool(mode & Mode.LSB_FIRST) != device.lsb_first
        sent = _turned(segment.sent) if turned else segment.sent
        answer = device.transfer(_late(sent) if late else sent)
        if len(answer) != count:
            raise ValueError(f"{short_name(device)} returned {len(answer)} bytes for {count}; it must return as many")
        answer = _late(answer) if late else answer
        return _turned(answer) if turned else answer

    def _seconds(self, segment: Segment) -> float:
        return len(segment.sent) * 8 / min(segment.speed, self.core_clock) + segment.delay


def selections(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Yield the segments that are made without deselecting the device between them."""
    ends = [index for index, segment in enumerate(segments, 1) if segment.deselect and index < len(segments)]
    for start, end in itertools.pairwise([0, *ends, len(segments)]):
        yield list(segments[start:end])


def _late(data: bytes) -> bytes:
    """Return the bits of `data`, each one place later, because they were sampled before they had changed."""
    return (int.from_bytes(data, "big") >> 1).to_bytes(len(data), "big")


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _turned(data: bytes) -> bytes:
    """Return each byte with its lowest bit first."""
    return data.translate(_REVERSED)
