"""The event loop that users see: asyncio's own, with our dispatch loop and the calls that hardware needs.

`EventLoop` is a genuine `asyncio.SelectorEventLoop`: TLS, subprocesses, signals, executors and debug mode are
asyncio's. What differs is the order and the precision in which callbacks run (docs/guarantees.md), how transports read
(`hwloop.core.transports`), and that anything with `fileno()` and `on_readable()` can be registered as a source, in the
manner of `selectors`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import operator
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

from hwloop.core import clock
from hwloop.core import registry as running
from hwloop.core.debug import Checked
from hwloop.core.descriptors import READ, WRITE, Descriptors
from hwloop.core.dispatch import INFINITY, LOOK_AGAIN, Core
from hwloop.core.forking import renew_self_pipe
from hwloop.core.gc_schedule import Collecting
from hwloop.core.handles import Handle, Pollable, Watcher
from hwloop.core.inheritance import Overriding
from hwloop.core.monitor import Reporting
from hwloop.core.naming import short_name
from hwloop.core.signal_wakeup import Wakeup
from hwloop.core.transports import Transports
from hwloop.core.urgency import URGENCY, Priority, as_deadline, as_priority
from hwloop.core.waits import LoopTime, Waits
from hwloop.scheduling.periodic import Timed

if TYPE_CHECKING:
    from hwloop.core.realtime import Applied, RealTime

Ts = TypeVarTuple("Ts")


class EventLoop(Core, Checked, Collecting, Overriding, Reporting, Timed, Transports, Waits, asyncio.SelectorEventLoop):  # type: ignore[misc]  # the core's Any
    """An asyncio event loop that looks at the hardware often and knows what is urgent.

    `selector` is as for `asyncio.SelectorEventLoop`. With the default or any `selectors.EpollSelector`, timers are as
    precise as the kernel; other selectors keep every promise but that one.
    """

    if TYPE_CHECKING:  # asyncio's own, which its stubs leave out
        _csock: socket.socket
        _ssock: socket.socket
        _thread_id: int | None
        _default_executor: Executor | None
        _signal_handlers: dict[int, asyncio.Handle]

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: object, method: str) -> None: ...

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._init_core()
        self._sources: dict[int, Watcher] = {}  # by identity: equality and hash are user code
        self._realtime: Applied | None = None
        self._wakeup = Wakeup()
        self._init_reporting()
        if selector is None:
            selector = selectors.DefaultSelector()
        self._descriptors = Descriptors(selector)
        self._watchers = self._descriptors.keys
        super().__init__(selector)
        running.made(self)
        self._followed = self._source_of(self.time)
        self._use_clock(self.time)

    if TYPE_CHECKING:

        def time(self) -> float:
            """Seconds of CLOCK_MONOTONIC, the clock of the kernel's edge timestamps."""

    else:
        time = LoopTime()

    def run_forever(self) -> None:
        """Run until `stop()`. In the main thread any signal wakes the loop, so that its Python handler runs at once.

        (Else one that comes just as the loop falls asleep would wait for the next event: the handler runs between
        bytecodes, and the system call that was about to begin has nothing to be interrupted.)
        """
        self._check_closed()
        self._check_running()  # or what is refused would end what runs
        try:
            self._wakeup.take(self._csock, bool(self._signal_handlers))
            self._expect_threads()
            self._take_gc_over()
            if self._sampler is not None:
                self._sampler.start()
            with running.listed(self):
                super().run_forever()
        finally:
            self._give_gc_back()
            self._wakeup.give_back(bool(self._signal_handlers))

    def run_until_complete(self, future: Any) -> Any:
        """As in asyncio; under `hwloop run` a signal cancels `future`, and then comes out as KeyboardInterrupt."""
        if running.supervisor is None:
            return super().run_until_complete(future)
        return running.supervisor.run_main(self, super().run_until_complete, future)

    def close(self) -> None:
        """Close the loop, the sources still registered first."""
        if self.is_closed() or self.is_running():
            super().close()  # which does nothing, or refuses
            return
        self._stop_sampling()
        for source in self.sources():
            self._discard(source)
        super().close()
        self._guarded = True
        self._events.clear()
        self._bands.close()
        self._now = clock.monotonic  # that of a subclass refers to this loop
        self._overrides.clear()
        self._timers.clear()
        self._tolerant.clear()
        self._new_timers.clear()
        self._due_timers.clear()
        self._inbox.clear()
        self._epoll = self._alarm = None
        self._descriptors.close()
        self.set_realtime(None)

    def _after_fork(self) -> None:
        """This is a forked child: share nothing with the parent's loop. See `hwloop.core.forking`."""
        self._wakeup.forget()
        if self._realtime is not None:
            self._realtime.forget()
            self._realtime = None
        if self._sampler is not None:
            self._sampler.forked()
        self._give_gc_back()
        if self._thread_id != threading.get_ident():
            self._thread_id = None  # its thread is not there any more
            self._sleeping = False
        self._default_executor = None  # nor are its workers
        if not self.is_closed():
            renew_self_pipe(self._ssock, self._csock)
            self._descriptors.renew(forked=True)
            self._alarm_when = 0.0

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled)
        self._guarded = bool(enabled) or self.is_closed()

    def set_realtime(self, realtime: RealTime | None) -> None:
        """Run the calling thread, which should be the loop's, in real time from now until the loop is closed.

        What the system grants is logged, and stands in `statistics().realtime`; what it refuses raises nothing. None
        undoes it. See `hwloop.RealTime`.
        """
        if not (realtime is None or hasattr(realtime, "apply")):
            raise TypeError(f"realtime is a hwloop.RealTime or None, not {realtime!r}")
        if self._realtime is not None:
            self._realtime.undo()
        self._realtime = None if realtime is None else realtime.apply()

    def set_spin(self, seconds: float) -> None:
        """Look again and again, without sleeping, for the last `seconds` before a timer: it runs within microseconds.

        What a sleeping thread needs to wake (20 to 100 µs; more on a Pi that saves power) is a good choice. It costs so
        much processor time a wakeup, at most; 0 ends it. It has no effect with a selector that is not epoll's. Raises
        ValueError for more than 10 ms: other threads of the program do not run meanwhile.
        """
        if not 0 <= seconds <= 0.01:
            raise ValueError(f"spin is in seconds, from 0 to 0.01, not {seconds!r}")
        self._spin = max(seconds, LOOK_AGAIN)

    # Sources.

    def register(self, source: Pollable) -> None:
        """Watch `source.fileno()` and call `source.on_readable()` whenever it is readable, with `source.priority`.

        Raises ValueError if the descriptor is invalid or watched already, TypeError for what is no source. If
        `on_readable` raises, the source is unregistered, closed if it can be, and reported; the loop goes on.
        """
        if id(source) in self._sources:
            raise ValueError(f"{short_name(source)} is registered already")
        on_readable = getattr(source, "on_readable", None)
        if not callable(on_readable) or inspect.iscoroutinefunction(on_readable):
            raise TypeError(f"a source needs an on_readable() that is a plain function; {short_name(source)} has none")
        priority = as_priority(getattr(source, "priority", Priority.NORMAL))
        deadline = getattr(source, "deadline", None)
        if deadline is not None and as_deadline(deadline) == INFINITY:
            deadline = None
        fd = source.fileno()
        key = self._watchers.get(fd)
        if key is not None and key.data[0] is not None and not self._descriptors.drop_stale(fd):
            raise ValueError(f"descriptor {fd} of {short_name(source)} is watched already")
        self._check_closed()
        watcher = Watcher(on_readable, (), self, priority, source, deadline)
        self._descriptors.set(fd, READ, watcher)
        self._sources[id(source)] = watcher

    def unregister(self, source: Pollable) -> None:
        """Stop watching `source`. KeyError if it is not registered."""
        watcher = self._sources.pop(id(source), None)
        if watcher is None:
            raise KeyError(f"{short_name(source)} is not registered")
        self._descriptors.remove_watcher(watcher)

    def sources(self) -> list[Pollable]:
        """The registered sources, in the order in which they came."""
        return [watcher._source for watcher in self._sources.values() if watcher._source is not None]

    def _discard(self, source: Pollable) -> None:
        """Let go of a source and close it if it can be; a failure to close is reported."""
        try:
            close = getattr(source, "close", None)
            if close is not None:
                close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"closing {short_name(source)} failed", "exception": error})
        finally:
            if id(source) in self._sources:  # a source of ours has unregistered itself
                self.unregister(source)

    # Timers.

    @property
    def _scheduled(self) -> list[Any]:
        """The timers that wait for their time, where asyncio has its list of them: test helpers look there."""
        waiting = [timer for _, _, timer in list(self._timers)] + self._tolerant.timers()
        return sorted([*waiting, *list(self._new_timers), *list(self._due_timers)], key=operator.attrgetter("_when"))

    @_scheduled.setter
    def _scheduled(self, timers: list[Any]) -> None:
        self._timers.clear()
        self._tolerant.clear()
        self._due_timers.clear()
        self._new_timers[:] = timers

    # Urgency.

    def call_soon_priority(self, priority: Priority, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Like `call_soon`, with a priority that what the callback schedules inherits."""
        context = contextvars.copy_context()
        context.run(URGENCY.set, URGENCY.get()._replace(priority=as_priority(priority)))
        self.heed_urgency()
        return self.call_soon(callback, *args, context=context)  # type: ignore[no-any-return]

    def call_deadline(
        self, deadline: float, callback: Callable[..., object], *args: Any, priority: Priority = Priority.NORMAL
    ) -> asyncio.Handle:
        """Call `callback` as soon as possible, ahead of work of its priority with a later deadline or none.

        `deadline` is loop time. If it passes first, the callback runs all the same, after those that can still be
        met; the miss is counted.
        """
        if not deadline > 0:
            raise ValueError(f"a deadline is a loop time, as loop.time() gives, not {deadline!r}")
        if self._guarded:
            handle: Any = self._make_checked_handle("call_deadline", callback, args, None)
        else:
            handle = Handle(callback, args, self, contextvars.copy_context())
        priority = as_priority(priority)
        if priority is Priority.NORMAL and deadline == INFINITY:
            self._take_inbox()
            self._ready.append(handle)
        else:
            self._bands.push(priority, deadline, handle)
        return handle  # type: ignore[no-any-return]

    def heed_urgency(self) -> None:
        """Look at the context's urgency from now on. A program that never asks for any is spared the look-up."""
        self._heeding = True

    # Signals.

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """As in asyncio. The handler is called in any run of this loop, also for a signal between two."""
        current = self._wakeup.peek()
        try:
            super().add_signal_handler(sig, callback, *args)
        except BaseException:
            self._wakeup.put_back(current)
            raise
        self._wakeup.taken(self._csock, current)

    def remove_signal_handler(self, sig: int) -> bool:
        if self._signal_handlers.keys() != {sig}:
            return super().remove_signal_handler(sig)
        current = self._wakeup.peek()
        try:
            return super().remove_signal_handler(sig)
        finally:
            self._wakeup.after_removal(current, self.is_running())

    def _handle_signal(self, sig: int) -> None:
        if sig in self._signal_handlers:
            super()._handle_signal(sig)  # type: ignore[misc]
        else:
            self._wakeup.pass_on(sig)

    # Descriptors.

    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._add_watcher(fd, READ, callback, args)

    def _add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._add_watcher(fd, WRITE, callback, args)

    def _remove_reader(self, fd: Any) -> bool:
        return not self.is_closed() and self._descriptors.remove(fd, READ)

    def _remove_writer(self, fd: Any) -> bool:
        return not self.is_closed() and self._descriptors.remove(fd, WRITE)

    def _add_watcher(self, fd: Any, event: int, callback: Callable[..., object], args: tuple[Any, ...]) -> Watcher:
        self._check_closed()
        priority = URGENCY.get().priority if self._heeding else Priority.NORMAL
        watcher = Watcher(callback, args, self, priority)
        self._descriptors.set(fd, event, watcher)
        return watcher
