"""The poller of a loop in virtual time: where another poller waits, this one lets time pass.

Time passes only when nothing is ready, nothing that is watched is readable, and no thread is at work. Then the clock
jumps to the next timer, or to whatever happens on the simulated board or in a thread before that. If nothing could ever
end the wait, the poller raises `DeadlockError` and says where each task waits.
"""

from __future__ import annotations

import _thread
import asyncio
import math
import random
import time
from collections.abc import Mapping
from selectors import EVENT_WRITE
from typing import TYPE_CHECKING

from hwloop.core.clock import to_ns
from hwloop.core.loop_clock import LoopClock
from hwloop.core.poller import Found, Poller
from hwloop.core.timer_queue import TimerQueue
from hwloop.core.urgency import Priority
from hwloop.virtual.clock import FOREVER, VirtualClock
from hwloop.virtual.errors import DeadlockError, TimeLimitError
from hwloop.virtual.run_queue import VirtualRunQueue
from hwloop.virtual.selector import Lookout, any_real
from hwloop.virtual.sleepers import NEVER_NS
from hwloop.virtual.threads import ProgramThreads, Work
from hwloop.virtual.time_limit import TimeLimit
from hwloop.virtual.wait_report import waits_of

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop

POLL_EVERY = 16
"""Callbacks from one poll of the descriptors to the next while work is ready; time, the other bound, stands still."""

BUSY_CALLBACKS = 10_000
BUSY_SECONDS = 0.02
"""A program that is never at rest would stop the clock. After this many callbacks, time passes as if each took 2 µs."""

IDLE_CALLBACKS = 1000
IDLE_SECONDS = 0.002
"""Nor may IDLE work stop it. After this many IDLE callbacks in a row, time passes; twice as much each time."""

ASK_EVERY = 16
"""Rests that poll no descriptor, at most, where the simulated board announces all that it makes ready: what remains is
the loop's own pipe."""

# Looked up once: each time, a member of an enumeration costs as much as a call.
_NO_WORK, _UNDER_WAY, _LASTING = Work
_IDLE = Priority.IDLE
_INFINITY = math.inf


class VirtualPoller(Poller):
    """Polls the descriptors of a loop in virtual time, and drives its clock.

    Attributes:
        holds: the number of blocks in which the program holds time still.
    """

    # CPython looks up what an object has fast while that is no more than 30 attributes, those of `Poller` included.

    def __init__(
        self,
        selector: Lookout,
        clock: LoopClock,
        run_queue: VirtualRunQueue,
        timers: TimerQueue,
        virtual_clock: VirtualClock,
        threads: ProgramThreads,
        limit: TimeLimit,
        seeded: random.Random | None,
    ) -> None:
        super().__init__(selector, clock, run_queue.inbox)
        self.holds = 0
        self._lookout = selector
        self._ready_now = selector.ready_now
        self._seen = -1  # changes of the watched descriptors, and of the claimed ones
        self._announced = False
        self._threads_running = 0
        self._unasked = 0  # rests without a poll
        self._run_queue = run_queue
        self._timers = timers
        self._virtual_clock = virtual_clock
        self._threads = threads
        self._limit = limit
        self._random = seeded
        self._loop: SelectorEventLoop | None = None
        self._own_pipe = -1
        self._signal_handlers: Mapping[int, object] = {}
        self._polls = 0  # since time has passed
        self._idled = 0  # IDLE callbacks in a row
        self._resting_until = 0.0

    def attach(self, loop: SelectorEventLoop) -> None:
        """Begin to poll for `loop`, which is complete now."""
        self._loop = loop
        self._own_pipe = loop._ssock.fileno()
        self._signal_handlers = loop._signal_handlers

    def close(self) -> None:
        super().close()
        self._loop = None

    def may_skip(self) -> bool:
        """Count a poll while work is ready. Return whether it can be skipped: time stands still, so nothing is due."""
        if (self._polls + 1) % POLL_EVERY:
            self._polls += 1
            return True
        return False

    def poll(self, when: float | None) -> Found:
        run_queue, found = self._run_queue, None
        self._polls += 1
        if run_queue.ordinary or run_queue.found or run_queue.urgent.waiting or run_queue.poll_after_batch:
            self._idled = 0
            found = self._pass_busily()
        else:
            if run_queue.urgent.idle:
                when = self._timers.next_when()
            timer = _INFINITY if when is None or when > FOREVER else when
            if (found := self._rest_with_board(timer)) is None:
                found = self._rest_with_all(timer)
        if self._random is not None and len(found) > 1:
            self._random.shuffle(found)
        return found

    def _pass_busily(self) -> Found:
        """There is work: poll now and then, and make sure that it can't hold up everything else for ever."""
        if self._polls % POLL_EVERY:
            return []
        if self._polls >= BUSY_CALLBACKS:
            self._pass_time(BUSY_SECONDS)
        return self._ready_descriptors()

    def _pass_time(self, seconds: float) -> None:
        """Let time pass although the program is not at rest: `seconds`, or less if something else is due before."""
        self._polls = 0
        while self._threads.work() is _UNDER_WAY:
            time.sleep(self._threads.pause)
        self._run_queue.open_inbox(len(self._run_queue.inbox))
        self._virtual_clock.written = True
        if not self._virtual_clock.settle() and not self._is_held_up():
            now = self._virtual_clock.seconds
            timer = self._timers.next_when()
            # A timer that is due again and again, each time at once, holds up the clock no more than work does.
            self._jump_to(now + seconds if timer is None or timer <= now else min(timer, now + seconds))

    def _rest_with_board(self, timer: float) -> Found | None:
        """Rest while only the simulated board and its buses can end the wait. Return None where there is more to it.

        `_rest_with_all` would do the same in the same order; this is the part of it that most rests need.
        """
        clock, run_queue, new_timers = self._virtual_clock, self._run_queue, self._timers.new
        urgent = run_queue.urgent
        if self._seen != self._lookout.changes + clock.claims:
            self._look_at_descriptors()
        if not self._announced or urgent.idle or self.holds or self._polls >= BUSY_CALLBACKS:
            return None
        board, running = clock.only, _thread._count()
        if board is None or clock.sleeping or clock.busy or run_queue.inbox or self._threads.jobs_made:
            return None
        if running > len(clock.members) and not self._threads.were_all_before():
            return None
        self._resting_until = timer
        self._threads_running = running
        self._unasked += 1
        written, waiting, limit = True, timer == _INFINITY, self._limit
        ends_ns = limit.ends_ns
        due_ns = NEVER_NS if waiting else to_ns(timer)
        now_ns = clock.now_ns()
        until_ns = due_ns if now_ns < due_ns < ends_ns else min(max(due_ns, now_ns), ends_ns)
        if waiting:
            limit.begin_wait()
        while True:
            if clock.announced or self._signal_handlers or self._unasked >= ASK_EVERY:
                ready_now = self._ready_now
                if found := ready_now():
                    if found[0][0] == self._own_pipe or len(found) > 1:
                        found = self._without_own_pipe(found)
                    return found or None
                self._unasked = 0
                clock.announced = False
            if written and (written := board.run_readable()):
                board.play(clock.now_ns(), clock.jump, self._is_concerned)
            elif clock.woken:
                clock.settle(self._rests_until_after)
                if clock.sleeping or clock.busy or clock.only is None:
                    return None
            elif moments := board.play(until_ns, clock.jump, self._is_concerned):
                self._polls = 0
                if waiting and (reason := limit.stalled(moments)) is not None:
                    raise TimeLimitError(self._with_waits(reason))
            else:
                break
            if run_queue.ordinary or urgent.waiting or run_queue.poll_after_batch or new_timers:
                return []
            if run_queue.inbox or _thread._count() != running:
                return None
        if timer > clock.seconds:
            if due_ns > until_ns or waiting:
                return None
            clock.jump(due_ns, timer)
            self._polls = 0
        return []

    def _rest_with_all(self, timer: float) -> Found:
        """Rest, whatever may end it: wait in the real world where that may be, else jump."""
        clock, settle, run_queue = self._virtual_clock, self._virtual_clock.settle, self._run_queue
        ready_now, asked, beside = self._ready_now, self._rests_until_after, self._threads
        inbox, threads, members = run_queue.inbox, _thread._count, clock.members
        idle = bool(run_queue.urgent.idle)
        clock.written = True
        self._resting_until = -_INFINITY if idle else timer
        due_ns = None if timer == _INFINITY else to_ns(timer)
        waiting = False
        while True:
            found = ready_now()
            if found:
                found = self._without_own_pipe(found)
            if run_queue.ordinary or run_queue.urgent.waiting or run_queue.poll_after_batch or self._timers.new:
                return found  # the handler of a signal, or what observes the board, has queued something
            if found and not (idle := self._only_idle(found)):
                if self._polls >= BUSY_CALLBACKS:
                    self._pass_time(BUSY_SECONDS)  # a descriptor that is always ready stops the clock no more than work
                self._idled = 0
                return found
            work = _NO_WORK
            if beside.jobs_made or threads() > len(members):
                work = beside.work()
                if work is _UNDER_WAY:
                    self._wait_really(beside.pause)
                    continue
            if inbox:
                run_queue.open_inbox(1)
                self._idled = 0
                return found
            if settle(asked):
                continue
            if timer <= clock.seconds:
                if timer:  # 0 after a garbage collection: poll again
                    if self._polls >= BUSY_CALLBACKS:
                        self._pass_time(BUSY_SECONDS)
                    self._idled = 0
                return found
            if idle:
                self._idled += 1
                if self._idled % IDLE_CALLBACKS or self._is_held_up():
                    return found
                stride = IDLE_SECONDS * 2.0 ** min(self._idled // IDLE_CALLBACKS - 1, 50)
                self._jump_to(min(timer, clock.seconds + stride))
                continue
            if self.holds or clock.busy:
                # A turn that takes long does not report its end: check again soon.
                self._wait_really(0.01 if clock.busy else None)
                continue
            if work is _LASTING:
                self._keep_pace(timer)
                continue
            if timer == _INFINITY and not waiting:
                waiting = True
                self._limit.begin_wait()
            if self._jump(timer, due_ns):
                if not settle(asked) and timer <= clock.seconds:
                    return []
                if waiting and (reason := self._limit.stalled()) is not None:
                    if not self._has_real_descriptors():
                        raise TimeLimitError(self._with_waits(reason))
                    waiting = False
            elif beside.may_wake():
                if beside.jobs():
                    self._keep_pace(timer)  # so that a limit ends it
                else:
                    self._wait_really(0.05)
            elif (self._loop is not None and self._loop._signal_handlers) or self._has_real_descriptors():
                self._wait_really(None)
            else:
                at = f"(virtual time {clock.seconds:.6f} s)"
                raise DeadlockError(self._with_waits(f"nothing can ever wake this program {at}"))

    def _look_at_descriptors(self) -> None:
        """Find out whether the clock announces all that may make a watched descriptor ready."""
        clock, keys = self._virtual_clock, self.descriptors.keys
        self._seen = self._lookout.changes + clock.claims
        watchers = [watcher for key in keys.values() for watcher in key.data or () if watcher is not None]
        self._announced = not (
            any(watcher.priority is _IDLE for watcher in watchers)
            or any(key.events & EVENT_WRITE for key in keys.values())  # nobody announces that there is room again
            or any_real(keys.keys() - {self._own_pipe}, clock.announces)
        )
        clock.announced = True  # one that is watched since may have been ready before

    def _is_concerned(self) -> bool:
        """Return whether an event on the board may have given the loop something to do."""
        clock, run_queue = self._virtual_clock, self._run_queue
        return bool(
            clock.announced
            or clock.woken
            or run_queue.inbox
            or run_queue.ordinary
            or run_queue.urgent.waiting
            or run_queue.poll_after_batch
            or self._timers.new
            or _thread._count() != self._threads_running
            or (self._signal_handlers and self._ready_now())
        )

    def _only_idle(self, found: Found) -> bool:
        """Return whether only sources of IDLE priority are ready: the program is at rest all the same."""
        for fd, _ in found:
            key = self.descriptors.keys.get(fd)
            for watcher in key.data if key is not None else ():
                if watcher is not None and watcher.priority is not _IDLE:
                    return False
        return True

    def _rests_until_after(self, when_ns: int) -> bool:
        """Return whether nothing wakes the loop until after `when_ns`. Called by a thread in its turn, in a rest."""
        if self._run_queue.inbox or self.holds or self._resting_until <= (when_ns + 1) / 1e9:
            return False
        clock, threads = self._virtual_clock, self._threads
        running = threads.jobs_made or _thread._count() > len(clock.members)
        if running and threads.work() is not _NO_WORK:
            return False
        unseen = self._seen != self._lookout.changes + clock.claims
        asked = clock.announced or unseen or self._signal_handlers or not self._announced
        return not (asked and self._ready_descriptors())

    def _is_held_up(self) -> bool:
        """Return whether time stands still for a bus thread, or because the program holds it."""
        return bool(self.holds or self._virtual_clock.busy)

    def _ready_descriptors(self) -> Found:
        return self._without_own_pipe(self._ready_now())

    def _without_own_pipe(self, found: Found) -> Found:
        """Return the ready descriptors except the loop's own pipe, which is emptied at once.

        The moment at which a thread or a signal writes to it must not change the order of anything.
        """
        for fd, _ in found:
            if fd == self._own_pipe and self._loop is not None:
                self._loop._read_from_self()
                return [entry for entry in found if entry[0] != fd]
        return found

    def _wait_really(self, seconds: float | None) -> None:
        """Wait in real time for a descriptor or a call from another thread."""
        self.is_sleeping: bool = True
        try:
            if not self._run_queue.inbox or seconds is not None:
                self._lookout.select(seconds)
        finally:
            self.is_sleeping = False

    def _keep_pace(self, timer: float) -> None:
        """Let time pass at its real pace for a moment, for a thread that takes part in the real world."""
        began = time.monotonic()
        next_ns = self._virtual_clock.next_ns()
        left = (timer if next_ns is None else min(timer, next_ns / 1e9)) - self._virtual_clock.seconds
        self._wait_really(max(0.0, min(left, 0.02)))
        self._jump_to(min(timer, self._virtual_clock.seconds + time.monotonic() - began))

    def _jump_to(self, timer: float) -> bool:
        return self._jump(timer, None if timer == _INFINITY else to_ns(timer))

    def _jump(self, timer: float, due_ns: int | None) -> bool:
        """Jump to a timer's time, or to an earlier event on the board or in a thread. False if there is neither."""
        clock = self._virtual_clock
        when_ns, seconds = clock.next_ns(), 0.0
        if due_ns is not None and (when_ns is None or due_ns <= when_ns):
            when_ns, seconds = due_ns, timer
        if when_ns is None:
            return False
        if when_ns > self._limit.ends_ns:
            clock.jump(int(self._limit.ends_ns))
            raise TimeLimitError(self._with_waits(self._limit.reason()))
        clock.jump(when_ns, seconds)
        self._polls = 0
        return True

    def _has_real_descriptors(self) -> bool:
        """Return whether a descriptor of the real world is watched, on which anything may happen at any time."""
        # The loop's own pipe does not count: only a thread or a signal writes to it.
        return any_real(self.descriptors.keys.keys() - {self._own_pipe}, self._virtual_clock.claimed)

    def _with_waits(self, reason: str) -> str:
        """Return the reason for an error, followed by the place where each task and thread waits."""
        return "\n".join([reason, *waits_of(asyncio.all_tasks(self._loop)), *self._threads.waits()])
