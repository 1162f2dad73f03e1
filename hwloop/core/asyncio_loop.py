"""asyncio's calls on hwloop's parts: the drop-in half of the event loop.

`AsyncioLoop` is a genuine `asyncio.SelectorEventLoop`: TLS, subprocesses, signals, executors and debug mode are
asyncio's. It is composed (`hwloop.core.parts`): a run queue, a timer queue, a poller, a monitor and others, each with
state of its own, and forwards asyncio's calls to them. `hwloop.core.event_loop` adds the calls that asyncio lacks.

The calls that feed the queues, which programs make most often, are `hwloop.core.calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

from hwloop.core import registry
from hwloop.core.calls import LoopCalls
from hwloop.core.debug import shown_context
from hwloop.core.descriptors import READ, WRITE
from hwloop.core.forking import renew_self_pipe
from hwloop.core.handles import Watcher
from hwloop.core.loop_clock import LoopTime
from hwloop.core.parts import Parts
from hwloop.core.signal_wakeup import Wakeup
from hwloop.core.transports import make_socket_transport, with_packet_size
from hwloop.core.urgency import URGENCY, Priority

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop
else:
    from asyncio import SelectorEventLoop

Ts = TypeVarTuple("Ts")

MOST_BYTES = 4096
"""Bytes asked of the loop's own socket in one read; each is a wakeup by another thread, or a signal."""


class AsyncioLoop(LoopCalls, SelectorEventLoop):
    """asyncio's selector loop with another dispatch function, run queue, timer queue and poller."""

    __slots__ = ("_dispatcher", "_gc_schedule", "_monitor", "_sources", "_wakeup")  # see `LoopCalls`

    def __init__(self, parts: Parts) -> None:
        self._sources = parts.sources
        self._monitor = parts.monitor
        self._gc_schedule = parts.gc_schedule
        self._dispatcher = parts.dispatcher
        self._wakeup = Wakeup()
        super().__init__(parts)
        registry.made(self)
        self._clock.begin(self)
        self._poller.use_clock()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self._guarded or self._task_factory is not None:
            return super().create_task(coro, **options)
        make: Any = asyncio.Task
        return make(coro, loop=self, **options) if options else make(coro, loop=self)  # type: ignore[no-any-return]

    def _run_once(self) -> None:
        """Dispatch until `stop()`; `run_forever` is asyncio's own and calls this once."""
        self._dispatcher.run(self)

    # Running and closing.

    def run_forever(self) -> None:
        """Run until `stop()`. In the main thread any signal wakes the loop, so that its Python handler runs at once.

        (Otherwise a signal that comes just as the loop falls asleep would wait for the next event: Python runs handlers
        between bytecodes, and the system call that is about to begin is not interrupted.)
        """
        self._check_closed()
        self._check_running()  # before anything else, or a rejected run would end the one in progress
        try:
            self._wakeup.take(self._csock, bool(self._signal_handlers))
            self._gc_schedule.begin_run()
            if self._monitor.sampler is not None:
                self._monitor.sampler.start()
            try:
                registry.started(self)
                super().run_forever()
            finally:
                registry.ended(self)
        finally:
            self._gc_schedule.end_run()
            self._wakeup.give_back(bool(self._signal_handlers))

    def run_until_complete(self, future: Any) -> Any:
        """As in asyncio; under `hwloop run` a signal cancels `future`, and this then raises KeyboardInterrupt."""
        if registry.supervisor is None:
            return super().run_until_complete(future)
        return registry.supervisor.run_main(self, super().run_until_complete, future)

    def stop(self) -> None:
        """Stop when the current batch of callbacks has run; what they add runs when the loop runs again."""
        super().stop()
        self._run_queue.poll_after_batch = True

    def close(self) -> None:
        """Close the loop, after the sources that are still registered."""
        if self.is_closed() or self.is_running():
            super().close()  # does nothing, or raises
            return
        self._monitor.sample_with(None)
        for source in self._sources.sources():
            self._sources.discard(source, self)
        super().close()
        self._guarded = True
        self._run_queue.clear()
        self._timers.clear()
        self._urgencies.clear()
        self._clock.close()
        self._poller.close()

    def _close_self_pipe(self) -> None:
        if self._ssock.fileno() >= 0:
            super()._close_self_pipe()
        else:  # a loop that nobody closed is collected, after its socket
            self._csock.close()

    def _read_from_self(self) -> None:
        """As in asyncio, but without a last read that finds nothing, for which every wakeup by a thread would pay."""
        while True:
            try:
                data = self._ssock.recv(MOST_BYTES)
            except BlockingIOError:
                return
            self._process_self_data(data)
            if b"\0" in data:
                self._poller.descriptors.add_waker()  # a thread has sent a call, and may send more
            if len(data) < MOST_BYTES:
                return

    def after_fork_in_child(self) -> None:
        """Share nothing with the parent's loop from now on. Called in a forked child, see `hwloop.core.forking`."""
        self._wakeup.forget()
        if self._monitor.sampler is not None:
            self._monitor.sampler.forget_thread()
        self._gc_schedule.end_run()
        if self._thread_id != threading.get_ident():
            self._thread_id = None  # the child does not have that thread
            self._poller.is_sleeping = False
        self._default_executor = None  # nor its workers
        if not self.is_closed():
            renew_self_pipe(self._ssock, self._csock)
            self._poller.renew_in_child()

    # The clock.

    def _set_time(self, time: Callable[[], float]) -> None:
        self.__dict__["time"] = self._clock.own = time
        self._follow_clock()

    def _reset_time(self) -> None:
        if self.__dict__.pop("time", None) is None:
            raise AttributeError("time")
        self._clock.restore_own()
        self._follow_clock()

    def _follow_clock(self) -> None:
        if self._clock.follow(self):
            self._dispatcher.clock_replaced()

    if TYPE_CHECKING:

        def time(self) -> float:
            """Return the loop's time in seconds: CLOCK_MONOTONIC, the clock of the kernel's edge timestamps."""

    else:
        time = LoopTime(operator.attrgetter("_clock.own"), _set_time, _reset_time, "Seconds of CLOCK_MONOTONIC.")

    # Timers.

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._timers.note_cancelled(handle)

    @property
    def _scheduled(self) -> list[Any]:
        """The timers that wait for their time, where asyncio has its list of them: test helpers look there."""
        return self._timers.all()

    @_scheduled.setter
    def _scheduled(self, timers: list[Any]) -> None:
        self._timers.replace(timers)

    # Signals.

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """As in asyncio. The handler is called in any run of this loop, also for a signal between two."""
        current = self._wakeup.current()
        try:
            super().add_signal_handler(sig, callback, *args)
        except BaseException:
            self._wakeup.put_back(current)
            raise
        self._wakeup.taken(self._csock, current)

    def remove_signal_handler(self, sig: int) -> bool:
        if self._signal_handlers.keys() != {sig}:
            return super().remove_signal_handler(sig)
        current = self._wakeup.current()
        try:
            return super().remove_signal_handler(sig)
        finally:
            self._wakeup.after_removal(current, self.is_running())

    def _handle_signal(self, sig: int) -> None:
        if sig in self._signal_handlers:
            super()._handle_signal(sig)
        else:
            self._wakeup.pass_on(sig)

    # Descriptors and transports.

    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._add_watcher(fd, READ, callback, args)

    def _add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._add_watcher(fd, WRITE, callback, args)

    def _remove_reader(self, fd: Any) -> bool:
        return not self.is_closed() and self._poller.descriptors.remove(fd, READ)

    def _remove_writer(self, fd: Any) -> bool:
        return not self.is_closed() and self._poller.descriptors.remove(fd, WRITE)

    def _add_watcher(self, fd: Any, event: int, callback: Callable[..., object], args: tuple[Any, ...]) -> Watcher:
        self._check_closed()
        priority = URGENCY.get().priority if self._urgencies.in_use else Priority.NORMAL
        watcher = Watcher(callback, args, self, priority)
        self._poller.descriptors.set(fd, event, watcher)
        return watcher

    def _make_socket_transport(self, sock: socket.socket, *args: Any, **options: Any) -> asyncio.Transport:
        return make_socket_transport(self, sock, *args, **options)

    def _make_datagram_transport(self, sock: socket.socket, *args: Any) -> asyncio.DatagramTransport:
        transport = super()._make_datagram_transport(sock, *args)
        return with_packet_size(transport) if sock.family in (socket.AF_INET, socket.AF_INET6) else transport

    def _make_read_pipe_transport(self, *args: Any) -> asyncio.ReadTransport:
        return with_packet_size(super()._make_read_pipe_transport(*args))

    # Debug mode and reports.

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled)
        self._guarded = bool(enabled) or self.is_closed()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As in asyncio; whatever a handler of the program or of its logging raises, the loop goes on."""
        try:
            super().call_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            with contextlib.suppress(Exception):
                traceback.print_exception(error, file=sys.__stderr__)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As in asyncio, with a short name for a value that can't be shown or is too long."""
        super().default_exception_handler(shown_context(context))
