"""The thread that makes the transfers of one I2C bus.

An I2C descriptor can't be polled: a transfer is a system call that returns when the wire is done, after 0.09 ms a byte
or, when a device holds the bus, after a second. And smbus2 sets the address with one call and transfers with another,
so two threads must not share an `SMBus`. Hence one thread for each bus, jobs in the order in which they were submitted,
and an eventfd that wakes the loop when answers are there.

A system call can't be cancelled either. The guarantee is that nothing waits for it: `stop()` never blocks on a job that
is under way; the thread, a daemon, ends by itself when the system call returns, and closes the bus then.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.clock import Clock, Disturbed
from hwloop.core.naming import error_text
from hwloop.errors import HardwareError
from hwloop.sources.reopening import Backoff

if TYPE_CHECKING:
    import asyncio

    from smbus2 import SMBus

FAILURES_BEFORE_REOPEN = 5
"""Jobs that fail in a row, with no answer or another error of the system, before the bus is reopened."""


class BusJob:
    """A function to call with the `SMBus`, and its outcome. Times are nanoseconds of the board's clock.

    `one_transfer`: the function does nothing else, and so can be started again as long as the wire has not begun.
    """

    __slots__ = ("args", "began_ns", "ended_ns", "error", "function", "future", "one_transfer", "result", "what")

    def __init__(
        self,
        what: str,
        function: Callable[..., object],
        args: tuple[object, ...],
        future: asyncio.Future[Any],
        one_transfer: bool,
    ) -> None:
        self.what: str = what
        self.function: Callable[..., object] = function
        self.args: tuple[object, ...] = args
        self.future: asyncio.Future[Any] = future
        self.one_transfer: bool = one_transfer
        self.began_ns: int = 0
        self.ended_ns: int = 0
        self.result: object = None
        self.error: BaseException | None = None


class BusThread:
    """Runs jobs one after the other with an `SMBus` that it opens, reopens and closes.

    Parameters:
        open_bus: opens the bus; called here for the first time, so that its error reaches the caller, and from the
            thread to reopen.
        name: the thread's name.
        backoff: how long to wait between one reopening and the next while all jobs fail.
        clock: the board's.
    """

    def __init__(self, open_bus: Callable[[], SMBus], name: str, backoff: Backoff, clock: Clock) -> None:
        self.reopened: int = 0
        self.ended: bool = False
        self._open_bus = open_bus
        self._backoff = backoff
        self._clock = clock
        self._name = name
        self._failures = 0
        self._attempt = 0
        self._not_before_ns = 0
        self._why_closed: BaseException | None = None
        self._waiting: collections.deque[BusJob] = collections.deque()
        self._finished: list[BusJob] = []
        self._under_way: BusJob | None = None
        self._called = False
        self.stopping: bool = False
        self._changed = clock.condition()
        self._smbus: SMBus | None = open_bus()
        self._fd = -1
        try:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            clock.claim(self._fd)
            self._thread = clock.start(self._main, name)
        except BaseException:
            self._smbus.close()
            if self._fd >= 0:
                clock.disclaim(self._fd)
                os.close(self._fd)
            raise

    # For the loop.

    def fileno(self) -> int:
        """Return the eventfd, which is readable when jobs have finished, or the thread has."""
        return self._fd

    def submit(self, job: BusJob) -> None:
        """Put a job at the end of the queue."""
        with self._changed:
            self._waiting.append(job)
            self._call_for_work()

    def withdraw(self, job: BusJob) -> bool:
        """Remove a job that has not begun. Return False if it has begun: its answer will arrive late, if at all."""
        with self._changed:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def collect(self) -> list[BusJob]:
        """Return the jobs that have finished since the last call, in order."""
        with self._changed:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return []
            finished = list(self._finished)
            self._finished.clear()
            return finished

    @property
    def under_way(self) -> BusJob | None:
        """The job that is on the bus now."""
        return self._under_way

    def stop(self) -> list[BusJob]:
        """End the thread after the job under way. Return the jobs that will not begin any more."""
        with self._changed:
            self.stopping = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
            return dropped

    def release(self) -> None:
        """Close the eventfd, after `stop()`, and wait for the thread unless a job is under way."""
        with self._changed:
            fd, self._fd = self._fd, -1
            busy = self._under_way is not None
        if fd >= 0:
            self._clock.disclaim(fd)
            os.close(fd)
        if not busy:
            self._clock.join(self._thread)

    def _call_for_work(self) -> None:
        """Wake the thread; in virtual time the loop may do a single transfer itself. The lock is held."""
        if not self._called:
            self._called = self._waiting[0].one_transfer and self._clock.take_turn(self._do_in_place)
            if not self._called:
                self._changed.notify()

    def _do_in_place(self) -> None:
        """Do the first job on the loop's thread, in virtual time, or else wake the bus's thread."""
        with self._changed:
            self._called = False
            if self._under_way is not None or not self._waiting:
                return
            try:
                self._do(self._waiting[0])
            except Disturbed:
                self._changed.notify()
                return
            self._finish(self._waiting.popleft())
            if self._waiting:
                self._call_for_work()

    # The thread.

    def _main(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)
            with self._changed:
                self._under_way = None
                self._finish(job)
            # Held here, a failed job's traceback would keep its frames alive until the next job.
            del job
        self._close_bus()
        with self._changed:
            self.ended = True
            self._notify_loop()

    def _do(self, job: BusJob) -> None:
        job.began_ns = self._clock.now_ns()
        try:
            job.result = job.function(self._ready_bus(), *job.args)
        except Disturbed:
            raise
        except BaseException as error:
            job.error = error
            if isinstance(error, OSError):
                self._failures += 1
        else:
            self._failures = self._attempt = 0
        job.ended_ns = self._clock.now_ns()

    def _finish(self, job: BusJob) -> None:
        """Note a finished job and wake the loop. The lock is held."""
        self._finished.append(job)
        self._notify_loop()

    def _next(self) -> BusJob | None:
        with self._changed:
            while not self._waiting and not self.stopping:
                self._changed.wait()
            if self.stopping:
                return None
            self._under_way = self._waiting.popleft()
            return self._under_way

    def _notify_loop(self) -> None:
        """Wake the loop. The lock is held, so the descriptor can't be closed and its number reused meanwhile."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def _ready_bus(self) -> SMBus:
        """Return the open bus, reopened first if too many jobs have failed. Raises OSError."""
        if self._smbus is None or self._failures >= FAILURES_BEFORE_REOPEN:
            now_ns = self._clock.now_ns()
            if now_ns >= self._not_before_ns:
                self._not_before_ns = now_ns + round(self._backoff.pause(self._attempt) * 1e9)
                self._attempt += 1
                self._reopen()
            elif self._smbus is None:
                raise HardwareError(
                    self._name,
                    "it could not be reopened" + (f": {error_text(self._why_closed)}" if self._why_closed else ""),
                    f"next attempt in {(self._not_before_ns - now_ns) / 1e9:.1f} s",
                    errno=self._why_closed.errno if isinstance(self._why_closed, OSError) else None,
                )
        assert self._smbus is not None
        return self._smbus

    def _reopen(self) -> None:
        self._close_bus()
        try:
            self._smbus = self._open_bus()
        except BaseException as error:
            self._why_closed = error
            raise
        self._failures = 0
        self.reopened += 1

    def _close_bus(self) -> None:
        smbus, self._smbus = self._smbus, None
        if smbus is not None:
            try:
                smbus.close()
            except BaseException:
                pass  # the descriptor is gone in any case (close(2)), and the thread must live
