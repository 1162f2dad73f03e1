"""A program as a process: a signal ends it in order, and what it drives ends safe.

By itself a Python program makes an exception of Ctrl-C only; SIGTERM, with which a service is stopped, and SIGHUP, with
which a terminal goes away, kill it where it stands, with relays as they happen to be. Here the three are the same. The
first one cancels the main task of the run that is under way, which has all the time it wants to clean up; the second
gives up waiting for it. Outside of a run, a signal raises KeyboardInterrupt, as Ctrl-C does. However the program ends,
outputs that are still open go to their safe level, and the board is closed.

All this is the process's own business: a forked child has the handlers that there were before, and no services.
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
from hwloop.cli import Ended, Failure, UsageError
from hwloop.core import registry as running
from hwloop.core.clock import REAL, Clock
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.event_loop import EventLoop
from hwloop.runner import new_event_loop
from hwloop.service.systemd import LoopNotifier

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process:
    """Supervises and follows the runs that a program starts while `hosted` lasts (`hwloop.core.registry`).

    Attributes:
        started: whether there was one, in the main thread.
        mains: the code of the coroutines that were run, as far as it is known.
    """

    def __init__(self) -> None:
        self.started: bool = False
        self.mains: list[CodeType | None] = []
        self._notifier = LoopNotifier()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Future[Any] | None = None
        self._last_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._cancelled: asyncio.Future[Any] | None = None
        self._received = 0
        self._forced = False
        self._closing = False
        self._replaced: dict[int, Any] = {}

    def run(
        self,
        main: Callable[[], Coroutine[Any, Any, T]],
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        debug: bool = False,
    ) -> T:
        """The result of `main()`, run on a new loop. Raises what it raises, and `Ended` where a signal cancelled it.

        As with `asyncio.run`, a coroutine that takes no notice of being cancelled ends as it wishes.
        """
        runner = asyncio.Runner(debug=debug or None, loop_factory=loop_factory)
        try:
            loop = runner.get_loop()
            if isinstance(loop, EventLoop):
                return runner.run(main())
            # Another loop tells nobody of its runs.
            result: T = self.run_main(loop, loop.run_until_complete, main())
            return result
        finally:
            if not self._forced:  # else closing would wait for the very tasks that don't end
                runner.close()

    def close(self) -> None:
        """Leave the outputs safe, for good: what a signal asks for is done already. Harmless when repeated."""
        self._closing = True
        self.leave_safe()

    def leave_safe(self) -> None:
        """Close the outputs that the program left open, which sets them to their safe level.

        Each is tried, whatever becomes of the others, and no signal breaks it off.
        """
        failures = []
        with DeferredSignals():
            gpio = sys.modules.get("hwloop.sources.gpio")
            for output in gpio.outputs() if gpio is not None else ():
                try:
                    output.close()
                except BaseException as error:
                    failures.append(f"hwloop: {output.name} could not be left at its safe level: {error}")
        for failure in failures:  # afterwards: nobody may be there to read it
            with contextlib.suppress(OSError):
                print(failure, file=sys.stderr)

    # As `hwloop.core.registry` has it.

    def run_main(self, loop: asyncio.AbstractEventLoop, run: Callable[[Any], Any], future: Any) -> Any:
        """Run `future` on `loop` by `run`, asyncio's `run_until_complete`, as what a signal cancels."""
        if threading.current_thread() is not threading.main_thread():
            return run(future)
        self._take_up(loop)
        if self._forced:  # what remains to be done would wait for the very tasks that don't end
            if asyncio.iscoroutine(future):
                future.close()
            raise Ended(self._received, forced=True)
        is_new = not asyncio.isfuture(future)
        main = asyncio.ensure_future(future, loop=loop)
        if is_new:
            main._log_destroy_pending = False  # as asyncio has it for its own
        if isinstance(main, asyncio.Task):
            self.mains.append(getattr(main.get_coro(), "cr_code", None))
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
            if is_new and main.done() and not main.cancelled():
                main.exception()  # as asyncio has it: the caller can't ask

    def _take_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """A run begins; on another loop than the last one, it has got no signal yet."""
        if self._last_loop is None or self._last_loop() is not loop:
            self._last_loop, self._received, self._forced = weakref.ref(loop), 0, False

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
        service.notify("STOPPING=1")
        if main is None:
            raise Ended(self._received)
        self._cancelled = main
        main.cancel()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal ends the run that is under way; any other breaks it off, but for the clean-up."""
        if self._closing:
            return
        main, loop = self._main, self._loop
        if loop is not None and not self._received and not (main is not None and main.done()):
            self._received = number
            # The loop may be asleep, or amidst its own bookkeeping.
            loop.call_soon_threadsafe(self._end_run, main)
            return
        if loop is not None:
            self._received, self._forced = number, True
        raise Ended(number, forced=self._forced)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Handle signals, and supervise the loops that run."""
        global _at_work
        for number in SIGNALS:
            # What our parent has us ignore (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._replaced[number] = signal.signal(number, self.on_signal)
        before, running.supervisor = running.supervisor, self
        _at_work = weakref.ref(self)
        running.follow(self)
        try:
            yield
        finally:
            # Once more, and before the handlers go: a signal may have broken off what was to call it, and the next one
            # would kill the process where it stands.
            self.close()
            self._leave(before)

    def _leave(self, supervisor: running.Supervisor | None = None) -> None:
        running.unfollow(self)
        running.supervisor = supervisor
        while self._replaced:
            number, handler = self._replaced.popitem()
            if signal.getsignal(number) == self.on_signal:
                signal.signal(number, handler)

    def leave_child(self) -> None:
        """In a forked child, which is nobody's to end in order: it has what there was before."""
        self._closing = True
        self._leave()


_at_work: weakref.ref[Process] | None = None


@contextlib.contextmanager
def hosted(board: Board | Choice | None, *, clock: Clock = REAL, binding: bool = False) -> Iterator[Process]:
    """A process to run a program in, with a board in use; `board` as for `hwloop.run`, `binding` as for `board.using`.

    Raises `UsageError` for a board that can't be meant, `HardwareError` for one that can't be opened, and
    `Failure` inside a running loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise Failure("an event loop runs in this thread already, and a thread can have one only; use another process")
    process = Process()
    with process.at_work(), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(boards.using(board, clock=clock, binding=binding))
        except ValueError as error:
            raise UsageError(str(error)) from error
        stack.callback(process.close)
        yield process


def _before_fork() -> None:
    """A signal that reaches the child before its handlers are in place would be lost in it: it has to wait."""
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
