"""The base of sources that make transfers on a bus: I2C buses, and devices on an SPI bus.

A transfer takes as long as the wire does, and a hung one longer, so a separate thread makes them, the most urgent
first, and an eventfd wakes the loop when answers are there (`bus_thread`, `bus_access`). The source guarantees:

- while the bus is busy or hung, the loop is not;
- an answer or an error within `timeout` seconds, whatever the wire, the driver and earlier jobs in the queue do;
- a job that is cancelled or times out before it begins is never done; one that is under way ends, and its answer is
  discarded;
- an error names the device, and says what to check.
"""

from __future__ import annotations

import asyncio
import errno
import math
import operator
import os
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, TypeVarTuple

from hwloop.board import Edge
from hwloop.core.naming import short_name
from hwloop.core.ordered_sets import WeakOrderedSet
from hwloop.core.statistics import BusStatistics
from hwloop.core.urgency import Priority, as_priority
from hwloop.errors import HardwareError
from hwloop.sources.account import Account
from hwloop.sources.bus_access import BusAccess, BusJob, Closable
from hwloop.sources.containment import run_hooks
from hwloop.sources.intake import WhenFull
from hwloop.sources.poll import Poll
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.source import Source

H = TypeVar("H", bound=Closable)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class BusTimeoutError(HardwareError, TimeoutError):
    """No answer in time: the kernel gave up on the transfer, or the caller's timeout has passed."""


class Transaction(NamedTuple):
    """One job that a bus has done, as its source yields them. Times in nanoseconds of the board's clock."""

    what: str
    began_ns: int
    ended_ns: int
    error: BaseException | None


class BusSource(Source[Transaction], Generic[H]):
    """A source of `Transaction`s that makes them: for consumers that ask for them, a log.

    Attributes:
        title: the device or bus, for messages: "I2C bus 1".
        timeout: seconds within which each operation has its answer.
        suspect: whether a transfer has outlasted its time and none has succeeded since.
    """

    hung_hint: ClassVar[str]
    """The remedy for a transfer without an answer, for messages."""

    def __init__(
        self,
        title: str,
        *,
        timeout: float,
        queue_size: int,
        when_full: WhenFull,
        priority: Priority,
        name: str,
        reopen: Backoff | None,
        on_reopen: ReopenHook | None,
    ) -> None:
        super().__init__(name=name, priority=priority, queue_size=queue_size, when_full=when_full, on_reopen=on_reopen)
        if not (reopen is None or isinstance(reopen, Backoff)):
            raise TypeError(f"{self.name}: reopen must be a Backoff or None, not {short_name(reopen)}")
        self.title = title
        self.timeout: float = _checked_timeout(timeout)
        self.suspect: bool = False
        self._backoff = reopen or Backoff()
        self._reopenings_reported = 0
        self._access: BusAccess[H] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._polls = WeakOrderedSet()
        self._account = Account()

    @abstractmethod
    def reach(self) -> BusAccess[H]:
        """Open the device and return the way to it. Raises `HardwareError`."""

    @abstractmethod
    def fault(self, number: int) -> tuple[str, str] | None:
        """Return the meaning of a system's error number on this bus, and what to check; None for any other error."""

    def accounts(self) -> list[Account]:
        """Return the accounts of all its jobs."""
        return [self._account]

    # For programs.

    async def run(
        self,
        function: Callable[[H, *Ts], T],
        *args: *Ts,
        timeout: float | None = None,
        priority: Priority | None = None,
    ) -> T:
        """Call `function(device, *args)` on the bus's thread: any blocking driver that accepts smbus2's `SMBus`, or
        spidev's `SpiDev`.

        Nothing else is on the bus meanwhile. `timeout` in seconds, counted from now (None: the source's own; math.inf:
        none). `priority` decides between jobs that wait (None: the source's own). Raises the function's exception; the
        kernel's errors become `HardwareError`.
        """
        if priority is not None:
            priority = as_priority(priority)
        return await self.perform(short_name(function), function, args, timeout=timeout, priority=priority)

    async def perform(
        self,
        what: str,
        function: Callable[[H, *Ts], T],
        args: tuple[*Ts],
        *,
        timeout: float | None = None,
        one_transfer: bool = False,
        priority: Priority | None = None,
        account: Account | None = None,
        size: int = 0,
    ) -> T:
        """Do as `run()` does, under a name for the job that errors and the log show.

        `one_transfer` says that the function makes one transfer and does nothing else. `account` counts the job and its
        `size` in bytes when it has been done, even if nobody waits for it any more (None: the account of the bus).
        """
        timeout = self.timeout if timeout is None else _checked_timeout(timeout)
        access = self._usable()
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        urgency = self.priority if priority is None else priority
        asked = self._loop.time()
        counts = self._account if account is None else account
        job = BusJob(access, what, function, args, future, one_transfer, self, timeout, asked, urgency, counts, size)
        access.submit(job)
        try:
            return await future
        finally:
            if job.timer is not None:
                job.timer.cancel()
            if not job.is_done:
                access.withdraw(job)

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
        `Poll` describes the other parameters. The poll ends with the source.

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

    def statistics(self) -> BusStatistics:
        """Return the counters so far. `received` counts the jobs done, `lost` the answers that came too late."""
        common = vars(super().statistics())
        if self._access is not None:
            common = {**common, "reopened": self._access.reopened}
        accounts = self.accounts()
        busy_ns = sum(account.busy_ns for account in accounts)
        longest_wait = max(account.longest_wait for account in accounts)
        return BusStatistics(**common, busy=busy_ns / 1e9, longest_wait=longest_wait)

    async def __aexit__(self, *exc_info: object) -> None:
        """Close it. Waits for the transfer under way, for `timeout` seconds at most; `close()` does not."""
        try:
            if self._access is not None and not self._closed:
                self._give_up_waiting(self._access)
                if self._access.under_way is not None:
                    assert self._loop is not None
                    self._ended = self._loop.create_future()
                    await asyncio.wait([self._ended], timeout=self.timeout)
        finally:
            self.close()

    # For the base class.

    def connect(self) -> int:
        self._access = self.reach()
        return self._access.fileno()

    def receive(self) -> Iterable[Transaction]:
        assert self._access is not None
        transactions = []
        succeeded = False
        for job in self._access.collect():
            self._settle(job)
            succeeded = succeeded or job.error is None
            if self._channel.wanted:
                transactions.append(Transaction(job.what, job.began_ns, job.ended_ns, job.error))
            else:
                self._channel.bypass(None)  # counted, but not made: nobody looks at it
        self._note_reopened(succeeded=succeeded)
        if self._access.ended and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        return transactions

    def disconnect(self) -> None:
        access = self._access
        assert access is not None
        self._give_up_waiting(access)
        under_way = access.under_way
        for job in access.collect():
            self._settle(job)
        if under_way is not None:
            self._fail(under_way)
        access.release()

    # Jobs and their answers.

    def limit_wait(self, job: BusJob[Any]) -> None:
        """Set the timer of a job that the thread does."""
        if job.timeout < math.inf:
            assert self._loop is not None
            job.timer = self._loop.call_at(job.expires, self._expire, job)

    def take_answer(self, job: BusJob[Any]) -> bool:
        """Give the answer of a job that the loop has done itself to its caller. Return False for the usual way."""
        channel = self._channel
        if channel.wanted or not self._reading:
            return False
        self._wakeups += 1
        self._settle(job)
        channel.bypass(None)
        self._note_reopened(succeeded=job.error is None)
        return True

    def _usable(self) -> BusAccess[H]:
        if self._closed or (self._access is not None and self._access.stopping):
            raise RuntimeError(f"{self.name} is closed")
        if self._access is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self.name} was opened on another event loop")
        return self._access

    def _settle(self, job: BusJob[H]) -> None:
        """Give the answer to the caller that waits for it."""
        future, error, began_ns = job.future, job.error, job.began_ns
        job.account.note(job.size, job.ended_ns - began_ns, began_ns / 1e9 - job.asked, error)
        if error is None:
            self.suspect = False
        if future.done():  # cancelled, or out of time
            self.count_lost(1)
        elif error is None:
            future.set_result(job.result)
        else:
            self._errors += 1
            future.set_exception(self._presented(error, job.what))

    def _presented(self, error: BaseException, what: str) -> BaseException:
        """Return the error of a job as its caller gets it: an error of the system with its meaning on this bus."""
        made: BaseException
        if isinstance(error, StopIteration):
            made = RuntimeError(f"{what} raised StopIteration")  # a future can't carry one (PEP 479)
        elif not isinstance(error, OSError) or isinstance(error, HardwareError):
            return error
        else:
            number = error.errno or 0
            if (fault := self.fault(number)) is None:
                return error
            reason, hint = fault
            kind = BusTimeoutError if number == errno.ETIMEDOUT else HardwareError
            made = kind(f"{self.title}, {what}", f"{reason} ({os.strerror(number)})", hint, errno=error.errno)
        made.__cause__ = error
        return made

    def _note_reopened(self, *, succeeded: bool) -> None:
        """Run the hook if the device has been reopened, and a job has succeeded since."""
        assert self._access is not None
        if succeeded and self._hook is not None and self._access.reopened > self._reopenings_reported:
            self._reopenings_reported = self._access.reopened
            assert self._loop is not None
            self._hook.run(self, self._loop, self.report_failure)

    def _expire(self, job: BusJob[H]) -> None:
        """The caller's timeout has passed. Only a job that has begun makes the bus suspect."""
        assert self._access is not None
        if not job.future.done():
            # The loop may have been held up for longer than the bus: an answer that has arrived meanwhile counts.
            self.read_now()
        if job.future.done():
            return
        busy_with = self._access.busy_with
        if self._access.withdraw(job):
            reason = f"not begun within {job.timeout:g} s" + (f": {busy_with.what} is under way" if busy_with else "")
            hint = "increase timeout=, or find out why that takes so long"
        else:
            self.suspect = True
            reason = f"no answer within {job.timeout:g} s"
            hint = self.hung_hint
        self._errors += 1
        job.future.set_exception(BusTimeoutError(f"{self.title}, {job.what}", reason, hint, errno=errno.ETIMEDOUT))

    def _give_up_waiting(self, access: BusAccess[H]) -> None:
        """Close the polls and fail the jobs that have not begun."""
        closing = [poll.close for poll in self._polls]
        run_hooks(closing, "a poll could not be closed:", self.report_failure)
        for job in access.stop():
            self._fail(job)

    def _fail(self, job: BusJob[H]) -> None:
        if not job.future.done():
            error = HardwareError(f"{self.title}, {job.what}", "the bus was closed before there was an answer")
            job.future.set_exception(error)


def whole(what: str, value: object) -> int:
    """Return `value` as an int. Raises TypeError, which names it `what`, unless it is a whole number."""
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]  # raises for anything but a whole number
    except TypeError:
        hint = f"; write {value:.0f}" if isinstance(value, float) and value.is_integer() else ""
        raise TypeError(f"{what} is a whole number, such as 1 or 0x76, not {value!r}{hint}") from None


def sendable(data: Iterable[int]) -> bytes:
    """Return bytes to send. Raises TypeError for text and for a number, ValueError for numbers that are no bytes."""
    if isinstance(data, int | str) or not isinstance(data, Iterable):
        raise TypeError(f"a transfer takes bytes, such as b'\\x01\\x80', not {short_name(data)}")
    return bytes(data)


def _checked_timeout(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"a timeout is a number of seconds, more than 0, not {timeout!r}")
    return timeout
