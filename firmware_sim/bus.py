"""A simulated I2C bus: the wire and the devices on it, for smbus2's own `SMBus` (`firmware_sim.libraries.smbus2`).

A transfer can be neither polled nor cancelled: the caller blocks until it is over. That makes I2C hard for an event
loop, so this bus models it. A transfer takes its time and holds the bus meanwhile, an absent address is not
acknowledged, a device may stretch the clock, and a hung bus blocks the caller until the adapter gives up.
"""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from firmware_sim.errors import WiringError
from firmware_sim.i2c_dev import BLOCK_MAX, LENGTH_FIRST, Message
from firmware_sim.i2c_device import ClockHeld, GeneralCall
from firmware_sim.i2c_device import I2cDevice as I2cDevice
from firmware_sim.i2c_device import Nack as Nack
from firmware_sim.i2c_device import RegisterDevice as RegisterDevice
from firmware_sim.libraries.smbus2 import open_on
from firmware_sim.limits import Limits
from firmware_sim.nodes import os_error
from firmware_sim.timeline import Referable, Timeline
from hwloop.core.clock import Disturbed
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.trace_events import I2cMessage, I2cTransfer

if TYPE_CHECKING:
    import smbus2

FIRST_ADDRESS, LAST_ADDRESS = 0x03, 0x77
"""7-bit addresses of devices; the I2C specification reserves the others (UM10204, 3.1.12)."""

_BIT_RATE = Limits(1, 1e9, "bits a second")
_ADAPTER_TIMEOUT = Limits(1e-6, 3600, "seconds")


class Disturbance:
    """A fault on the wire. The bus calls these methods in each transfer; the defaults disturb nothing."""

    def start(self, messages: Sequence[Message]) -> None:
        """Called before a transfer. Raises OSError to fail it before anything is sent."""

    def acknowledges(self, message: Message) -> bool:
        """Return whether the message gets the acknowledgement that its device would give."""
        return True

    def stretch(self, message: Message) -> float:
        """Return the seconds for which the clock is held before the message, beyond the device's own."""
        return 0.0

    def answer(self, message: Message, data: bytes) -> bytes:
        """Return the bytes that the adapter reads where the device sent `data`; as many."""
        return data


class Bus(Referable):
    """One I2C bus.

    Parameters:
        number: the bus's number: 1 stands for /dev/i2c-1.
        timeline: the board's time and lock.
        clock: bits per second.
        adapter_timeout: seconds after which the adapter gives up on a transfer (Linux: 1 s).
        nack_errno: the error for an address without acknowledgement: EREMOTEIO from the Pi's adapters, ENXIO from
            others.

    Attributes:
        transfers, bytes, nacks, timeouts: the traffic on the wire so far, address bytes included.
        disturbances: the faults on the wire, in the order in which they began.
        at_hold: called with whether a device holds the data line, when that changes.
    """

    def __init__(
        self,
        number: int,
        timeline: Timeline,
        *,
        clock: int = 100_000,
        adapter_timeout: float = 1.0,
        nack_errno: int = errno.EREMOTEIO,
    ) -> None:
        self.number = number
        self.timeline = timeline
        self.clock = clock
        self.adapter_timeout = adapter_timeout
        self.nack_errno = nack_errno
        self.transfers: int = 0
        self.bytes: int = 0
        self.nacks: int = 0
        self.timeouts: int = 0
        self.disturbances: list[Disturbance] = []
        self._devices: dict[int, I2cDevice] = {}
        self._lock = threading.Lock()
        self._wire = timeline.clock.condition(self._lock)
        self._in_use = threading.Lock()  # held by the transfer that has the bus
        self._queued = 0  # transfers that wait for it
        self._closed = False
        self.at_hold: list[Callable[[bool], object]] = []
        self._hung_by: dict[object, int | None] = {}
        self._blocked_by: set[object] = set()

    def attach(self, address: int, device: I2cDevice) -> None:
        """Put a device on the bus. Raises `WiringError` for an address that is reserved or in use, or for no device."""
        if not isinstance(device, I2cDevice):
            raise WiringError(
                f"{short_name(device)} is not an I2C device; "
                "derive its class from firmware_sim.bus.RegisterDevice or I2cDevice"
            )
        if not FIRST_ADDRESS <= address <= LAST_ADDRESS:
            raise WiringError(f"I2C address 0x{address:02x} is reserved; devices have 0x03 to 0x77")
        with self.timeline.lock:
            if address in self._devices:
                raise WiringError(
                    f"I2C bus {self.number}: address 0x{address:02x} is used already, "
                    f"by the part {type(self._devices[address]).__name__}"
                )
            self._devices[address] = device
            device.connected()

    @property
    def clock(self) -> int:
        """Bits per second."""
        return self._bit_rate

    @clock.setter
    def clock(self, bit_rate: int) -> None:
        _BIT_RATE.check("clock", bit_rate)
        self._bit_rate = bit_rate

    @property
    def adapter_timeout(self) -> float:
        """Seconds after which the adapter gives up on a transfer."""
        return self._adapter_timeout

    @adapter_timeout.setter
    def adapter_timeout(self, seconds: float) -> None:
        _ADAPTER_TIMEOUT.check("adapter_timeout", seconds)
        self._adapter_timeout = seconds

    @property
    def addresses(self) -> list[int]:
        """The addresses at which there are devices, in order."""
        return sorted(self._devices)

    def __getitem__(self, address: int) -> I2cDevice:
        """Return the device at an address. Raises KeyError, naming those that are there."""
        try:
            return self._devices[address]
        except KeyError:
            there = ", ".join(f"0x{each:02x}" for each in sorted(self._devices)) or "none"
            raise KeyError(f"no device at 0x{address:02x} on I2C bus {self.number}; there are: {there}") from None

    def devices(self) -> list[I2cDevice]:
        """Return its devices, in the order of their addresses."""
        return [self._devices[address] for address in sorted(self._devices)]

    def detach(self, address: int) -> I2cDevice:
        """Remove the device from the bus, as when its wire comes loose. Raises KeyError if there is none."""
        with self.timeline.lock:
            return self._devices.pop(address)

    @property
    def hung(self) -> bool:
        """Whether a device holds the data line."""
        return bool(self._hung_by)

    def hang(self, by: object = None, *, clocks: int | None = None) -> None:
        """Hold the data line low: transfers block until `release()`, or fail after the adapter's timeout.

        The line is free when each holder has released it. `by` names the holder, which lets go by itself after `clocks`
        pulses of the clock line (`firmware_sim.bus_lines`).
        """
        with self._lock:
            self._hung_by[by] = clocks
        self._tell_hold()

    def release(self, by: object = None) -> None:
        """End `hang()`; transfers that still wait continue."""
        with self._lock:
            self._hung_by.pop(by, None)
            self._wire.notify_all()
        self._tell_hold()

    def clocked(self) -> None:
        """Note a pulse on the clock line that is no transfer's."""
        with self._lock:
            left = {by: None if clocks is None else clocks - 1 for by, clocks in self._hung_by.items()}
            self._hung_by = {by: clocks for by, clocks in left.items() if clocks != 0}
            self._wire.notify_all()
        self._tell_hold()

    def _tell_hold(self) -> None:
        for listener in self.at_hold:
            listener(self.hung)

    def block(self, by: object) -> None:
        """Let the adapter hang: transfers block until `unblock(by)`, however long that is."""
        with self._lock:
            self._blocked_by.add(by)

    def unblock(self, by: object) -> None:
        """End `block()`; transfers that wait continue."""
        with self._lock:
            self._blocked_by.discard(by)
            self._wire.notify_all()

    def open(self) -> smbus2.SMBus:
        """Return smbus2's own `SMBus`, opened on this bus. Raises `HardwareError` if smbus2 is not installed."""
        if self._closed:
            raise HardwareError(f"I2C bus {self.number}", "the simulated board is closed", errno=errno.ENODEV)
        try:
            return open_on(self, self.number)
        except ImportError as error:
            raise HardwareError(
                f"I2C bus {self.number}",
                "the package smbus2 is not installed",
                "install it with 'pip install smbus2' or 'apt install python3-smbus2'",
            ) from error

    def close(self) -> None:
        """Remove the bus: transfers fail with ENODEV from now on. Programs keep the descriptors that they opened."""
        with self._lock:
            self._closed = True
            self._hung_by.clear()
            self._blocked_by.clear()
            self._wire.notify_all()

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        """Clock messages over the wire with repeated starts. Return the bytes that were read, one entry for each read.

        Blocks for as long as the wire would take. Raises OSError: `nack_errno`, ETIMEDOUT or ENODEV.
        """
        if not self._in_use.acquire(False):
            self._wait_for_turn()
        try:
            return self._traced(messages) if self.timeline.tracer is not None else self._clocked(messages, [])
        finally:
            self._in_use.release()
            if self._queued:
                with self._lock:
                    self._wire.notify_all()

    def _wait_for_turn(self) -> None:
        """Wait until the transfer that has the bus is over, and take it."""
        with self._lock:
            self._queued += 1  # before the next attempt: the transfer looks at it when it has left the bus
            try:
                self._wire.wait_for(lambda: self._in_use.acquire(False))
            finally:
                self._queued -= 1

    def _traced(self, messages: Sequence[Message]) -> list[bytes]:
        """Make a transfer and record it."""
        when_ns, passed = self.timeline.now_ns(), list[bytes]()
        try:
            answers = self._clocked(messages, passed)
        except Disturbed:  # it will be made again
            raise
        except BaseException as failure:
            code = failure.errno if isinstance(failure, OSError) else None
            if len(passed) < len(messages):
                failed = messages[len(passed)]
                # A device that is there acknowledges its address, and then rejects what it has been sent.
                rejected = code == self.nack_errno and failed.reads is None and failed.address in self._devices
                passed.append(failed.data if rejected else b"")
            self._record(when_ns, messages, passed, errno.errorcode.get(code or 0) or type(failure).__name__)
            raise
        self._record(when_ns, messages, passed, "")
        return answers

    def _record(self, when_ns: int, messages: Sequence[Message], passed: Sequence[bytes], error: str) -> None:
        """Record a transfer, with the bytes of each of its messages that has passed."""
        with self.timeline.lock:
            if self.timeline.tracer is not None:
                end_ns = self.timeline.now_ns()
                done = tuple(
                    I2cMessage(message.address, "sent" if message.reads is None else "received", data)
                    for message, data in zip(messages, passed, strict=False)
                )
                self.timeline.tracer.record(I2cTransfer(when_ns, end_ns, self.number, done, error))

    def _clocked(self, messages: Sequence[Message], passed: list[bytes]) -> list[bytes]:
        """Make a transfer, which has the wire to itself. Add the bytes of each message that has passed to `passed`."""
        timeline, lock = self.timeline, self.timeline.lock
        timeline.clock.foresee(self._duration_ns(messages))
        self.transfers += 1
        if self._blocked_by or self._hung_by:
            self._wait_for_wire()
        if self._closed:
            raise os_error(errno.ENODEV)
        disturbances = tuple(self.disturbances)
        for disturbance in disturbances:
            disturbance.start(messages)
        busy_until = timeline.now_ns()
        answers = []
        for index, message in enumerate(messages):
            address, data, reads = message
            device = self._devices.get(address)
            if device is None and address == 0:
                device = GeneralCall(self.devices())
            seconds = device.stretch if index == 0 and device is not None else 0.0
            if disturbances:
                seconds += sum(disturbance.stretch(message) for disturbance in disturbances)
                if not all(disturbance.acknowledges(message) for disturbance in disturbances):
                    device = None
            if seconds > 0:
                busy_until += self._stretch(seconds)
            try:
                if device is None:
                    raise Nack
                if reads is None:
                    # A write takes effect at its end, a reading is taken at its beginning.
                    busy_until = self._hold(busy_until, 1 + len(data))
                    with lock:
                        timeline.catch_up()
                        device.write(data)
                    passed.append(data)
                else:
                    try:
                        with lock:
                            timeline.catch_up()
                            answer = _read(device, reads)
                    except ClockHeld as held:
                        busy_until += self._stretch(held.args[0])
                        with lock:
                            answer = _read(device, reads)
                    for disturbance in disturbances:
                        answer = disturbance.answer(message, answer)
                    answers.append(answer)
                    passed.append(answer)
                    busy_until = self._hold(busy_until, 1 + len(answer))
            except Nack:
                self.nacks += 1
                if device is None or reads is not None:
                    self._hold(busy_until, 1)
                raise os_error(self.nack_errno) from None
        return answers

    def _wait_for_wire(self) -> None:
        with self._lock:
            self._wire.wait_for(lambda: not self._blocked_by)
            free = self._wire.wait_for(lambda: not self._hung_by, self.adapter_timeout)
        if not free:
            self.timeouts += 1
            raise os_error(errno.ETIMEDOUT)

    def _duration_ns(self, messages: Sequence[Message]) -> int | None:
        """Return how long a transfer will take that has no effect but the time it takes; None for any other."""
        if self._hung_by or self._blocked_by or self.disturbances:
            return None
        devices, bit_rate, total_ns = self._devices, self._bit_rate, 0
        for address, data, reads in messages:
            device = devices.get(address)
            if device is None or not device.passive or device.stretch > 0 or reads == LENGTH_FIRST:
                return None
            total_ns += _bytes_ns(1 + (len(data) if reads is None else reads), bit_rate)
        return total_ns

    def _stretch(self, seconds: float) -> int:
        """Keep the clock low, and return for how many nanoseconds. The adapter gives up as it does with a hung bus."""
        if seconds >= self.adapter_timeout:
            self.timeline.clock.sleep(self.adapter_timeout)
            self.timeouts += 1
            raise os_error(errno.ETIMEDOUT)
        self.timeline.clock.sleep(seconds)
        return round(seconds * 1e9)

    def _hold(self, busy_until: int, count: int) -> int:
        """Wait until `count` more bytes are through, and return when that is (ns)."""
        self.bytes += count
        busy_until += _bytes_ns(count, self._bit_rate)
        self.timeline.clock.wait_until(busy_until)
        return busy_until


@functools.lru_cache
def _bytes_ns(count: int, clock: float) -> int:
    """Return how long `count` bytes take, each with its acknowledge bit."""
    return round(count * 9e9 / clock)


def _read(device: I2cDevice, count: int) -> bytes:
    if count != LENGTH_FIRST:
        return device.read(count).ljust(count, b"\xff")
    length = device.read(1).ljust(1, b"\xff")
    if not 1 <= length[0] <= BLOCK_MAX:
        raise os_error(errno.EPROTO)
    return length + device.read(length[0]).ljust(length[0], b"\xff")
