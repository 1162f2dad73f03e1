"""`Session`: the loop of one test, and whatever ends the test: a program that fails, a wait that nothing can end.

The fixtures of a test, the test itself and `advance()` are runs of one loop, which rests in between: what a program has
started goes on in the next run. The loop is listed as running all the while, so gpiozero's devices wait for it, and no
thread serves them in real time.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from hwloop.core import registry
from hwloop.core.clock import Clock
from hwloop.errors import program_frames
from hwloop.sources.containment import log_outage
from hwloop.testing.conditions import Conditions, NotReached
from hwloop.testing.loops import ObservedLoop, RealLoop, VirtualLoop, ending_in_program, raise_as_it_was, rest
from hwloop.testing.places import is_of_project
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.errors import DeadlockError, TimeLimitError
from hwloop.virtual.sleepers import NEVER_NS
from hwloop.virtual.threads import waits_for_lock
from hwloop.virtual.wait_report import waits_of

T = TypeVar("T")

LIMIT = 100_000.0
"""Virtual seconds after which a run fails that has not ended: more than a day."""

_ADVICE = "@pytest.mark.hwloop(limit=seconds) changes the limit"
CPU_LIMIT = 60.0
"""Seconds of processor time after which a run in virtual time fails, unless the test sets a limit itself."""

_CHECK_EVERY = 4096
"""Steps of the loop between two looks at the limits."""
_CHECK_TURNS = 256
"""Turns of threads between two looks."""

REAL_LIMIT = 60.0
"""The same in real time."""


LOCK_LIMIT = 2.0
"""Real seconds after which a run fails whose program waits for a lock that nothing in virtual time can release."""


class Reported(Protocol):
    """A run of a program."""

    def note_reported(self, failure: BaseException) -> None:
        """Note that the test has failed with this exception."""


class Session:
    """The loop of one test.

    Parameters:
        clock: the clock of the board.
        seed, limit: those of the test.
        is_disturbed: returns whether the test has caused a fault on the board.

    Attributes:
        conditions: what tasks of the test wait for.
        failures: exceptions of callbacks and tasks that nothing has handled.
    """

    conditions: Conditions

    def __init__(self, clock: Clock, seed: Any, limit: float | None, is_disturbed: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_disturbed = is_disturbed
        self._seed = seed
        self._limit = limit
        self._thread = threading.get_ident()
        self._steps = self._turns = 0
        self._began = 0.0
        self._busy_since: float | None = None
        self.raised: list[BaseException] = []
        """The exceptions with which runs have ended so far."""
        self._waits_itself = False  # in this run, not a coroutine of the test
        self.thread_waits: Callable[[], list[str]] = list
        """Returns a line for each thread of a program without a loop, with the place at which it waits."""
        self._main: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._failed: Reported | None = None
        self.failures: list[BaseException] = []
        self._runner = asyncio.Runner(loop_factory=self._make_loop)
        loop: Any = self._runner.get_loop()
        self.loop: ObservedLoop = loop
        self._context = contextvars.copy_context()

    def _make_loop(self) -> ObservedLoop:
        loop: ObservedLoop
        if isinstance(self._clock, VirtualClock):
            loop = VirtualLoop(self._seed, limit=LIMIT if self._limit is None else self._limit, clock=self._clock)
        else:
            loop = RealLoop()
        loop.run_until = self.run_until
        self.conditions = Conditions(loop, self._thread, threading.get_ident)
        loop.dispatcher.after_step = self._on_step
        loop.set_exception_handler(self._on_exception)
        return loop

    def follow_threads(self, waits: Callable[[], list[str]]) -> None:
        """Check conditions and limits after each turn of a thread: for a program without a loop."""
        self.thread_waits = waits
        if isinstance(self._clock, VirtualClock):
            self._clock.after_turn = self._on_turn
            self._clock.is_observed = self.conditions.any

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Run the test in this block, and close the loop at its end."""
        try:
            registry.started(self.loop)
            self._context = contextvars.copy_context()
            try:
                yield
            finally:
                self._runner.close()
        finally:
            registry.ended(self.loop)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a part of the test on its loop: a fixture, the test function, or a sleep."""
        __tracebackhide__ = True
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise RuntimeError("the loop of the test runs already; await there")
        try:
            return self._call(coroutine)
        except BaseException as error:
            if self._waits_itself:
                shortened = program_frames(error.__traceback__)
                error.__traceback__ = None if shortened is error.__traceback__ else shortened
            raise

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True
        try:
            result = self._runner.run(self._guarded(coroutine), context=self._context)
        except DeadlockError as error:
            waiting = self._main
            if waiting is None or waiting.done():
                raise
            error.args = (f"{str(error).partition(chr(10))[0]}\n{self.waits(asyncio.all_tasks(self.loop))}",)
            self.interrupt(None, error)
            result = self.loop.run_until_complete(waiting)  # so that the error has the line at which the test waits
        except BaseException as error:
            self.raised.append(error)
            self._note_unhandled(error)
            raise
        finally:
            self._main = None
        self._raise_unhandled()
        return result

    async def _guarded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True
        self._main = asyncio.current_task()
        code = getattr(coroutine, "cr_code", None)  # the step of an async fixture has none
        self._waits_itself = code is not None and not is_of_project(code.co_filename)
        self._began = time.process_time()
        if (before := self._failure) is not None:  # it failed between two runs
            coroutine.close()
            self._failure = None
            raise_as_it_was(before)
        timer = None
        if not isinstance(self._clock, VirtualClock):
            timer = self.loop.call_later(REAL_LIMIT if self._limit is None else self._limit, self._limit_reached)
        try:
            return await coroutine
        except asyncio.CancelledError as cancelled:
            failure, self._failure = self._failure, None
            if failure is None:
                raise
            if isinstance(failure, DeadlockError):
                failure.__traceback__ = ending_in_program(cancelled.__traceback__)
        finally:
            if timer is not None:
                timer.cancel()
        if self._failed is not None:
            self._failed.note_reported(failure)
        raise_as_it_was(failure)

    def _on_step(self) -> None:
        self.conditions.on_step()
        self._steps += 1
        if not self._steps % _CHECK_EVERY:
            self._check_limits()

    def _on_turn(self) -> None:
        """Check conditions and limits after the turn of a thread, and now and then during one that lasts."""
        clock = self._clock
        assert isinstance(clock, VirtualClock)
        self.conditions.on_step()
        self._turns += 1
        self._busy_since = (self._busy_since or time.monotonic()) if clock.busy else None
        if clock.busy or not self._turns % _CHECK_TURNS:
            self._check_limits()

    def _check_limits(self) -> None:
        if self._main is None or self._main.cancelling():
            return
        if (used := self._used()) > CPU_LIMIT:
            self._end_run(f"{used:.0f} s of processor time have passed")
        if self._busy_since is None:
            return
        lasted = time.monotonic() - self._busy_since
        if lasted > LOCK_LIMIT and (name := self._waits_for_lock()):
            self._end_run(
                f"the thread {name!r} waits in real time, for a lock, an event or a queue that was made before the "
                "test began, and not by the program"
            )
        elif lasted > REAL_LIMIT:
            self._end_run(f"a thread has let no virtual time pass for {REAL_LIMIT:.0f} s: it waits for the real world")

    def _waits_for_lock(self) -> str:
        """Return the name of the thread whose turn it is, if that waits for a lock of Python's own."""
        clock = self._clock
        assert isinstance(clock, VirtualClock)
        for thread in threading.enumerate():
            if thread.ident in clock.members and not clock.sleepers.is_waiting(thread.ident or 0):
                return thread.name if waits_for_lock(thread) else ""
        return ""

    def _used(self) -> float:
        """Return the seconds of processor time since this run began; 0 where something else limits it."""
        if self._limit is not None or not isinstance(self._clock, VirtualClock):
            return 0.0
        return time.process_time() - self._began

    def _limit_reached(self) -> None:
        self._end_run(f"the limit of {REAL_LIMIT if self._limit is None else self._limit:g} s has passed")

    def _end_run(self, reason: str) -> None:
        self._busy_since = None
        waits = self.waits(asyncio.all_tasks(self.loop))
        self.interrupt(None, TimeLimitError(f"{reason}, and this test has not ended; {_ADVICE}\n{waits}"))

    def waits(self, tasks: Iterable[asyncio.Task[Any]]) -> str:
        """Return a line for each of these tasks, and each thread of the program, with the place at which it waits."""
        pending = [task for task in tasks if not (self._waits_itself and task is self._main)]
        return "\n".join([*(waits_of(pending) if pending or not self._waits_itself else ()), *self.thread_waits()])

    def interrupt(self, run: Reported | None, failure: BaseException) -> None:
        """End the test: a program has failed, or nothing can end the wait. Called from any thread."""
        self._failure, self._failed = failure, run
        if threading.get_ident() == self._thread:
            self._cancel_main()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self.loop.call_soon_threadsafe(self._cancel_main)

    def _cancel_main(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context.get("message", ""))
        if not isinstance(error, BaseException):
            loop.default_exception_handler(context)
            return
        if isinstance(error, OSError) and context.get("outage") == "retried":
            if self._is_disturbed():  # and the source goes on by itself
                log_outage(message, error)
                return
            message += "\nno fault of board.faults had begun; an outage after one would be no failure of the test"
        error.add_note(message)
        self.failures.append(error)

    def _raise_unhandled(self) -> None:
        """Raise what a callback or a task has raised, for a program that goes on as if nothing had happened."""
        __tracebackhide__ = True
        if self.failures:
            first = self.failures.pop(0)
            self._note_unhandled(first)
            raise_as_it_was(first)

    def _note_unhandled(self, error: BaseException) -> None:
        texts = collections.Counter(f"{type(each).__name__}: {each}" for each in self.failures if each is not error)
        self.failures.clear()
        for text, times in texts.items():
            error.add_note(f"nothing has handled this either{f' ({times} times)' if times > 1 else ''}: {text}")

    def run_until(self, check: Callable[[], object], timeout: float | None) -> bool:
        """Run the loop, which rests, until `check()` is true. Return whether it is, after `timeout` seconds at most."""
        __tracebackhide__ = True
        return self.call(self._reaches(check, timeout))

    async def _reaches(self, check: Callable[[], object], timeout: float | None) -> bool:
        if timeout is None:
            await self.conditions.wait(check)
            return True
        try:
            await self.conditions.wait(check, timeout)
        except NotReached:
            await rest(self.loop)
            return bool(check())
        return True

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due at its end."""
        if seconds:
            await asyncio.sleep(seconds)
        await rest(self.loop)

    def sleep_here(self, seconds: float) -> None:
        """Sleep on the thread of the test: run the loop meanwhile, or block it where it runs."""
        __tracebackhide__ = True
        if asyncio._get_running_loop() is None:
            self.call(self.pass_time(seconds))
        else:  # a callback sleeps, and the loop makes no step meanwhile
            self._clock.sleep(seconds)
            if (used := self._used()) > CPU_LIMIT:
                raise TimeLimitError(
                    f"{used:.0f} s of processor time have passed, and this handler still sleeps; {_ADVICE}"
                )

    def block_here(self, until_ns: int, done: Callable[[], bool]) -> None:
        """Block the thread of the test until a time, or until `done()`: for locks and other waits without the loop."""
        __tracebackhide__ = True
        clock = self._clock
        assert isinstance(clock, VirtualClock)
        if asyncio._get_running_loop() is None:
            self.run_until(done, None if until_ns >= NEVER_NS else (until_ns - clock.now_ns()) / 1e9)
        else:
            clock.block_loop(until_ns, done)
