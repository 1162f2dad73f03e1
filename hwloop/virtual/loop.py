"""The loop in virtual time: `hwloop.SimLoop`, or `hwloop.run(main(), clock="virtual")`.

A program that waits for an hour should be tested in a millisecond, and one that fails once in two hundred runs should
fail again on request. So time stands still while anything can run and jumps when nothing can; a program that nothing
could ever wake gets an error; and orders that asyncio leaves open follow a seed. Guaranteed:

- time passes only when nothing is ready, nothing that is watched is readable, and no thread is at work;
- events on a simulated board come before timers of the program that are due at the same time, and happen exactly at
  their time;
- the same program, board and seed give the same trace, as long as nothing else takes part.

`SimLoop` is an `EventLoop` with other parts: a poller that jumps instead of waiting, a run queue with a seed, and
garbage collections that are counted rather than timed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack

from hwloop.core.dispatch import Dispatcher
from hwloop.core.event_loop import EventLoop
from hwloop.core.gc_schedule import CountedGcSchedule
from hwloop.core.loop_clock import LoopClock
from hwloop.core.ordered_sets import WeakOrderedSet
from hwloop.core.parts import Parts
from hwloop.core.priority_queues import PriorityQueues
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.dispatch import VirtualDispatcher
from hwloop.virtual.poller import VirtualPoller
from hwloop.virtual.run_queue import Inbox, VirtualRunQueue
from hwloop.virtual.seeding import SeededPriorityQueues, chosen_seed, how_to_repeat
from hwloop.virtual.selector import Lookout
from hwloop.virtual.stable_order import Future, Task, asyncio_keeps_order, in_order
from hwloop.virtual.threads import WRAP_FUTURE, ProgramThreads, SerialExecutor
from hwloop.virtual.time_limit import TimeLimit, chosen_limit

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_EAGER: Any = getattr(asyncio, "eager_task_factory", None)


class VirtualParts(Parts):
    """The parts of a loop in virtual time."""

    run_queue: VirtualRunQueue
    poller: VirtualPoller
    dispatcher_class: type[Dispatcher] = VirtualDispatcher

    def __init__(
        self, clock: VirtualClock, threads: ProgramThreads, limit: TimeLimit, seeded: random.Random | None
    ) -> None:
        self._virtual_clock = clock
        self._threads = threads
        self._limit = limit
        self._random = seeded
        self._lookout = Lookout()
        super().__init__(self._lookout)
        self.dispatcher.slice = 0.0  # poll after each callback

    def make_clock(self) -> LoopClock:
        return LoopClock(self._virtual_clock.time)

    def make_run_queue(self) -> VirtualRunQueue:
        missed, found = self.monitor.deadline_missed, self.monitor.note_found
        seeded = self._random
        urgent = PriorityQueues(missed, found) if seeded is None else SeededPriorityQueues(missed, found, seeded)
        return VirtualRunQueue(self.urgencies, self.clock, urgent, Inbox(self._threads.sender), seeded)

    def make_poller(self) -> VirtualPoller:
        return VirtualPoller(
            self._lookout,
            self.clock,
            self.run_queue,
            self.timers,
            self._virtual_clock,
            self._threads,
            self._limit,
            self._random,
        )

    def make_gc_schedule(self) -> CountedGcSchedule:
        return CountedGcSchedule(self.clock)


class SimLoop(EventLoop):
    """An event loop on a virtual clock.

    Parameters:
        seed: chooses among the orders that asyncio leaves open: those of tasks that are ready together, and of
            descriptors that are readable together. "random" chooses another seed each time; None (and no HWLOOP_SEED
            in the environment) keeps first come, first served. A failure shows the seed and how to run it again.
        limit: virtual seconds for which one run of the loop may last; longer ones raise `TimeLimitError`. inf means no
            limit. Without it and HWLOOP_LIMIT, only a wait that can't end by itself is limited (docs/virtual-time.md).
        clock: shared with the simulated board that the program uses; by default a new one.

    Attributes:
        clock: its virtual clock.
        seed: the seed in use, or None.
    """

    parts_class: type[VirtualParts] = VirtualParts
    """Makes the parts, for subclasses that replace some of them."""
    _closed = True  # until the loop is complete, so that one with invalid arguments has nothing to close

    def __init__(
        self,
        seed: int | Literal["random"] | None = None,
        *,
        limit: float | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        if clock is not None and not isinstance(clock, VirtualClock):
            raise TypeError(f"clock must be a hwloop.VirtualClock, not {clock!r}")
        chosen, self._seed_given = chosen_seed(seed)
        self.seed: int | None = chosen
        self.clock: VirtualClock = clock or VirtualClock()
        if self.clock.closed:
            raise ValueError("this clock has ended with its loop; make a new one for each loop")
        self._limit = self.clock.limit = TimeLimit(self.clock, chosen_limit(limit))
        self._threads = ProgramThreads(self.clock)
        self.next_task_number: Callable[[], int] = itertools.count(1).__next__
        self._names = itertools.count(1)
        self.next_future_number: Callable[[], int] = itertools.count(1).__next__
        seeded = None if self.seed is None else random.Random(self.seed)
        parts = self.parts_class(self.clock, self._threads, self._limit, seeded)
        self._virtual_poller = parts.poller
        self._step_order = parts.run_queue.step_order
        super().__init__(parts=parts)
        self._virtual_poller.attach(self)
        self._asyncgens = WeakOrderedSet()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold time still in this block, for events of the real world: a subprocess, or another machine."""
        self._virtual_poller.holds += 1
        try:
            yield
        finally:
            self._virtual_poller.holds -= 1

    # asyncio's calls, with time in mind.

    def run_forever(self) -> None:
        self.clock.driver = threading.get_ident()
        self._limit.begin_run()
        self._threads.begin_run()
        with asyncio_keeps_order():
            super().run_forever()

    def run_until_complete(self, future: Any) -> Any:
        try:
            return super().run_until_complete(future)
        except Exception as error:
            if self.seed is not None and not any("seed" in note for note in getattr(error, "__notes__", ())):
                error.add_note(how_to_repeat(self.seed, self._seed_given))
            raise

    def close(self) -> None:
        if not (self.is_running() or self.is_closed()):
            super().close()
            self.clock.close()
            self._threads.forget()
            if self._step_order is not None:
                self._step_order.reset()
        else:
            super().close()

    def create_future(self) -> asyncio.Future[Any]:
        caller = sys._getframe(1)
        if caller.f_code is WRAP_FUTURE:
            self._threads.note_job(caller.f_locals["future"])
        return Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        if self._task_factory is not None and self._task_factory is not _EAGER:
            task = super().create_task(coro, **options)
            if self._step_order is not None:
                self._step_order.note(task)
            return task
        self._check_closed()
        if self._task_factory is not None:
            options.setdefault("eager_start", True)
        if options.get("name") is None:
            options["name"] = f"Task-{next(self._names)}"  # numbered by the loop: the same in each run of a process
        made: Any = Task.__new__(Task)
        made.number = self.next_task_number()  # asyncio asks for its hash as soon as it is complete
        made.__init__(coro, loop=self, **options)
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
        """As in asyncio; a job that never ends, because nothing can end its thread's wait, is abandoned."""
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
            # A thread without a job ends by itself, however long the machine takes for that.
            with contextlib.nullcontext() if executor.unfinished else self.hold():
                async with asyncio.timeout(timeout):
                    await done
        except TimeoutError:
            waits = "\n".join(self._threads.waits())
            warnings.warn(f"a thread job has not ended and is given up\n{waits}", RuntimeWarning, stacklevel=2)
            executor.abandon()
        else:
            thread.join()
