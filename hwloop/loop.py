"""The event loop that users see: asyncio's own, with the dispatch loop of `hwloop.core` and the calls hardware needs.

`EventLoop` is a genuine `asyncio.SelectorEventLoop`: TLS, subprocesses, signals, executors and debug mode are
asyncio's. What differs is the order and the precision in which callbacks run (docs/scheduling.md), how transports read
(`hwloop.transports`), and that anything with `fileno()` and `on_readable()` can be registered as a source, in the
manner of `selectors`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import select
import selectors
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from hwloop import clock as clocks
from hwloop.checked import Checked
from hwloop.collecting import Collecting
from hwloop.core import INFINITY, LOOK_AGAIN, Core
from hwloop.handles import Handle, Watcher
from hwloop.overrides import Overriding
from hwloop.reporting import Reporting
from hwloop.running import listed
from hwloop.scheduling import URGENCY, Priority, as_deadline, as_priority
from hwloop.timers import Timed
from hwloop.transports import Transports
from hwloop.waits import Waits

if TYPE_CHECKING:
    from hwloop.realtime import Applied, RealTime


class Pollable(Protocol):
    """What `EventLoop.register` takes. Optional: `priority` (a `Priority`), `deadline` (seconds from readiness) and
    `close()`, called if it fails."""

    def fileno(self) -> int:
        """The descriptor to watch."""

    def on_readable(self) -> object:
        """Called whenever the descriptor is readable."""


class EventLoop(Core, Checked, Collecting, Overriding, Reporting, Timed, Transports, Waits, asyncio.SelectorEventLoop):  # type: ignore[misc]  # the core's Any
    """An asyncio event loop that looks at the hardware often and knows what is urgent.

    `selector` is as for `asyncio.SelectorEventLoop`. With the default or any `selectors.EpollSelector`, timers are as
    precise as the kernel; other selectors keep every promise but that one.
    """

    if TYPE_CHECKING:  # asyncio's own, which its stubs leave out
        _csock: socket.socket

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: object, method: str) -> None: ...

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._init_core()
        self._sources: dict[Pollable, int] = {}
        self._realtime: Applied | None = None
        self._init_reporting()
        super().__init__(selector)
        if type(self).time is not EventLoop.time:
            self._now = self.time  # a subclass with a clock of its own, which no kernel alarm follows
        elif type(self._selector) is getattr(selectors, "EpollSelector", None):
            self._use_alarm()

    def _use_alarm(self) -> None:
        """Wait in the selector's own epoll set, together with an alarm; leave it be where the system has none."""
        try:
            alarm = clocks.Alarm()
        except (OSError, ImportError):
            return
        # A second descriptor of the same epoll set: the selector owns and closes the first.
        self._epoll = select.epoll.fromfd(os.dup(self._selector.fileno()))  # type: ignore[attr-defined]
        self._epoll.register(alarm.fileno(), select.EPOLLIN | select.EPOLLET)
        self._alarm = alarm

    def _drop_alarm(self) -> None:
        if self._epoll is not None and self._alarm is not None:
            self._epoll.close()
            self._alarm.close()
            self._epoll = self._alarm = None

    def time(self) -> float:
        """Seconds of CLOCK_MONOTONIC, the clock of the kernel's edge timestamps."""
        return clocks.monotonic()

    def run_forever(self) -> None:
        """Run until `stop()`. In the main thread any signal wakes the loop, so that its Python handler runs at once.

        (Else one that comes just as the loop falls asleep would wait for the next event: the handler runs between
        bytecodes, and the system call that was about to begin has nothing to be interrupted.)
        """
        if self._alarm is not None and type(self).time is not EventLoop.time:
            self._drop_alarm()  # made a subclass since, as looptime does
            self._now = self.time
        in_main = threading.current_thread() is threading.main_thread()
        self._check_closed()
        self._check_running()  # or what is refused would end what runs
        before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False) if in_main else -1
        self._take_gc_over()
        try:
            with listed(self):
                super().run_forever()
        finally:
            self._give_gc_back()
            if in_main:
                signal.set_wakeup_fd(before)

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
        self._bands.clear()
        self._overrides.clear()
        self._timers.clear()
        self._tolerant.clear()
        self._new_timers.clear()
        self._inbox.clear()
        self._watchers.clear()
        self._drop_alarm()
        self.set_realtime(None)

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
        if source in self._sources:
            raise ValueError(f"{source!r} is registered already")
        on_readable = getattr(source, "on_readable", None)
        if not callable(on_readable) or inspect.iscoroutinefunction(on_readable):
            raise TypeError(f"a source needs an on_readable() that is a plain function; {source!r} has none")
        fd = source.fileno()
        if self._watchers.get(fd, (None, None))[0] is not None:
            raise ValueError(f"descriptor {fd} of {source!r} is watched already")
        priority = as_priority(getattr(source, "priority", Priority.NORMAL))
        deadline = getattr(source, "deadline", None)
        if deadline is not None and as_deadline(deadline) == INFINITY:
            deadline = None
        watcher = Watcher(on_readable, (), self, priority, source, deadline)
        self._set_watcher(fd, selectors.EVENT_READ, watcher)
        self._sources[source] = fd

    def unregister(self, source: Pollable) -> None:
        """Stop watching `source`. KeyError if it is not registered."""
        self._remove_watcher(self._sources.pop(source), selectors.EVENT_READ)

    def sources(self) -> list[Pollable]:
        """The registered sources, in the order in which they came."""
        return list(self._sources)

    def _discard(self, source: Pollable) -> None:
        """Let go of a source and close it if it can be; a failure to close is reported."""
        close = getattr(source, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                self.call_exception_handler({"message": f"closing {source!r} failed", "exception": error})
        if source in self._sources:  # a source of ours has unregistered itself
            self.unregister(source)

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

    # Descriptors. The selector stays the register that asyncio's own code asks; the dispatch loop has its own table.

    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._set_watcher(fd, selectors.EVENT_READ, self._make_watcher(callback, args))

    def _add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._set_watcher(fd, selectors.EVENT_WRITE, self._make_watcher(callback, args))

    def _remove_reader(self, fd: Any) -> bool:
        return not self.is_closed() and self._remove_watcher(_fileno(fd), selectors.EVENT_READ)

    def _remove_writer(self, fd: Any) -> bool:
        return not self.is_closed() and self._remove_watcher(_fileno(fd), selectors.EVENT_WRITE)

    def _make_watcher(self, callback: Callable[..., object], args: tuple[Any, ...]) -> Watcher:
        priority = URGENCY.get().priority if self._heeding else Priority.NORMAL
        return Watcher(callback, args, self, priority)

    def _set_watcher(self, fd: Any, event: int, watcher: Watcher) -> Watcher:
        self._check_closed()
        number = _fileno(fd)
        old = self._watchers.get(number)
        reader, writer = old or (None, None)
        replaced = reader if event == selectors.EVENT_READ else writer
        pair = (watcher, writer) if event == selectors.EVENT_READ else (reader, watcher)
        if old is None:
            self._selector.register(number, event, pair)
        else:
            self._selector.modify(number, _mask(pair), pair)
        self._watchers[number] = pair
        if replaced is not None:
            replaced.cancel()
        return watcher

    def _remove_watcher(self, number: int, event: int) -> bool:
        pair = self._watchers.get(number)
        if pair is None:
            return False
        reader, writer = pair
        removed = reader if event == selectors.EVENT_READ else writer
        pair = (None, writer) if event == selectors.EVENT_READ else (reader, None)
        if mask := _mask(pair):
            self._selector.modify(number, mask, pair)
            self._watchers[number] = pair
        else:
            self._selector.unregister(number)
            del self._watchers[number]
        if removed is None:
            return False
        removed.cancel()
        return True


def _mask(pair: tuple[Watcher | None, Watcher | None]) -> int:
    reader, writer = pair
    return (selectors.EVENT_READ if reader else 0) | (selectors.EVENT_WRITE if writer else 0)


def _fileno(fd: Any) -> int:
    """The descriptor's number. Raises ValueError as `selectors` does."""
    try:
        number = fd if isinstance(fd, int) else int(fd.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number
