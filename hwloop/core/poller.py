"""The poller: asks the kernel which descriptors are ready, and waits until one is or a timer is due.

The usual wait is an epoll set that also holds the alarm, a timerfd. epoll's own timeout counts in milliseconds and
suffers the thread's timer slack; the alarm is set to an absolute time and has neither (epoll_wait(2),
timerfd_create(2)). A selector that the user brings, or a clock that no kernel alarm follows, needs the selector's own
wait, which is only as precise as the selector. And where other threads run, a poll that does not wait must not take
their turn from them (`hwloop.core.gil_poll`).
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import math
import select
import selectors
import sys
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any

from hwloop.core.bases import waiting_half
from hwloop.core.clock import monotonic
from hwloop.core.descriptors import IN, OUT, DescriptorTable
from hwloop.core.loop_clock import LoopClock
from hwloop.core.native import COMPILED

if TYPE_CHECKING:
    from hwloop.core.gil_poll import GilPoll

SHORTEST_WAIT = 20e-6
"""A wait shorter than this (seconds) costs more than it saves: the loop polls again instead. `set_spin` extends it."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds. The alarm is set no later than this; the loop then sets it again."""

EVENTS_PER_POLL = 64
"""Descriptors per poll; the kernel reports the others at the next polls, in turn (epoll_wait(2))."""

ONE = (1).to_bytes(8, sys.byteorder)
"""The number that each call adds to the eventfd (eventfd(2))."""

Found = list[tuple[int, int]]
"""Ready descriptors, each with its epoll mask."""


class Poller:
    """The descriptors of one loop, and the alarm of its timers.

    Attributes:
        alarm_fd: the descriptor of the alarm; -1 where the system has none. Whoever finds it ready sets `alarm_when`
            to 0.
        alarm_when: the loop time to which the alarm is set; 0 if it is not set or has rung, NaN if it is in doubt.
        descriptors: the descriptor table.
        is_sleeping: whether the loop waits now, so that a call from another thread has to wake it. It is set before
            the inbox is checked, so either the loop sees the call or the thread sees this.
        spin: seconds before a timer for which the loop polls without sleeping.
    """

    def __init__(self, selector: selectors.BaseSelector, clock: LoopClock, inbox: Sized) -> None:
        """Parameters:
        selector: an asyncio loop's selector; with an `EpollSelector`, waits are as precise as the kernel.
        clock: the loop's clock.
        inbox: the calls that other threads have sent; one of them ends a wait.
        """
        self.descriptors: DescriptorTable = DescriptorTable(selector)
        self.is_sleeping: bool = False
        self.spin = SHORTEST_WAIT
        self._selector = selector
        self._clock = clock
        self._inbox = inbox
        self._epoll: select.epoll | None = None  # with the alarm, once `use_clock` finds both; else the selector waits
        self._alarm: Any = None  # an `Alarm`
        self.alarm_when: float = 0.0
        alarm = self.descriptors.alarm
        self.alarm_fd: int = -1 if alarm is None else alarm.fileno()
        self._gil_poll: Callable[[], Found] | None = None  # once there have been other threads
        _load_for_threads()

    def poll(self, when: float | None) -> Found:
        """Wait until a descriptor is ready or `when` has come (loop time; None: for ever) and return what is ready.

        With 0 it does not wait. It may return early with nothing; the caller polls again.
        """
        epoll = self._epoll
        if epoll is None:
            return self._poll_selector(when)
        if when is None:
            if self.alarm_when:  # 9. Idle is idle
                self.alarm_when = 0.0
                self._alarm.clear()
        elif not when or when != self.alarm_when:  # otherwise the alarm is set to it, and ends the wait
            left = when - self._clock.now() if when else 0.0
            if left <= self.spin:
                if not COMPILED and _thread._count():  # threads other than this one
                    return (self._gil_poll or self._make_gil_poll(epoll))()
                return epoll.poll(0, EVENTS_PER_POLL)
            self.alarm_when = when  # 4. As precise as the kernel
            early = self.spin if self.spin > SHORTEST_WAIT else 0.0
            self._alarm.set(when - early if left < LONGEST_WAIT else self._clock.now() + LONGEST_WAIT)
        self.is_sleeping = True
        try:
            return epoll.poll(0 if self._inbox else -1, EVENTS_PER_POLL)
        finally:
            self.is_sleeping = False

    def poll_urgent(self) -> Found:
        """Return the ready descriptors with a priority or a deadline: a full `poll` may have left some out."""
        urgent = self.descriptors.urgent
        return [] if urgent is None else urgent.poll(0, EVENTS_PER_POLL)

    def wake(self) -> bool:
        """End the wait of the loop's thread from another one. Return False where only asyncio's socket can do so."""
        waker = self.descriptors.waker
        if waker is None:
            return False
        try:
            waker.write(ONE)
        except (OSError, ValueError):
            return False  # closed: meanwhile, or by a library
        return True

    def forget_closed(self) -> None:
        """Replace the set: the kernel has reported a descriptor that nobody watches, and would do so for ever.

        It was closed, and a duplicate keeps it in the set.
        """
        self.descriptors.renew()

    def doubt_alarm(self) -> None:
        """Set the alarm anew for the next wait.

        Call it before a run: an exception may have ended the last one as the alarm was being set, or after it had rung
        and before anybody noted that.
        """
        if self.alarm_when:
            self.alarm_when = math.nan  # unlike any time

    def use_clock(self) -> None:
        """Wait by the kernel's alarm if there is one and it follows the loop's clock, else through the selector.

        Call it once the loop has a clock, and whenever that has been replaced.
        """
        if self._alarm is not None and self.alarm_when:
            self._alarm.clear()
        self._epoll = self._alarm = None
        self.alarm_when = 0.0
        descriptors = self.descriptors
        if descriptors.epoll is not None and descriptors.alarm is not None and self._clock.now is monotonic:
            self._epoll, self._alarm = waiting_half(descriptors.epoll), descriptors.alarm

    def renew_in_child(self) -> None:
        """In a forked child: get an epoll set and an alarm that are not the parent's."""
        self.descriptors.renew(forked=True)
        self.alarm_when = 0.0

    def close(self) -> None:
        """Close the epoll set and the alarm; the selector belongs to asyncio."""
        self._epoll = self._alarm = None
        self.descriptors.close()

    def _make_gil_poll(self, epoll: select.epoll) -> Callable[[], Found]:
        gil_poll = _load_for_threads()
        if gil_poll is None:
            self._gil_poll = functools.partial(epoll.poll, 0, EVENTS_PER_POLL)
        else:
            self._gil_poll = gil_poll(epoll.fileno(), EVENTS_PER_POLL)
        return self._gil_poll

    def _poll_selector(self, when: float | None) -> Found:
        """Wait through a selector that the user brought, or by a clock that the kernel's alarm does not follow."""
        timeout = when if when is None else max(0.0, min(when - self._clock.now(), LONGEST_WAIT))
        epoll = self.descriptors.epoll
        self.is_sleeping = True
        try:
            if self._inbox:
                timeout = 0.0
            # As the selector does, but with the numbers it does not know. looptime puts another select() there.
            if epoll is not None and "select" not in vars(self._selector):
                return epoll.poll(timeout and math.ceil(timeout * 1e3) / 1e3, EVENTS_PER_POLL)
            found = self._selector.select(timeout)
        finally:
            self.is_sleeping = False
        return [
            (key.fd, (IN if mask & selectors.EVENT_READ else 0) | (OUT if mask & selectors.EVENT_WRITE else 0))
            for key, mask in found
        ]


@functools.cache
def _load_for_threads() -> type[GilPoll] | None:
    """Import what other threads will need. Return the poll that keeps the interpreter lock if the system allows one.

    A thread may start at any moment of a run, which must not wait for an import then. asyncio imports the module of its
    thread pool at the first `to_thread()`. Compiled, a poll that does not wait keeps the lock in any case.
    """
    with contextlib.suppress(RuntimeError):  # the interpreter is about to exit: no thread can start any more
        import concurrent.futures.thread  # noqa: F401
    if COMPILED:
        return None
    try:
        from hwloop.core.gil_poll import GilPoll
    except (ImportError, AttributeError):
        return None  # this system has none: `epoll.poll` will do
    return GilPoll
