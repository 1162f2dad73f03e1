"""I2C: a bus that is awaited, and devices on it.

    async with i2c.open(1) as bus:
        chip = bus.device(0x76)
        value = await chip.read_register(0xD0)

A transfer takes 0.09 ms a byte on the wire, and a hung one a second in the kernel, so a separate thread makes them, one
after the other, and an eventfd wakes the loop when answers are there (`bus_thread`). The bus guarantees:

- while it is busy or hung, the loop is not;
- an answer or an error within `timeout` seconds, whatever the wire, the driver and earlier jobs in the queue do;
- a job that is cancelled or times out before it begins is never done; one that is under way ends, and its answer is
  discarded;
- an error names the device that did not answer, and says what to check (`faults`).
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

from hwloop.board import Edge, checked_call, current
from hwloop.core.naming import short_name
from hwloop.core.ordered_sets import WeakOrderedSet
from hwloop.core.statistics import SourceStatistics
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources.channel import WhenFull
from hwloop.sources.containment import run_hooks
from hwloop.sources.i2c.bus_thread import BusJob, BusThread
from hwloop.sources.i2c.device import Device, whole
from hwloop.sources.i2c.faults import BusTimeoutError, explained
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


class Transaction(NamedTuple):
    """One job that the bus has done, as a bus yields them. Times in nanoseconds of the board's clock."""

    what: str
    began_ns: int
    ended_ns: int
    error: BaseException | None


class Bus(Source[Transaction]):
    """An I2C bus of the board in use. `hwloop.i2c.open` is this class.

    As a source it yields the `Transaction`s that it has done, to consumers that ask for them: a log of the bus.

    Parameters:
        bus: 1, "1" or "/dev/i2c-1" for the one on the header of a Raspberry Pi.
        timeout: seconds within which each operation has its answer or fails with a `BusTimeoutError`, time in the queue
            included.
        reopen: pauses between reopenings; the bus is reopened when five jobs in a row have failed. None: 0.1 s, doubled
            each time, up to 30 s.
        on_reopen: a function or coroutine function, called with the bus when it has been reopened and a job has
            succeeded since: to set the devices up again.
        queue_size, when_full: of the log.
        priority, name: as for every `Source`; the name is "i2c:1" if not given.

    Attributes:
        number: 1 stands for /dev/i2c-1.
        timeout: the parameter, in seconds.
        suspect: whether a transfer has outlasted its time and none has succeeded since.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    the bus does not exist, or the program may not use it.

    Example:

        async with i2c.open(1) as bus:
            value = await bus.device(0x76).read_register(0xD0)

    Source: Documentation/i2c/dev-interface.rst of the kernel.
    """

    def __init__(
        self,
        bus: int | str | os.PathLike[str],
        *,
        timeout: float = 1.0,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        priority: Priority = Priority.NORMAL,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
    ) -> None:
        self.number: int = _bus_number(bus)
        super().__init__(
            name=name or f"i2c:{self.number}",
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
            on_reopen=on_reopen,
        )
        if not (reopen is None or isinstance(reopen, Backoff)):
            raise TypeError(f"{self.name}: reopen must be a Backoff or None, not {short_name(reopen)}")
        self.timeout: float = _checked_timeout(timeout)
        self.suspect: bool = False
        self._backoff = reopen or Backoff()
        self._reopenings_reported = 0
        self._thread: BusThread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._polls = WeakOrderedSet()

    # For programs.

    def device(self, address: int | str) -> Device:
        """Return the device at a 7-bit address: 0x76, or "0x76" as text. Nothing is sent yet.

        Raises ValueError for an address outside 0x03 to 0x77, TypeError for one that is not a whole number.
        """
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
        none). Raises the function's exception; the kernel's I2C errors become `HardwareError`.
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
        """Do as `run()` does, under a name for the job that errors and the log show.

        `one_transfer` says that the function makes one call of `SMBus` and does nothing else.
        """
        timeout = self.timeout if timeout is None else _checked_timeout(timeout)
        thread = self._usable()
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        job = BusJob(what, function, args, future, one_transfer)
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
        """Return a stream of readings: `read()` is called and awaited every `every` seconds, or on each edge of
        `trigger`.

        `read` runs on the loop and may await any number of transfers; for a blocking driver give
        `lambda: bus.run(driver.sample)`. `rate_limit` bounds the readings a second, for a trigger that may chatter.
        `Poll` describes the other parameters. The poll ends with the bus.

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
        """Return the addresses that answer, each asked in turn with the message that harms least, as i2cdetect does."""
        found = []
        for address in range(0x08, LAST_ADDRESS + 1):
            if await self.perform(f"address {address:#04x}", _probe, address):
                found.append(address)
        return found

    def statistics(self) -> SourceStatistics:
        """Return the counters so far. `received` counts the jobs done, `lost` the answers that came too late."""
        reopened = 0 if self._thread is None else self._thread.reopened
        return dataclasses.replace(super().statistics(), reopened=reopened)

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the bus. Waits for the transfer under way, for `timeout` seconds at most; `close()` does not."""
        try:
            if self._thread is not None and not self._closed:
                self._give_up_waiting(self._thread)
                if self._thread.under_way is not None:
                    assert self._loop is not None
                    self._ended = self._loop.create_future()
                    await asyncio.wait([self._ended], timeout=self.timeout)
        finally:
            self.close()

    # For the base class.

    def connect(self) -> int:
        board = current()
        number = self.number

        def open_bus() -> SMBus:
            try:
                from smbus2 import SMBus
            except ImportError:
                return board.open_bus(number)  # which reports it
            return checked_call(board.open_bus, number, SMBus)

        self._thread = BusThread(open_bus, f"I2C bus {number}", self._backoff, board.clock)
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
        if succeeded and self._hook is not None and self._thread.reopened > self._reopenings_reported:
            self._reopenings_reported = self._thread.reopened
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
            self._fail(under_way)
        thread.release()

    # Jobs and their answers.

    def _usable(self) -> BusThread:
        if self._closed or (self._thread is not None and self._thread.stopping):
            raise RuntimeError(f"{self.name} is closed")
        if self._thread is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self.name} was opened on another event loop")
        return self._thread

    def _settle(self, job: BusJob) -> None:
        """Give the answer to the caller that waits for it."""
        if job.error is None:
            self.suspect = False
        if job.future.done():  # cancelled, or out of time
            self.count_lost(1)
        elif job.error is None:
            job.future.set_result(job.result)
        else:
            self._errors += 1
            job.future.set_exception(explained(job.error, self.number, job.what))

    def _expire(self, job: BusJob, timeout: float) -> None:
        """The caller's timeout has passed. Only a job that has begun makes the bus suspect."""
        assert self._thread is not None
        if not job.future.done():
            # The loop may have been held up for longer than the bus: an answer that has arrived meanwhile counts.
            self.on_readable()
        if job.future.done():
            return
        busy_with = self._thread.under_way
        if self._thread.withdraw(job):
            reason = f"not begun within {timeout:g} s" + (f": {busy_with.what} is under way" if busy_with else "")
            hint = "increase timeout=, or find out why that takes so long"
        else:
            self.suspect = True
            reason = f"no answer within {timeout:g} s"
            hint = "a device may hold the bus: check wiring and pull-ups, power-cycle the device, or increase timeout="
        self._errors += 1
        job.future.set_exception(
            BusTimeoutError(f"I2C bus {self.number}, {job.what}", reason, hint, errno=errno.ETIMEDOUT)
        )

    def _give_up_waiting(self, thread: BusThread) -> None:
        """Close the polls and fail the jobs that have not begun."""
        closing = [poll.close for poll in self._polls]
        run_hooks(closing, "a poll could not be closed:", self.report_failure)
        for job in thread.stop():
            self._fail(job)

    def _fail(self, job: BusJob) -> None:
        if not job.future.done():
            error = HardwareError(f"I2C bus {self.number}, {job.what}", "the bus was closed before there was an answer")
            job.future.set_exception(error)


open = Bus


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
    """Return whether a device answers, asked as i2cdetect asks. Runs on the bus's thread.

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
