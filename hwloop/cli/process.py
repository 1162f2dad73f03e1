"""A program as a process: signals end it in order, and its outputs end at their safe level.

Python turns only Ctrl-C into an exception; SIGTERM, which stops a service, and SIGHUP, which a closed terminal sends,
kill a program at once, with relays in any state. Here all three act alike. The first one cancels the main task of the
current run, which may take its time to clean up, or its grace where it has one (`hwloop.service.grace`); the second
one stops waiting for it. Outside of a run, a signal raises
KeyboardInterrupt, as Ctrl-C does. However the program ends, open outputs go to their safe level, and the board is
closed.

This applies only to the process itself: a forked child has the signal handlers from before, and notifies no service.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import CodeType, FrameType
from typing import Any, TypeVar

from hwloop import board as boards
from hwloop import service
from hwloop.board import Board, Choice
from hwloop.cli import Ended, Failure, UsageError, at_signal, die, signals_received
from hwloop.core import registry as running
from hwloop.core.clock import REAL, Clock
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.event_loop import EventLoop
from hwloop.runner import Hosting, new_event_loop
from hwloop.service import lifecycle
from hwloop.service.grace import Grace, stop_within
from hwloop.service.systemd import LoopNotifier

T = TypeVar("T")

MOST_ATTEMPTS = 5
"""How often the end of the program's grace raises an exception in it, before the process ends in any case."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process:
    """Supervises and follows the runs that a program starts while `hosted` lasts (`hwloop.core.registry`).

    Attributes:
        started: whether there was one, in the main thread.
        mains: the code of the coroutines that were run, if known.
        check_main: called once, with the code of the coroutine of the next run; what it raises keeps that from running.
        signalled: called with the number of each signal that ends the program, in the signal handler; None for nothing.
        hosting: has the grace that the program has after a signal; None for no bound.
    """

    def __init__(self) -> None:
        self.started: bool = False
        self.mains: list[CodeType | None] = []
        self.check_main: Callable[[CodeType | None], None] | None = None
        self.signalled: Callable[[int], object] | None = None
        self.hosting: Hosting | None = None
        self._notifier = LoopNotifier()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Future[Any] | None = None
        self._last_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._cancelled: asyncio.Future[Any] | None = None
        self._received = 0
        self._forced = False
        self._closing = False
        self._grace: Grace | None = None
        self._given_up = 0
        self._program_ended = False
        self._replaced: dict[int, Any] = {}

    def run(
        self,
        main: Callable[[], Coroutine[Any, Any, T]],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        debug: bool = False,
    ) -> T:
        """Run `main()` on a new loop and return its result. Raises `Ended` if a signal cancelled it.

        As with `asyncio.run`, a coroutine that ignores its cancellation ends by itself.
        """
        runner = asyncio.Runner(debug=debug or None, loop_factory=loop_factory)
        try:
            loop = runner.get_loop()
            if isinstance(loop, EventLoop):
                return runner.run(main())
            # Other loops do not report their runs.
            result: T = self.run_main(loop, loop.run_until_complete, main())
            return result
        finally:
            if not self._forced:  # closing would wait for the tasks that do not end
                runner.close()

    def close(self) -> None:
        """Close the outputs at their safe level, and ignore signals from now on. Harmless when repeated."""
        self._closing = True
        self.leave_safe()

    def leave_safe(self) -> None:
        """Close the outputs that the program left open, which sets them to their safe level.

        A failure does not keep the others open, and no signal interrupts it.
        """
        failures = []
        with DeferredSignals():
            gpio = sys.modules.get("hwloop.sources.gpio")
            for output in gpio.outputs() if gpio is not None else ():
                try:
                    output.close()
                except BaseException as error:
                    failures.append(f"hwloop: {output.name} could not be left at its safe level: {error}")
        for failure in failures:  # last: there may be no reader
            with contextlib.suppress(OSError):
                print(failure, file=sys.stderr)

    # Called by `hwloop.core.registry`.

    def run_main(self, loop: asyncio.AbstractEventLoop, run: Callable[[Any], Any], future: Any) -> Any:
        """Run `future` on `loop` by `run`, asyncio's `run_until_complete`; a signal cancels it."""
        if threading.current_thread() is not threading.main_thread():
            return run(future)
        self._take_up(loop)
        if self._forced:  # the rest would wait for the tasks that do not end
            if asyncio.iscoroutine(future):
                future.close()
            raise Ended(self._received, forced=True)
        check, self.check_main = self.check_main, None
        if check is not None:
            try:
                check(_code_of(future))
            except BaseException:
                if asyncio.iscoroutine(future):
                    future.close()
                elif isinstance(future, asyncio.Task):
                    future.cancel()  # its runner ends it
                raise
        is_new = not asyncio.isfuture(future)
        main = asyncio.ensure_future(future, loop=loop)
        if is_new:
            main._log_destroy_pending = False  # as asyncio does for its own tasks
        if isinstance(main, asyncio.Task):
            self.mains.append(_code_of(main))
        before = self._main, self._loop
        self._main, self._loop = main, loop
        try:
            return run(main)
        except asyncio.CancelledError:
            if self._cancelled is main:
                raise Ended(self._received) from None
            raise
        finally:
            self._cancelled = None
            self._main, self._loop = before
            if main.done() and not main.cancelled():
                main.exception()  # the caller has it raised, and can't retrieve it

    def _take_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a run; on another loop than the last one, forget earlier signals."""
        if self._last_loop is None or self._last_loop() is not loop:
            self._last_loop, self._received, self._forced = weakref.ref(loop), 0, False
            self._end_grace()

    def loop_started(self, loop: EventLoop) -> None:
        if threading.current_thread() is threading.main_thread():
            self.started = True
            if self._loop is None:
                self._take_up(loop)
                self._loop = loop
        self._notifier.loop_started(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        self._notifier.loop_ended(loop)
        if self._main is None and self._loop is loop:
            self._loop = None

    def _end_run(self, main: asyncio.Future[Any] | None) -> None:
        self._report_stopping()
        if self._grace is not None and self._loop is not None:
            self._grace.begin(self._loop)
        if main is None:
            raise Ended(self._received)
        self._cancelled = main
        main.cancel()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one cancels the current run; later ones abort it, except for the clean-up."""
        if self._closing:
            return
        signals_received.append(number)
        if self.signalled is not None:
            self.signalled(number)
        if at_signal:
            at_signal[-1](number)
            return
        main, loop = self._main, self._loop
        if loop is not None and not self._received and not (main is not None and main.done()):
            self._received = number
            self._begin_grace(number)
            # The loop may be asleep, or busy with its own state.
            loop.call_soon_threadsafe(self._end_run, main)
            return
        if loop is not None:
            self._received, self._forced = number, True
        elif self._grace is None:
            self._received = number
            self._begin_grace(number)
            self._report_stopping()
        raise Ended(number, forced=self._forced)

    def _report_stopping(self) -> None:
        service.stopping(within=stop_within(None if self.hosting is None else self.hosting.grace))

    def _begin_grace(self, number: int) -> None:
        if self.hosting is not None:
            self._grace = Grace(self.hosting.grace, signal.Signals(number).name, self._give_up)
            if self.hosting.clock is REAL:
                self._grace.begin_alarm()

    def _end_grace(self) -> None:
        if self._grace is not None:
            self._grace.end()
            self._grace = None

    def program_ended(self) -> None:
        """Note that the program's code has been left: from now on nothing is interrupted, unless it takes very long."""
        self._program_ended = True

    def _give_up(self) -> None:
        """End the program without waiting for anything, when its grace is over."""
        self._given_up += 1
        self._forced = True
        if self._given_up > MOST_ATTEMPTS:  # the program catches and drops it each time
            self.close()
            die(self._received)
        if not self._program_ended:
            raise Ended(self._received, forced=True)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Handle signals, and supervise the loops that run."""
        global _at_work
        for number in SIGNALS:
            # Signals that the parent process ignores (nohup, a background job of a shell) stay ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._replaced[number] = signal.signal(number, self.on_signal)
        before, running.supervisor = running.supervisor, self
        _at_work = weakref.ref(self)
        running.follow(self)
        try:
            yield
        finally:
            # Again, before the handlers are removed: a signal may have interrupted the first call, and the next one
            # would kill the process at once.
            self.close()
            self._leave(before)

    def _leave(self, supervisor: running.Supervisor | None = None) -> None:
        self._end_grace()
        running.unfollow(self)
        running.supervisor = supervisor
        while self._replaced:
            number, handler = self._replaced.popitem()
            if signal.getsignal(number) == self.on_signal:
                signal.signal(number, handler)

    def leave_child(self) -> None:
        """Restore the signal handlers from before, in a forked child."""
        self._closing = True
        self._leave()


def _code_of(main: Any) -> CodeType | None:
    """Return the code of a coroutine, or of that of a task."""
    return getattr(main.get_coro() if isinstance(main, asyncio.Task) else main, "cr_code", None)


_at_work: weakref.ref[Process] | None = None


@contextlib.contextmanager
def hosted(
    board: Board | Choice | None,
    *,
    clock: Clock = REAL,
    binding: bool = False,
    opened: Callable[[Board], object] | None = None,
) -> Iterator[Process]:
    """Supervise the runs of a program in this block, with a board in use.

    `board` is as for `hwloop.run`, `binding` and `opened` as for `board.using`. Raises `UsageError` for an invalid
    board, `HardwareError` for one that can't be opened, and `Failure` inside a running loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise Failure("an event loop already runs in this thread, and a thread can run only one; use another process")
    lifecycle.begin()
    process = Process()
    with process.at_work(), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(boards.using(board, clock=clock, binding=binding, opened=opened))
        except ValueError as error:
            raise UsageError(str(error)) from error
        stack.callback(process.close)
        yield process


def _before_fork() -> None:
    """Block signals: one that reached the child before it has its handlers would be lost."""
    if _at_work is not None and _at_work() is not None:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork_in_parent() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    process = None if _at_work is None else _at_work()
    if process is not None:
        process.leave_child()
    _after_fork_in_parent()


_masks: dict[int, set[signal.Signals | int]] = {}
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
