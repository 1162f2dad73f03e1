"""I2C: a bus that is awaited, and devices on it.

    async with i2c.open(1) as bus:
        chip = bus.device(0x76)
        value = await chip.read_register(0xD0)

A transfer takes 0.09 ms a byte on the wire, and a hung one a second in the kernel, so a thread of its own makes them,
one after the other, and the loop hears of it through an eventfd (`bus_thread`). What this promises:

- while the bus is busy or hung, the loop is not;
- an answer or an error within `timeout` seconds, whatever the wire, the driver and those before in the queue do;
- what is cancelled or out of time before it begins is never done; what is under way ends, its answer is discarded;
- an error says who did not answer, and what to look at.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple

from hwloop.board import Edge, current
from hwloop.core.naming import short_name
from hwloop.core.ordered_sets import WeakOrderedSet
from hwloop.core.statistics import SourceStatistics
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources.channel import WhenFull
from hwloop.sources.containment import run_hooks
from hwloop.sources.i2c.bus_thread import BusThread, Job
from hwloop.sources.i2c.device import Device, whole
from hwloop.sources.i2c.poll import Poll
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.source import Source

if TYPE_CHECKING:
    from smbus2 import SMBus

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FIRST_ADDRESS, LAST_ADDRESS = 0x03, 0x77
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
_BUS_NAME = re.compile(r"(?:/dev/)?(?:i2c-)?(\d+)")


class BusTimeoutError(HardwareError, TimeoutError):
    """No answer in time: from the kernel, which gave up on the wire, or because the caller's time was over."""


class Transaction(NamedTuple):
    """One job that the bus has done: what `async for` over a bus, and its callbacks, get. Times: the board's clock."""

    what: str
    began_ns: int
    ended_ns: int
    error: BaseException | None


# What the kernel says and what it means on this bus: Documentation/i2c/fault-codes.rst.
_FAULTS = {
    errno.EREMOTEIO: ("no answer", "check wiring and address; 'i2cdetect -y {bus}' lists who answers"),
    errno.ENXIO: ("no answer", "check wiring and address; 'i2cdetect -y {bus}' lists who answers"),
    errno.ETIMEDOUT: (
        "the kernel gave up on the transfer",
        "a device holds the bus or stretches its clock; check wiring and pull-ups, then power-cycle the device",
    ),
    errno.EBUSY: ("in use by a kernel driver", "unload its overlay or module ('i2cdetect -y {bus}' shows it as UU)"),
    errno.EAGAIN: ("lost arbitration", "another master or a short circuit drives the lines"),
    errno.EIO: ("the transfer failed", "check wiring, pull-ups and the length of the cable"),
    errno.ENODEV: ("the bus is gone", "was the adapter unplugged or its driver unloaded?"),
    errno.EPROTO: ("the device broke the protocol", "does it speak SMBus block transfers?"),
    errno.EOPNOTSUPP: ("the adapter can't do that", "'i2cdetect -F {bus}' lists what it can"),
}


class Bus(Source[Transaction]):
    """An I2C bus; made by `open()`.

    As a source it yields the `Transaction`s that it has done, to those who ask: a log of the bus.

    Attributes:
        number: 1 stands for /dev/i2c-1.
        timeout: seconds within which every operation has its answer, or else a `BusTimeoutError`.
        suspect: whether a transfer has outlasted its time and none has succeeded since.
    """

    def __init__(
        self,
        number: int,
        *,
        name: str,
        timeout: float,
        priority: Priority,
        queue_size: int,
        when_full: WhenFull,
        backoff: Backoff,
        on_reopen: ReopenHook | None,
    ) -> None:
        super().__init__(name=name, priority=priority, queue_size=queue_size, when_full=when_full, on_reopen=on_reopen)
        self.number = number
        self.timeout: float = _checked_timeout(timeout)
        self.suspect: bool = False
        self._backoff = backoff
        self._told_reopened = 0
        self._thread: BusThread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._polls = WeakOrderedSet()

    # What a user calls.

    def device(self, address: int | str) -> Device:
        """The device at a 7-bit address, 0x03 to 0x77 (ValueError); "0x76" is 0x76. Nothing is sent yet."""
        if isinstance(address, str) and not _HEXADECIMAL.fullmatch(address.strip()):
            # "76" is what i2cdetect prints for 0x76, and what others write for 76.
            raise ValueError(f"an I2C address is a number such as 0x76, or '0x76' as text, not {short_name(address)}")
        number = int(address, 16) if isinstance(address, str) else whole("an I2C address", address)
        if not FIRST_ADDRESS <= number <= LAST_ADDRESS:
            raise ValueError(f"an I2C device has an address from 0x03 to 0x77, not {number:#04x}")
        return Device(self, number)

    async def run(self, function: Callable[[SMBus, *Ts], T], *args: *Ts, timeout: float | None = None) -> T:
        """Call `function(smbus, *args)` on the bus's thread: any blocking driver that accepts a bus object.

        Nothing else is on the bus meanwhile. `timeout` in seconds, counted from now (None: the bus's own; math.inf:
        none). What the function raises is raised here; the kernel's I2C errors become `HardwareError`.
        """
        return await self.perform(short_name(function), function, *args, timeout=timeout)

    async def perform(
        self,
        what: str,
        function: Callable[[SMBus, *Ts], T],
        *args: *Ts,
        timeout: float | None = None,
        one_transfer: bool = False,
    ) -> T:
        """`run()` with a name for the job, which stands for it in errors and in the log.

        `one_transfer` says that the function makes one call of `SMBus` and does nothing else.
        """
        timeout = self.timeout if timeout is None else _checked_timeout(timeout)
        thread = self._usable()
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        job = Job(what, function, args, future, one_transfer)
        thread.submit(job)
        timer = self._loop.call_later(timeout, self._expire, job, timeout) if timeout < math.inf else None
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            thread.withdraw(job)

    def poll(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        every: float | None = None,
        trigger: Source[Edge] | None = None,
        name: str | None = None,
        priority: Priority = Priority.NORMAL,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        rate_limit: RateLimit | float | None = None,
    ) -> Poll[T]:
        """A source of readings: `read()` is called and awaited every so many seconds, or on each edge of `trigger`.

        `read` runs on the loop and may await any number of transfers; for a blocking driver give
        `lambda: bus.run(driver.sample)`. `rate_limit` is the most readings a second, for a trigger that may chatter.
        The poll ends with the bus.

            async with bus.poll(lambda: chip.read_block(0xF7, 8), every=0.1) as readings:
                async for reading in readings: ...
        """
        poll = Poll(
            self,
            read,
            every=every,
            trigger=trigger,
            name=name or f"{self.name} poll",
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
            rate_limit=rate_limit,
        )
        self._polls.add(poll)
        return poll

    async def scan(self) -> list[int]:
        """The addresses that answer, found as i2cdetect does: asked in turn, each with the message that harms least."""
        found = []
        for address in range(0x08, LAST_ADDRESS + 1):
            if await self.perform(f"address {address:#04x}", _probe, address):
                found.append(address)
        return found

    def statistics(self) -> SourceStatistics:
        """The counters so far. `received` counts the jobs done, `lost` the answers that came too late for anybody."""
        reopened = 0 if self._thread is None else self._thread.reopened
        return dataclasses.replace(super().statistics(), reopened=reopened)

    async def __aexit__(self, *exc_info: object) -> None:
        """End the bus. Waits for the transfer under way, for `timeout` at most; `close()` does not."""
        try:
            if self._thread is not None and not self._closed:
                self._give_up_waiting(self._thread)
                if self._thread.under_way is not None:
                    assert self._loop is not None
                    self._ended = self._loop.create_future()
                    await asyncio.wait([self._ended], timeout=self.timeout)
        finally:
            self.close()

    # What Source asks for.

    def connect(self) -> int:
        board = current()
        number = self.number
        self._thread = BusThread(lambda: board.open_bus(number), f"I2C bus {number}", self._backoff, board.clock)
        return self._thread.fileno()

    def receive(self) -> Iterable[Transaction]:
        assert self._thread is not None
        transactions = []
        succeeded = False
        for job in self._thread.collect():
            self._settle(job)
            succeeded = succeeded or job.error is None
            transaction = Transaction(job.what, job.began_ns, job.ended_ns, job.error)
            if self._channel.wanted:
                transactions.append(transaction)
            else:
                self._channel.bypass(transaction)
        if succeeded and self._hook is not None and self._thread.reopened > self._told_reopened:
            self._told_reopened = self._thread.reopened
            assert self._loop is not None
            self._hook.run(self, self._loop, self.report_failure)
        if self._thread.ended and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        return transactions

    def disconnect(self) -> None:
        thread = self._thread
        assert thread is not None
        self._give_up_waiting(thread)
        under_way = thread.under_way
        for job in thread.collect():
            self._settle(job)
        if under_way is not None:
            self._refuse(under_way)
        thread.release()

    # How it runs.

    def _usable(self) -> BusThread:
        if self._closed or (self._thread is not None and self._thread.stopping):
            raise RuntimeError(f"{self.name} is closed")
        if self._thread is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self.name} was opened on another event loop")
        return self._thread

    def _settle(self, job: Job) -> None:
        """Hand the answer to who waits for it."""
        if job.error is None:
            self.suspect = False
        if job.future.done():  # cancelled, or out of time
            self.count_lost(1)
        elif job.error is None:
            job.future.set_result(job.result)
        else:
            self._errors += 1
            job.future.set_exception(self._explained(job.error, job.what))

    def _expire(self, job: Job, timeout: float) -> None:
        """The caller's time is over. A job that has not begun is not to blame; one that has makes the bus suspect."""
        assert self._thread is not None
        if not job.future.done():
            # The loop may have been held up for longer than the bus: what has come in meanwhile counts.
            self.on_readable()
        if job.future.done():
            return
        busy_with = self._thread.under_way
        if self._thread.withdraw(job):
            reason = f"not begun within {timeout:g} s" + (f": {busy_with.what} is under way" if busy_with else "")
            hint = "give timeout= more, or find out why that takes so long"
        else:
            self.suspect = True
            reason = f"no answer within {timeout:g} s"
            hint = "a device may hold the bus: check wiring and pull-ups, power-cycle the device, or give timeout= more"
        self._errors += 1
        job.future.set_exception(
            BusTimeoutError(f"I2C bus {self.number}, {job.what}", reason, hint, errno=errno.ETIMEDOUT)
        )

    def _give_up_waiting(self, thread: BusThread) -> None:
        """Close the polls and refuse all that has not begun."""
        closing = [poll.close for poll in self._polls]
        run_hooks(closing, "a poll could not be closed:", self.report_failure)
        for job in thread.stop():
            self._refuse(job)

    def _refuse(self, job: Job) -> None:
        if not job.future.done():
            error = HardwareError(f"I2C bus {self.number}, {job.what}", "the bus was closed before there was an answer")
            job.future.set_exception(error)

    def _explained(self, error: BaseException, what: str) -> BaseException:
        """`error` in words that help, where it is one of the kernel's I2C errors."""
        if isinstance(error, StopIteration):
            # A future can't carry one (PEP 479).
            explained: Exception = RuntimeError(f"{what} raised StopIteration")
        elif isinstance(error, OSError) and not isinstance(error, HardwareError) and error.errno in _FAULTS:
            reason, hint = _FAULTS[error.errno]
            kind = BusTimeoutError if error.errno == errno.ETIMEDOUT else HardwareError
            explained = kind(
                f"I2C bus {self.number}, {what}",
                f"{reason} ({os.strerror(error.errno)})",
                hint.format(bus=self.number),
                errno=error.errno,
            )
        else:
            return error
        explained.__cause__ = error
        return explained


def open(
    bus: int | str | os.PathLike[str],
    *,
    name: str | None = None,
    timeout: float = 1.0,
    priority: Priority = Priority.NORMAL,
    queue_size: int = 1024,
    when_full: WhenFull = "drop-oldest",
    reopen: Backoff | None = None,
    on_reopen: ReopenHook | None = None,
) -> Bus:
    """I2C bus number `bus` of the board in use, to be opened with `async with`.

    Parameters:
        bus: 1, "1" or "/dev/i2c-1" for the one on the Pi's header.
        name: for messages and statistics; "i2c:1" if not given.
        timeout: seconds within which each operation has an answer or fails, time in the queue included.
        priority: how soon answers are handed on once they are there.
        queue_size, when_full: of the log of transactions, for those who iterate over the bus.
        reopen: pauses between reopenings; the bus is reopened when five jobs in a row have failed. By default 0.1 s,
            doubled each time, up to 30 s.
        on_reopen: a function or coroutine function, called with the bus when it has been reopened and a job has
            succeeded since: to set the devices up again.

    `open()` and `async with` raise `HardwareError` if there is no such bus, or no right to use it.
    """
    number = _bus_number(bus)
    return Bus(
        number,
        name=name or f"i2c:{number}",
        timeout=timeout,
        priority=priority,
        queue_size=queue_size,
        when_full=when_full,
        backoff=reopen or Backoff(),
        on_reopen=on_reopen,
    )


def _bus_number(bus: int | str | os.PathLike[str]) -> int:
    if isinstance(bus, str | os.PathLike):
        found = _BUS_NAME.fullmatch(os.fspath(bus).strip())
        if found is None:
            raise ValueError(f"an I2C bus is a number such as 1, or '/dev/i2c-1', not {short_name(bus)}")
        return int(found[1])
    number = whole("an I2C bus", bus)
    if number < 0:
        raise ValueError(f"an I2C bus has a number from 0, not {number}")
    return number


def _checked_timeout(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"a timeout is a number of seconds, more than 0, not {timeout!r}")
    return timeout


def _probe(smbus: SMBus, address: int) -> bool:
    """On the bus's thread: whether somebody answers, asked as i2cdetect asks.

    A quick write may turn a write-protected EEPROM's address pointer, so those address ranges get a one-byte read;
    so does every address where the adapter has no quick write (the Pi 5's has not).
    """
    try:
        if smbus.funcs & 0x0001_0000 and not (0x30 <= address <= 0x37 or 0x50 <= address <= 0x5F):
            smbus.write_quick(address)
        else:
            smbus.read_byte(address)
    except OSError as error:
        if error.errno in (errno.EREMOTEIO, errno.ENXIO):
            return False
        if error.errno != errno.EBUSY:
            raise
    return True
