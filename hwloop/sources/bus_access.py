"""The way of one source to its bus: the open device, which is reopened after failures, its jobs, and their answers.

`bus_thread` does the jobs. An eventfd of its own wakes the loop when answers are there, or the device was closed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from hwloop.core.clock import Clock, Disturbed
from hwloop.core.naming import error_text
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources.account import Account
from hwloop.sources.bus_thread import BusThread, Job
from hwloop.sources.reopening import Backoff, Pauses

if TYPE_CHECKING:
    import asyncio

FAILURES_BEFORE_REOPEN = 5
"""Jobs that fail in a row, with no answer or another error of the system, before the bus is reopened."""

HELD = (errno.ETIMEDOUT, errno.EAGAIN)
"""The errors of a bus that something holds: the kernel has given up on a transfer, or lost the arbitration."""


class Closable(Protocol):
    """An open bus or device, such as smbus2's `SMBus`."""

    def close(self) -> object: ...


H = TypeVar("H", bound=Closable)


class Caller(Protocol):
    """The loop's side of a job."""

    def take_answer(self, job: BusJob[Any]) -> bool:
        """Take the answer of a job that the loop has just done itself. Return False if it has to go the usual way."""

    def limit_wait(self, job: BusJob[Any]) -> None:
        """Set the timer of a job that is left to the thread, and so may take longer than its caller wants to wait."""


class BusJob(Generic[H]):
    """A function to call with the open device, and its outcome. Times are nanoseconds of the board's clock.

    Attributes:
        priority: it goes before jobs that are less urgent.
        asked: the loop time at which it was submitted.
        account: counts it when it has been done, whoever waits for it, with its `size` in bytes.
        timeout: seconds within which the caller wants the answer, ...
        expires: ... and the loop time at which they have passed.
        timer: ends the caller's wait then; None while the loop is about to do the job itself.
        is_done: whether it has been done, so that it need not be withdrawn.
    """

    __slots__ = (
        "account",
        "args",
        "asked",
        "began_ns",
        "by",
        "caller",
        "ended_ns",
        "error",
        "expires",
        "function",
        "future",
        "is_done",
        "one_transfer",
        "priority",
        "result",
        "size",
        "timeout",
        "timer",
        "what",
    )

    closes: bool = False

    def __init__(
        self,
        by: BusAccess[H],
        what: str,
        function: Callable[..., object],
        args: tuple[object, ...],
        future: asyncio.Future[Any],
        one_transfer: bool,
        caller: Caller,
        timeout: float,
        asked: float,
        priority: Priority,
        account: Account,
        size: int,
    ) -> None:
        self.by: BusAccess[H] = by
        self.what: str = what
        self.function: Callable[..., object] = function
        self.args: tuple[object, ...] = args
        self.future: asyncio.Future[Any] = future
        self.one_transfer: bool = one_transfer
        self.caller: Caller = caller
        self.timeout: float = timeout
        self.expires: float = asked + timeout
        self.asked: float = asked
        self.priority: Priority = priority
        self.account: Account = account
        self.size: int = size
        self.timer: asyncio.TimerHandle | None = None
        self.is_done: bool = False
        self.began_ns: int = 0
        self.ended_ns: int = 0
        self.result: object = None
        self.error: BaseException | None = None

    def do(self) -> None:
        self.by.do(self)

    def finish(self, *, in_place: bool) -> None:
        self.is_done = True
        self.by.finish(self, in_place)

    def delayed(self) -> None:
        if self.timer is None:
            self.caller.limit_wait(self)


class _Closing:
    """The last job of an access: to close its device."""

    closes: bool = True

    def __init__(self, close: Callable[[], None], finish: Callable[[], None]) -> None:
        self.priority: Priority = Priority.INTERRUPT
        self.one_transfer: bool = False
        self._close, self._finish = close, finish

    def do(self) -> None:
        self._close()

    def finish(self, *, in_place: bool) -> None:
        self._finish()

    def delayed(self) -> None:
        pass


class BusAccess(Generic[H]):
    """Opens, reopens and closes the device of one source, and keeps the answers to its jobs until they are collected.

    Parameters:
        open_device: opens the device; called here for the first time, so that its error reaches the caller, and from
            the thread to reopen.
        name: for messages.
        backoff: how long to wait between one reopening and the next while all jobs fail.
        clock: the board's.
        thread: returns the thread of the bus. The access becomes a user of it.
        recover: called on the thread when a transfer has failed because something holds the bus; None for nothing.
    """

    def __init__(
        self,
        open_device: Callable[[], H],
        name: str,
        backoff: Backoff,
        clock: Clock,
        thread: Callable[[], BusThread],
        recover: Callable[[], object] | None = None,
    ) -> None:
        self._recover = recover
        self.reopened: int = 0
        self.ended: bool = False
        self.stopping: bool = False
        self._open_device = open_device
        self._pauses = Pauses(backoff, name)
        self._clock = clock
        self._name = name
        self._failures = 0
        self._attempt = 0
        self._not_before_ns = 0
        self._why_closed: BaseException | None = None
        self._finished: list[BusJob[H]] = []
        self._device: H | None = open_device()
        self._fd = -1
        try:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            clock.claim(self._fd, announced=True)
            self._thread = thread()
        except BaseException:
            self._device.close()
            if self._fd >= 0:
                clock.disclaim(self._fd)
                os.close(self._fd)
            raise

    # For the loop.

    def fileno(self) -> int:
        """Return the eventfd, which is readable when jobs have finished, or the device was closed."""
        return self._fd

    def submit(self, job: BusJob[H]) -> None:
        """Put a job behind those of its priority. Its caller has set its timer then, where it needs one."""
        if not self._thread.submit(job):
            job.delayed()

    def withdraw(self, job: BusJob[H]) -> bool:
        """Remove a job that has not begun. Return False if it has begun: its answer will arrive late, if at all."""
        return self._thread.withdraw(job)

    def collect(self) -> list[BusJob[H]]:
        """Return the jobs that have finished since the last call, in order."""
        with self._thread.lock:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return []
            finished = list(self._finished)
            self._finished.clear()
            return finished

    @property
    def busy_with(self) -> BusJob[Any] | None:
        """The job that is on the bus now, of any user."""
        job = self._thread.under_way
        return job if isinstance(job, BusJob) else None

    @property
    def under_way(self) -> BusJob[H] | None:
        """Its own job that is on the bus now."""
        job = self.busy_with
        return job if job is not None and job.by is self else None

    def stop(self) -> list[BusJob[H]]:
        """Close the device after the job under way. Return the jobs that will not begin any more."""
        if self.stopping:
            return []
        self.stopping = True
        dropped = self._thread.leave(self._owns, _Closing(self._close_device, self._end))
        return [job for job in dropped if isinstance(job, BusJob)]

    def release(self) -> None:
        """Close the eventfd, after `stop()`, and wait until the device is closed unless a job is under way."""
        with self._thread.lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            self._clock.disclaim(fd)
            os.close(fd)
        self._thread.wait_left(lambda: self.ended)

    def _owns(self, job: Job) -> bool:
        return isinstance(job, BusJob) and job.by is self

    # On the thread.

    def do(self, job: BusJob[H]) -> None:
        """Do a job, and keep its outcome in it."""
        job.began_ns = self._clock.now_ns()
        try:
            job.result = job.function(self._ready_device(), *job.args)
        except Disturbed:
            raise
        except BaseException as error:
            job.error = error
            if isinstance(error, OSError):
                self._failures += 1
        else:
            self._failures = self._attempt = 0
        job.ended_ns = self._clock.now_ns()
        if self._recover is not None and isinstance(job.error, OSError) and job.error.errno in HELD:
            self._recover()

    def finish(self, job: BusJob[H], in_place: bool) -> None:
        """Note a finished job and wake the loop, unless its caller takes the answer at once. The lock is held."""
        if not in_place or self._finished or not job.caller.take_answer(job):
            self._finished.append(job)
            self._notify_loop()

    def _end(self) -> None:
        self.ended = True
        self._notify_loop()

    def _notify_loop(self) -> None:
        """Wake the loop. The lock is held, so the descriptor can't be closed and its number reused meanwhile."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)
            self._clock.announce()

    def _ready_device(self) -> H:
        """Return the open device, reopened first if too many jobs have failed. Raises OSError."""
        if self._device is None or self._failures >= FAILURES_BEFORE_REOPEN:
            now_ns = self._clock.now_ns()
            if now_ns >= self._not_before_ns:
                self._not_before_ns = now_ns + round(self._pauses.before(self._attempt) * 1e9)
                self._attempt += 1
                self._reopen()
            elif self._device is None:
                raise HardwareError(
                    self._name,
                    "it could not be reopened" + (f": {error_text(self._why_closed)}" if self._why_closed else ""),
                    f"next attempt in {(self._not_before_ns - now_ns) / 1e9:.1f} s",
                    errno=self._why_closed.errno if isinstance(self._why_closed, OSError) else None,
                )
        assert self._device is not None
        return self._device

    def _reopen(self) -> None:
        self._close_device()
        try:
            self._device = self._open_device()
        except BaseException as error:
            self._why_closed = error
            raise
        self._failures = 0
        self.reopened += 1

    def _close_device(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            try:
                device.close()
            except BaseException:
                pass  # the descriptor is gone in any case (close(2)), and the thread must live
