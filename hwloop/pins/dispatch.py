"""Where the events of gpiozero's devices are delivered: on the program's loop, or while none runs, on one thread.

gpiozero has no idea of a loop: its handlers run in whatever thread finds the edge. Here all lines of a factory meet in
one epoll set, and an epoll set is itself a descriptor that can be watched. So who serves the lines is a matter of who
watches that one descriptor, and it changes hands without a line being claimed anew or an edge being lost. Promised:

- while one of our loops runs on the board's clock, handlers run on it, in the order of the edges' time stamps; a
  second loop that starts meanwhile changes nothing;
- while none runs, a thread of this object delivers; it starts when first needed and a loop that starts takes over;
- a handler that raises is reported, a coroutine becomes a task, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import logging
import select
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from hwloop import running
from hwloop.board import Edge, EdgeStream
from hwloop.clock import REAL, Clock
from hwloop.loop import EventLoop
from hwloop.scheduling import Priority

if TYPE_CHECKING:
    from hwloop.pins.jobs import Job

logger = logging.getLogger("hwloop")

Deliver = Callable[[Edge], object]

_QUIET = 0.02  # seconds without a report after which lines are read, as in hwloop.sources.gpio
_LONGEST_HANDLER = 10.0  # seconds for which a handler under way is waited for at the end, as gpiozero does
_LOOKS = 2  # a recheck takes two looks that find the same


class Dispatch:
    """Serves the lines, the handlers and the timed jobs of one factory, on `clock`. `close()` it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.loop: EventLoop | None = None
        """The program's loop that serves now; None while the thread does, or nobody has to."""
        self._epoll = select.epoll()
        clock.claim(self._epoll.fileno())
        self._lock = threading.RLock()
        self._lines: dict[int, tuple[EdgeStream, Deliver]] = {}
        self._pending: collections.deque[tuple[object, Deliver, Edge]] = collections.deque()
        self._here = threading.local()
        self._jobs: set[Job] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread: _Thread | None = None
        self._looks = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._reader: _Reader | None = None
        self._closed = False
        for loop in running.follow(self):
            self._adopt(loop)

    # For pins.

    def watch(self, stream: EdgeStream, deliver: Deliver) -> None:
        """Call `deliver(edge)` for each edge of `stream` from now on; those that wait in it are forgotten."""
        while stream.read():
            pass
        with self._lock:
            for fd in _descriptors(stream):
                self._lines[fd] = (stream, deliver)
                self._epoll.register(fd, select.EPOLLIN)
            self._ensure_served()

    def unwatch(self, stream: EdgeStream) -> None:
        """Deliver no more of its edges, not even those that have been read. To be called before it is closed."""
        with self._lock:
            for fd in _descriptors(stream):
                if self._lines.pop(fd, None) is not None:
                    self._epoll.unregister(fd)
            self._pending = collections.deque(entry for entry in self._pending if entry[0] is not stream)

    def post(self, pin: object, deliver: Deliver, edge: Edge, *, soon: bool) -> None:
        """Deliver an edge that comes from no descriptor; `soon`, if this is a callback of a loop, right after it."""
        with self._lock:
            self._pending.append((pin, deliver, edge))
            loop: asyncio.AbstractEventLoop = self.loop or self._start_thread().loop
        call = loop.call_soon if soon and asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # it has just been closed: delivered by who serves next
            call(self._deliver, loop)

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        """In this block, in this thread, handlers are called at once, and what they raise is not caught."""
        before = getattr(self._here, "unguarded", False)
        self._here.unguarded = True
        try:
            yield
        finally:
            self._here.unguarded = before

    # For devices and jobs.

    def fire(self, handler: Callable[[], object], what: str) -> None:
        """Have a handler called where handlers belong: here if this is the serving thread, else on the loop."""
        if getattr(self._here, "unguarded", False):
            self._take_result(handler(), what)
            return
        loop = self.loop
        if loop is not None and running.thread_of(loop) not in (None, threading.get_ident()):
            with contextlib.suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(self._call, handler, what)
                return
        self._call(handler, what)

    def start_job(self, job: Job) -> None:
        """Start a job, and hand it over when a loop begins or ends."""
        with self._lock:
            self._jobs.add(job)
            job.carry_on(self.loop)

    def forget_job(self, job: Job) -> None:
        self._jobs.discard(job)

    def blocks_loop(self) -> bool:
        """Whether to wait in this thread is to stop the loop that would end the wait."""
        return self.loop is not None and asyncio._get_running_loop() is self.loop

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an exception through the exception handler of who serves, or in the log if nobody does."""
        loop: asyncio.AbstractEventLoop | None = self.loop
        if loop is None and self._thread is not None:
            loop = self._thread.loop
        context = {"message": message, "exception": error}
        if loop is None or loop.is_closed():
            logger.error(message, exc_info=error)
        elif asyncio._get_running_loop() is loop:
            loop.call_exception_handler(context)
        else:
            loop.call_soon_threadsafe(loop.call_exception_handler, context)

    def time(self) -> float:
        """Seconds of the board's clock: for a loop that serves, its own time."""
        return self.clock.now_ns() / 1e9

    def close(self) -> None:
        """Watch nothing any more, end the thread and the jobs. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        running.unfollow(self)
        for job in list(self._jobs):
            job.stop()
        with self._lock:
            self._lines.clear()
            self._pending.clear()
            loop, self.loop = self.loop, None
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        if loop is None or running.thread_of(loop) in (None, threading.get_ident()):
            self._let_go(loop)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._let_go, loop)

    def _let_go(self, loop: EventLoop | None) -> None:
        if loop is not None:
            self._leave(loop)
        self.clock.disclaim(self._epoll.fileno())
        self._epoll.close()

    # What a loop calls.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def on_readable(self) -> None:
        """Deliver what is there, oldest first."""
        server = asyncio.get_running_loop()
        with self._lock:
            if not self._serves(server):
                return
            found = []
            for fd, _ in self._epoll.poll(0):
                if fd not in self._lines:
                    continue  # its stream has just failed
                stream, deliver = self._lines[fd]
                try:
                    if fd == stream.alarm_fileno():
                        stream.check()
                    else:
                        found += [(stream, deliver, edge) for edge in stream.read()]
                except OSError as error:
                    self.unwatch(stream)
                    self.report("a line failed and is watched no more", error)
            found.sort(key=lambda entry: entry[2].timestamp_ns)
            self._pending.extend(found)
            self._looks = 0
            if self._quiet is None and self._lines:
                self._quiet = server.call_later(_QUIET, self._look, server)
        self._deliver(server)

    def _deliver(self, server: asyncio.AbstractEventLoop | None) -> None:
        """Hand out what was read, for as long as `server` serves: a handler may start a loop, or close a line."""
        while self._pending and self._serves(server):
            try:
                _, deliver, edge = self._pending.popleft()
            except IndexError:
                return
            try:
                deliver(edge)
            except Exception as error:
                self.report(f"delivering {edge} failed", error)

    def _look(self, server: asyncio.AbstractEventLoop) -> None:
        """No report for a while: an edge whose report was lost shows in the level of its line."""
        with self._lock:
            if not self._serves(server):
                return
            self._quiet = None
            self._looks += 1
            if self._looks > 1:
                for stream, deliver in dict(self._lines.values()).items():
                    with contextlib.suppress(OSError):  # its next read tells
                        self._pending.extend((stream, deliver, edge) for edge in stream.recheck())
            # The first look only knows that reports came since the timer was set.
            if self._looks <= _LOOKS and self._lines:
                self._quiet = server.call_later(_QUIET, self._look, server)
        self._deliver(server)

    def _call(self, handler: Callable[[], object], what: str) -> None:
        """Call a handler; what it raises is reported, and a coroutine that it returns becomes a task."""
        try:
            result = handler()
        except Exception as error:
            self.report(f"{what} raised", error)
            return
        self._take_result(result, what)

    def _take_result(self, result: object, what: str) -> None:
        if inspect.iscoroutine(result):
            self.spawn(result, what)

    def spawn(self, coroutine: Coroutine[Any, Any, object], what: str) -> None:
        """Run a coroutine as a task: on the loop of this thread, else on who serves."""
        here = asyncio._get_running_loop()
        if here is not None:
            task = here.create_task(coroutine, name=what)
            self._tasks.add(task)
            task.add_done_callback(self._task_done)
            return
        loop: asyncio.AbstractEventLoop
        with self._lock:
            loop = self.loop or self._start_thread().loop
        try:
            loop.call_soon_threadsafe(self.spawn, coroutine, what)
        except RuntimeError:
            coroutine.close()
            raise

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": f"{task.get_name()} raised", "exception": error, "task": task}
            )

    # Who serves.

    def loop_started(self, loop: EventLoop) -> None:
        self._adopt(loop)

    def loop_ended(self, loop: EventLoop) -> None:
        with self._lock:
            if self.loop is not loop:
                return
            self.loop = None
            self._leave(loop)
            jobs = list(self._jobs)
        # Before the thread, another loop that runs; else lines wait for one that starts only if nobody needs them.
        for other in running.follow(self):
            self._adopt(other)
        if self.loop is None:
            with self._lock:
                self._ensure_served()
            for job in jobs:
                job.carry_on(None)

    def _adopt(self, loop: EventLoop) -> None:
        """Have `loop` serve, if none does and it lives in the board's time. Called in any thread."""
        with self._lock:
            if self._closed or self.loop is not None or getattr(loop, "clock", REAL) is not self.clock:
                return
            self.loop = loop
            if self._thread is not None:
                self._thread.loop.call_soon_threadsafe(self._thread.loop.remove_reader, self._epoll.fileno())
            self._quiet = None
            jobs = list(self._jobs)
        if running.thread_of(loop) == threading.get_ident():
            self._enter(loop)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._enter, loop)
        for job in jobs:
            job.carry_on(loop)

    def _enter(self, loop: EventLoop) -> None:
        if self.loop is loop:
            self._reader = _Reader(self)
            loop.register(self._reader)
            loop.call_soon(self._deliver, loop)

    def _leave(self, loop: EventLoop) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._reader is not None:
            loop.unregister(self._reader)
            self._reader = None

    def _serves(self, server: asyncio.AbstractEventLoop | None) -> bool:
        if self.loop is not None:
            return server is self.loop
        return self._thread is not None and server is self._thread.loop

    def _ensure_served(self) -> None:
        """The lock is held. In virtual time nothing happens without a loop, so nobody has to serve."""
        if self.loop is None and self.clock is REAL and (self._lines or self._pending) and not self._closed:
            thread = self._start_thread()
            thread.loop.call_soon_threadsafe(thread.loop.add_reader, self._epoll.fileno(), self.on_readable)
            thread.loop.call_soon_threadsafe(self._deliver, thread.loop)

    def _start_thread(self) -> _Thread:
        if self._thread is None:
            self._thread = _Thread()
        return self._thread


def _descriptors(stream: EdgeStream) -> list[int]:
    """What is readable when edges wait, and what tells that the device may be gone."""
    return [fd for fd in (stream.fileno(), stream.alarm_fileno()) if fd >= 0]


class _Reader:
    """The epoll set as a source of a loop. Not the dispatch itself, which a loop that closes would close."""

    priority = Priority.INTERRUPT

    def __init__(self, dispatch: Dispatch) -> None:
        self.fileno = dispatch.fileno
        self.on_readable = dispatch.on_readable


class _Thread:
    """The thread that serves while no loop of the program does. It has a loop of its own, for coroutine handlers."""

    def __init__(self) -> None:
        started = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event

        async def main() -> None:
            self.loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
            started.set()
            await self._ended.wait()

        def run() -> None:
            # asyncio's own loop: it is nobody's to follow.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(main())

        self._thread = threading.Thread(target=run, name="hwloop pins", daemon=True)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """End it: now where this is another thread, else when what runs in it has come to its end."""
        self.loop.call_soon_threadsafe(self._ended.set)
        if self._thread is not threading.current_thread():
            self._thread.join(_LONGEST_HANDLER)
