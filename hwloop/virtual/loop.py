"""The loop in virtual time: `hwloop.SimLoop`, or `hwloop.run(main(), clock="virtual")`.

A program that waits for an hour should be tested in a millisecond, and one that fails once in two hundred runs should
fail again when asked to. So here time stands still while anything can run and jumps when nothing can; a program that
nothing could ever wake is told so; and orders that asyncio leaves open follow a seed. Promised:

- time passes only when nothing is ready, nothing that is watched is readable, and no thread is at work (`beside`);
- what is due on a simulated board comes before what is due in the program, and happens exactly at its time;
- the same program, board and seed give the same trace, as long as nothing outside of them takes part.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import itertools
import math
import random
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, Unpack

from hwloop.core.clock import to_ns
from hwloop.core.event_loop import EventLoop
from hwloop.core.gc_schedule import CountedCollecting
from hwloop.core.ordered_sets import WeakOrderedSet
from hwloop.core.urgency import Priority
from hwloop.virtual.clock import FOREVER, DeadlockError, TimeLimitError, VirtualClock
from hwloop.virtual.seeding import SeededBands, StepOrder, chosen_seed, how_to_repeat
from hwloop.virtual.selector import Lookout, any_real
from hwloop.virtual.stable_order import Future, Task, asyncio_keeps_order, in_order
from hwloop.virtual.threads import WRAP_FUTURE, Beside, Inbox, SerialExecutor, Work
from hwloop.virtual.time_limit import TimeLimit, chosen_limit
from hwloop.virtual.wait_report import waits_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LOOK_EVERY = 16
"""Callbacks from one look at descriptors to the next while work is ready: time, which bounds it else, stands still."""

BUSY_CALLBACKS = 10_000
BUSY_SECONDS = 0.02
"""A program that is never at rest would stop the clock. After so many callbacks, time passes as if each took 2 µs."""

IDLE_CALLBACKS = 1000
IDLE_SECONDS = 0.002
"""Nor may IDLE work stop it. After so many IDLE callbacks in a row, time passes; twice as much each time."""


# Looked up once: each time, a member of an enumeration costs as much as a call.
_NO_WORK, _UNDER_WAY, _LASTING = Work
_IDLE = Priority.IDLE
_INFINITY = math.inf

_EAGER: Any = getattr(asyncio, "eager_task_factory", None)


class SimLoop(CountedCollecting, EventLoop):  # type: ignore[misc]  # as for EventLoop
    """An event loop on a virtual clock.

    Parameters:
        seed: which of the orders that asyncio leaves open: those of tasks that are ready together, and of descriptors
            that are readable together. "random" takes another one each time; None (and no HWLOOP_SEED in the
            environment) keeps first come, first served. A failure tells the seed and how to run it again.
        limit: virtual seconds for which one run of the loop may last; longer ones raise `TimeLimitError`. inf means no
            limit. Without it and HWLOOP_LIMIT, only a wait that can't end by itself is limited: see docs/simulation.md.
        clock: shared with the simulated board that the program uses; by default a new one.

    Attributes:
        clock: its virtual clock.
        seed: the seed in use, or None.
    """

    if TYPE_CHECKING:  # asyncio's own, which its stubs leave out
        _inbox: Inbox
        _default_executor: Executor | None
        _ssock: socket.socket
        _selector: Lookout
        _signal_handlers: dict[int, asyncio.Handle]

        def _read_from_self(self) -> None: ...
        def _do_shutdown(self, done: asyncio.Future[None]) -> None: ...

    _closed = True  # until it is made, so that one whose making is refused has nothing to close

    def __init__(
        self,
        seed: int | Literal["random"] | None = None,
        *,
        limit: float | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        if clock is not None and not isinstance(clock, VirtualClock):
            raise TypeError(f"clock must be a hwloop.VirtualClock, not {clock!r}")
        self.seed, self._given = chosen_seed(seed)
        self.clock = clock or VirtualClock()
        if self.clock.closed:
            raise ValueError("this clock has ended with its loop; make a new one for each loop")
        self._limit = self.clock.limit = TimeLimit(self.clock, chosen_limit(limit))
        self._beside = Beside(self.clock)
        self._random = None if self.seed is None else random.Random(self.seed)
        self._holds = 0
        self._looks = 0  # since time has passed
        self._idled = 0  # IDLE callbacks in a row
        self._resting_until = 0.0
        self._order = None if self._random is None else StepOrder(self._random)
        self.next_task_number = itertools.count(1).__next__
        self._names = itertools.count(1)
        self.next_future_number = itertools.count(1).__next__
        super().__init__(Lookout())
        self._own_pipe = self._ssock.fileno()
        self.schedule_gc("auto")
        self._asyncgens = WeakOrderedSet()
        self._inbox = Inbox(self._beside.sender)
        self._slice = 0.0  # look after each callback; what a look costs is saved in `_wait`
        if self._random is not None:
            self._bands = SeededBands(self._deadline_missed, self._note_wait, self._random)

    def time(self) -> float:
        """Seconds of the virtual clock."""
        return self.clock.seconds

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Time stands still in this block: for what only the real world ends, as a subprocess or another machine."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    # What asyncio's own loop does, with time in mind.

    def run_forever(self) -> None:
        self.clock.driver = threading.get_ident()
        self._limit.begin_run()
        self._beside.begin_run()
        with asyncio_keeps_order():
            super().run_forever()

    def run_until_complete(self, future: Any) -> Any:
        try:
            return super().run_until_complete(future)
        except Exception as error:
            if self.seed is not None and not any("seed" in note for note in getattr(error, "__notes__", ())):
                error.add_note(how_to_repeat(self.seed, self._given))
            raise

    def close(self) -> None:
        if not (self.is_running() or self.is_closed()):
            super().close()
            self.clock.close()
            self._beside.forget()
            if self._order is not None:
                self._order.reset()
        else:
            super().close()

    def create_future(self) -> asyncio.Future[Any]:
        caller = sys._getframe(1)
        if caller.f_code is WRAP_FUTURE:
            self._beside.note_job(caller.f_locals["future"])
        return Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        if self._task_factory is not None and self._task_factory is not _EAGER:
            task = super().create_task(coro, **options)
            if self._order is not None:
                self._order.note(task)
            return task
        self._check_closed()
        if self._task_factory is not None:
            options.setdefault("eager_start", True)
        if options.get("name") is None:
            options["name"] = f"Task-{next(self._names)}"  # numbered by the loop: the same in each run of a process
        made: Any = Task(coro, loop=self, **options)
        hash(made)  # gives it its number
        if made._source_traceback:
            del made._source_traceback[-1]
        return made  # type: ignore[no-any-return]

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        return in_order(await super().create_server(*args, **kwargs))

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> Any:
        return in_order(await super().create_unix_server(*args, **kwargs))

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in asyncio, while time stands still. Jobs of the default executor run one after the other."""
        if executor is None and self._default_executor is None:
            self.set_default_executor(SerialExecutor())
        return super().run_in_executor(executor, func, *args)

    async def shutdown_default_executor(self, timeout: float | None = 300.0) -> None:
        """As in asyncio; a job that never ends, because its thread waits for what never comes, is given up."""
        executor = self._default_executor
        if not isinstance(executor, SerialExecutor):
            with self.hold():
                await super().shutdown_default_executor(*(() if sys.version_info < (3, 12) else (timeout,)))
            return
        self._executor_shutdown_called = True
        done = self.create_future()
        thread = threading.Thread(target=self._do_shutdown, args=(done,), daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            waits = "\n".join(self._beside.waits())
            warnings.warn(f"a thread job has not ended and is given up\n{waits}", RuntimeWarning, stacklevel=2)
            executor.abandon()
        else:
            thread.join()

    # How time passes.

    def _look(self) -> float:
        if (
            (self._ready or self._events or self._bands.waiting)
            and not (self._new_timers or self._tolerant.waiting)
            and (self._looks + 1) % LOOK_EVERY
        ):
            self._looks += 1  # between two looks of `_pass_busily`: nothing can be due, for time stands still
            time = self.clock.seconds
        else:
            time = super()._look()
        if self._order is not None:
            self._order.arrange(self._ready)
        return time

    def _take_inbox(self) -> None:
        """What other threads sent comes in when the loop is at rest, or else it would come at any moment."""

    def _wait(self, when: float | None) -> list[tuple[int, int]]:
        self._looks += 1
        if self._ready or self._events or self._bands.waiting or self._stopping:
            self._idled = 0
            found = self._pass_busily()
        else:
            if self._bands.idle:
                when = self._tolerant.wake_by(self._timers[0][0] if self._timers else None)
            found = self._rest(math.inf if when is None or when > FOREVER else when)
        if self._random is not None and len(found) > 1:
            self._random.shuffle(found)
        return found

    def _pass_busily(self) -> list[tuple[int, int]]:
        """There is work: look now and then, and make sure that it can't hold up everything else for ever."""
        if self._looks % LOOK_EVERY:
            return []
        if self._looks >= BUSY_CALLBACKS:
            self._pass_time(BUSY_SECONDS)
        return self._look_at_descriptors()

    def _pass_time(self, seconds: float) -> None:
        """Let so much time pass, or less if something else is due before, although the program is not at rest."""
        self._looks = 0
        while self._beside.work() is _UNDER_WAY:
            time.sleep(self._beside.pause)
        self._open_inbox(len(self._inbox))
        self.clock.written = True
        if not self.clock.settle() and not self._held_up():
            now = self.time()
            timer = self._tolerant.wake_by(self._timers[0][0] if self._timers else None)
            # One that is due again and again, each time at once, holds up the clock no more than work does.
            self._jump(now + seconds if timer is None or timer <= now else min(timer, now + seconds))

    def _rest(self, timer: float) -> list[tuple[int, int]]:
        """Nothing is ready but IDLE work: wait in the real world where that may bring something, else jump."""
        clock, settle, bands = self.clock, self.clock.settle, self._bands
        look, asked, beside = self._selector.look, self._at_rest_until_after, self._beside
        ready, inbox, threads, members = self._ready, self._inbox, _thread._count, clock.members
        idle = bool(bands.idle)
        clock.written = True
        self._resting_until = -math.inf if idle else timer
        waiting = False
        while True:
            found = look()
            if found:
                found = self._without_own_pipe(found)
            if ready or bands.waiting or self._stopping:
                return found  # a signal's handler has found something to do
            if found and not (idle := self._only_idle(found)):
                if self._looks >= BUSY_CALLBACKS:
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
                self._open_inbox(1)
                self._idled = 0
                return found
            if settle(asked):
                continue
            if timer <= clock.seconds:
                if timer:  # 0 after a garbage collection: look again
                    if self._looks >= BUSY_CALLBACKS:
                        self._pass_time(BUSY_SECONDS)
                    self._idled = 0
                return found
            if idle:
                self._idled += 1
                if self._idled % IDLE_CALLBACKS or self._held_up():
                    return found
                stride = IDLE_SECONDS * 2.0 ** min(self._idled // IDLE_CALLBACKS - 1, 50)
                self._jump(min(timer, clock.seconds + stride))
                continue
            if self._holds or clock.busy:
                # A turn that takes long tells nobody of its end: look again soon.
                self._wait_really(0.01 if clock.busy else None)
                continue
            if work is _LASTING:
                self._keep_pace(timer)
                continue
            if timer == _INFINITY and not waiting:
                waiting = True
                self._limit.begin_wait()
            if self._jump(timer):
                if not settle(asked) and timer <= clock.seconds:
                    return []
                if waiting and (reason := self._limit.stalled()) is not None:
                    if not self._real_descriptors():
                        raise TimeLimitError(self._who_waits(reason))
                    waiting = False
            elif beside.may_wake():
                if beside.jobs():
                    self._keep_pace(timer)  # so that a limit ends it
                else:
                    self._wait_really(0.05)
            elif self._signal_handlers or self._real_descriptors():
                self._wait_really(None)
            else:
                raise DeadlockError(self._who_waits("nothing can ever wake this program"))

    def _only_idle(self, found: list[tuple[int, int]]) -> bool:
        """Whether only sources of IDLE priority are ready: the program is at rest all the same."""
        for fd, _ in found:
            key = self._watchers.get(fd)
            for watcher in key.data if key is not None else ():
                if watcher is not None and watcher._priority is not _IDLE:
                    return False
        return True

    def _at_rest_until_after(self, when_ns: int) -> bool:
        """Asked from a thread whose turn it is while the loop rests: whether nothing would wake the loop before."""
        if self._inbox or self._holds or self._beside.work() is not _NO_WORK:
            return False
        if self._resting_until <= (when_ns + 1) / 1e9:
            return False
        return not self._look_at_descriptors()

    def _held_up(self) -> bool:
        """Whether time stands still for a bus thread, or because the program says so."""
        return bool(self._holds or self.clock.busy)

    def _look_at_descriptors(self) -> list[tuple[int, int]]:
        return self._without_own_pipe(self._selector.look())

    def _without_own_pipe(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the descriptors that are ready, but for the loop's own pipe, which is emptied at once.

        When a thread or a signal writes to it must not change the order of anything.
        """
        for fd, _ in found:
            if fd == self._own_pipe:
                self._read_from_self()
                return [entry for entry in found if entry[0] != fd]
        return found

    def _wait_really(self, seconds: float | None) -> None:
        """Wait in real time for a descriptor or a call from another thread."""
        self._sleeping = True
        try:
            if not self._inbox or seconds is not None:
                self._selector.select(seconds)
        finally:
            self._sleeping = False

    def _keep_pace(self, timer: float) -> None:
        """Let time pass as fast as it really does, for a moment, for a thread that takes part in the real world."""
        began = time.monotonic()
        next_ns = self.clock.next_ns()
        left = (timer if next_ns is None else min(timer, next_ns / 1e9)) - self.clock.seconds
        self._wait_really(max(0.0, min(left, 0.02)))
        self._jump(min(timer, self.clock.seconds + time.monotonic() - began))

    def _jump(self, timer: float) -> bool:
        """Go on to a timer's time, or to what happens on the board or in a thread before. False if there is neither."""
        clock = self.clock
        when_ns, seconds = clock.next_ns(), 0.0
        if timer != _INFINITY:
            due_ns = to_ns(timer)
            if when_ns is None or due_ns <= when_ns:
                when_ns, seconds = due_ns, timer
        if when_ns is None:
            return False
        if when_ns > self._limit.ends_ns:
            raise TimeLimitError(self._who_waits(self._limit.reason()))
        clock.jump(when_ns, seconds)
        self._looks = 0
        return True

    def _open_inbox(self, count: int) -> None:
        """Take in so many of the calls that other threads sent."""
        for handle in self._inbox.take(count):
            self._add_ready(handle)

    def _real_descriptors(self) -> bool:
        """Whether a descriptor of the real world is watched, on which anything may happen at any time."""
        # The loop's own pipe: only a thread or a signal writes to it.
        return any_real(self._watchers.keys() - {self._own_pipe}, self.clock.claimed)

    def _who_waits(self, reason: str) -> str:
        return "\n".join(
            [f"{reason} (virtual time {self.time():.6f} s)", *waits_of(asyncio.all_tasks(self)), *self._beside.waits()]
        )
