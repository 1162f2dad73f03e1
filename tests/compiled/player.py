"""Plays fuzzed programs on a loop, and writes down everything that can be observed: see fuzz.py, which starts this.

    python player.py        reads programs as lines of JSON, and answers each with its trace, a line of JSON

A program is a list of actions, which are lists of a name and its arguments; the methods `do_…` below are the actions. A
script, where an action takes one, is what a callback does: a list of actions again. On the stage (`"stage": true`),
time moves only as actions and waits say, so that the same program leaves the same trace. Otherwise the loop is an
ordinary one, on the kernel's clock, beside threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import faulthandler
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from playing import MOST_ACTIONS, Playing
from stage import ODD, TICK, Finalized, Noting, OddHandle, Source, Stage, Stuck, raised

import hwloop
from hwloop import Priority

SECONDS = 60.0
"""After which a program hangs, and the process shows where and ends."""
CAN_FORK = "asan" not in os.environ.get("LD_PRELOAD", "")
"""Locks of the sanitizer may be held by another thread, such as faulthandler's, and the child then waits for ever."""
CHILDS_SECONDS = 10.0
"""Seconds of processor time that a forked child may take."""


class Player(Playing):
    """A program and its actions."""

    def __init__(self, staged: bool) -> None:
        super().__init__(staged)
        self.do_new()

    def do_new(self) -> None:
        if self.loop is not None:
            self.loop.close()  # raises while it runs
        self.loop = Stage() if self._staged else hwloop.new_event_loop()
        self.loop.set_exception_handler(self._on_report)

    def _on_report(self, loop: Any, context: dict[str, Any]) -> None:
        self.note("report", context["message"], context.get("exception"), sorted(context))

    def do_take(self, ticks: int) -> None:
        if self._staged:
            self.loop.clock += ticks * TICK

    def do_soon(self, kind: str, script: list[Any], context: str = "") -> Any:
        more: dict[str, Any] = {"context": ODD[context] if context in ODD else contextvars.Context()} if context else {}
        return self._keep(self.loop.call_soon(self._callback(kind, script), len(script), **more))

    def do_threadsafe(self, kind: str, script: list[Any]) -> Any:
        return self._keep(self.loop.call_soon_threadsafe(self._callback(kind, script)))

    def do_later(self, delay: Any, kind: str, script: list[Any]) -> Any:
        return self._keep(self.loop.call_later(self._time(delay), self._callback(kind, script)))

    def do_at(self, delay: Any, kind: str, script: list[Any]) -> Any:
        when = self._time(delay) if isinstance(delay, str) else self.loop.time() + self._time(delay)
        return self._keep(self.loop.call_at(when, self._callback(kind, script), 1, 2, 3))

    def do_urgent(self, priority: Any, kind: str, script: list[Any]) -> Any:
        value = ODD[priority] if isinstance(priority, str) else Priority(priority)
        return self._keep(self.loop.call_soon_priority(value, self._callback(kind, script)))

    def do_deadline(self, delay: Any, priority: int, kind: str, script: list[Any]) -> Any:
        when = self._time(delay) if isinstance(delay, str) else self.loop.time() + self._time(delay)
        callback = self._callback(kind, script)
        return self._keep(self.loop.call_deadline(when, callback, priority=Priority(priority)))

    def do_tolerant(self, delay: Any, tolerance: Any, kind: str, script: list[Any]) -> Any:
        when = self._time(delay) if isinstance(delay, str) else self.loop.time() + self._time(delay)
        callback = self._callback(kind, script)
        return self._keep(self.loop.call_tolerant(when, callback, tolerance=self._time(tolerance)))

    def do_every(self, period: Any, ticks: int, script: list[Any]) -> None:
        def tick() -> None:
            self.note("tick", periodic.ticks)
            if periodic.ticks >= ticks:
                periodic.cancel()
            self.play(script)

        periodic = self.loop.call_every(self._time(period), tick)
        self._kept.append(periodic)

    def do_arguments(self, method: str, count: int) -> Any:
        return getattr(self.loop, method)(*[ODD["object"]] * count)

    def do_cancel(self, number: int) -> None:
        self._handle(number).cancel()

    def do_look(self, number: int) -> Any:
        handle, other = self._handle(number), self._handle(number + 1)
        when = handle.when() if isinstance(handle, asyncio.TimerHandle) else None
        same = handle == other, handle == handle, handle == 3, isinstance(handle, asyncio.Handle)
        order = (handle < other, handle <= other) if when is not None and hasattr(other, "when") else None
        return handle, handle.cancelled(), when, same, order, type(handle).__name__

    def do_run_handle(self, number: int) -> None:
        self._handle(number)._run()

    def do_copy(self, number: int) -> None:
        try:
            copy.copy(self._handle(number))
        except (AttributeError, TypeError):
            pass  # hwloop's can't be copied, for a reason that each core puts in its own words

    def do_odd_handle(self, script: list[Any], which: str) -> None:
        called = self._callback("odd", script)
        make: Any = OddHandle if which == "odd" else asyncio.Handle
        self.loop._ready.append(self._keep(make(called, (), self.loop, contextvars.copy_context())))

    def do_weak(self, number: int, script: list[Any]) -> None:
        self._kept.append(weakref.ref(self._handle(number), lambda dead: self.play(script)))

    def do_drop(self, which: str) -> None:
        getattr(self, f"_{which}").clear()

    def do_finalized(self, script: list[Any]) -> None:
        self._names += 1
        Finalized(self, f"finalized{self._names}", script)

    def do_collect(self) -> None:
        gc.collect()

    def do_queues(self, what: str) -> Any:
        ready = self.loop._ready
        match what:
            case "clear":
                ready.clear()
            case "rotate":
                ready.rotate(1)
            case "iterate":
                return [self.loop.call_soon(each.cancel) and each for each in ready]
            case "timers":
                return self.loop._scheduled
            case "no timers":
                self.loop._scheduled = []
            case "pop":
                return ready.pop()

    # Descriptors, sources and sockets.

    def do_pipe(self) -> None:
        self._pipes.append(os.pipe())

    def do_socket(self) -> None:
        for each in socket.socketpair():
            each.setblocking(False)
            self._sockets.append(each)

    def do_watch(self, direction: str, number: Any, kind: str, script: list[Any]) -> Any:
        return self._keep(getattr(self.loop, f"add_{direction}")(self._fd(number), self._callback(kind, script)))

    def do_unwatch(self, direction: str, number: Any) -> Any:
        return getattr(self.loop, f"remove_{direction}")(self._fd(number))

    def do_make_ready(self, number: int) -> None:
        os.write(self._fd(number), b"!")

    def do_close_fd(self, number: int) -> None:
        if self._pipes:
            for fd in self._pipes.pop(number % len(self._pipes)):
                os.close(fd)

    def do_source(self, priority: int, deadline: Any, script: list[Any]) -> None:
        self._names += 1
        deadline = deadline and self._time(deadline)
        source = Source(self, f"source{self._names}", Priority(priority), deadline, script)
        self._sources.append(source)
        self.loop.register(source)

    def do_happen(self, number: int) -> None:
        if self._sources:
            self._sources[number % len(self._sources)].happen()

    def do_unregister(self, number: int) -> None:
        if self._sources:
            self.loop.unregister(self._sources[number % len(self._sources)])

    def do_transport(self, number: int, what: str, *arguments: Any) -> Any:
        if not self.transports:
            return None
        transport = self.transports[number % len(self.transports)]
        if what == "write":
            return transport.write(bytes(arguments[0]))
        if what == "set_protocol":
            self._names += 1
            return transport.set_protocol(Noting(self, f"protocol{self._names}", arguments[0]))
        if what == "odd":
            return transport.write(ODD[arguments[0]])
        return getattr(transport, what)(*arguments)

    def do_peer(self, number: int, what: str) -> Any:
        if not self._sockets:
            return None
        sock = self._sockets[number % len(self._sockets)]
        match what:
            case "send":
                return sock.send(bytes(100))
            case "flood":
                return sock.send(bytes(300_000))
            case "receive":
                return len(sock.recv(2**20))
            case "shutdown":
                return sock.shutdown(socket.SHUT_WR)
        return sock.close()

    # Futures and tasks.

    def do_future(self) -> Any:
        self._futures.append(self.loop.create_future())

    def do_settle(self, number: int, how: str) -> Any:
        future = self._future(number)
        match how:
            case "result":
                return future.set_result(number)
            case "exception":
                return future.set_exception(ValueError("failed"))
            case "cancel":
                return future.cancel()
        return future.result()

    def do_then(self, number: int, script: list[Any]) -> None:
        self._future(number).add_done_callback(self._callback("then", script))

    def do_task(self, priority: int | None, steps: list[Any]) -> Any:
        work = self._steps(*steps)
        try:
            if priority is None:
                task = self.loop.create_task(work)
            else:
                task = hwloop.create_task(work, priority=Priority(priority), deadline=self._time(50))
        except BaseException:
            work.close()
            raise
        self._futures.append(task)
        return task

    def do_reschedule(self, number: int, priority: int | None, deadline: Any) -> None:
        deadline = None if deadline is None else self._time(deadline)
        hwloop.reschedule(
            self._future(number), priority=None if priority is None else Priority(priority), deadline=deadline
        )

    # Settings, running and closing.

    def do_set_debug(self, on: bool) -> None:
        if not (self._staged and self.loop.is_running()):  # the sources notice it at the next poll, C at the next call
            self.loop.set_debug(on)

    def do_set(self, what: str, value: Any) -> Any:
        return getattr(self.loop, what)(ODD.get(value, value))

    def do_handler(self, kind: str, script: list[Any]) -> None:
        self.loop.set_exception_handler(self._on_report if kind == "own" else self._callback(kind, script))

    def do_deadline_handler(self, script: list[Any]) -> None:
        self.loop.set_deadline_handler(self._callback("missed", script))

    def do_clock(self, how: str) -> None:
        if how == "restore":
            del self.loop.time
        else:
            now = self.loop.time() + 1.0
            self.loop.time = (lambda: now + len(self.trace) * TICK) if how == "moving" else lambda: now

    def do_ask(self, what: str) -> Any:
        match what:
            case "statistics":
                found = self.loop.statistics()
                return found.ready, found.timers, found.descriptors, len(found.sources), found.overruns
            case "repr":
                return repr(self.loop)
            case "tasks":
                return len(asyncio.all_tasks(self.loop))
        return getattr(self.loop, what)()

    def do_stop(self) -> None:
        self.loop.stop()

    def do_run(self, ticks: int) -> Any:
        """Run for a time; where it is running already, this raises."""
        self.loop.call_later(self._time(ticks), self.loop.stop)
        return self.loop.run_forever()

    def do_complete(self, steps: list[Any]) -> Any:
        work = self._steps(*steps)
        try:
            return self.loop.run_until_complete(work)
        finally:
            work.close()

    def do_close(self) -> None:
        self.loop.close()

    # Other threads, processes and signals.

    def do_thread(self, count: int, script: list[Any]) -> None:
        """Call from another thread; on the stage, wait for it."""

        def call() -> None:
            for number in range(count):
                try:
                    self._keep(self.loop.call_soon_threadsafe(self._callback("called", script)))
                    if not self._staged:
                        self._handle(number).cancel()
                        gc.collect(0)
                except RuntimeError as error:
                    self.note("thread", error)

        thread = threading.Thread(target=call)
        thread.start()
        if self._staged:
            thread.join()
        self._threads.append(thread)

    def do_signal(self, script: list[Any]) -> None:
        self.loop.add_signal_handler(signal.SIGUSR1, self._callback("signal", script))

    def do_kill(self) -> None:
        if signal.getsignal(signal.SIGUSR1) not in (signal.SIG_DFL, None):
            os.kill(os.getpid(), signal.SIGUSR1)

    def do_interrupt(self) -> None:
        """Have a signal's handler raise wherever the program then is."""
        signal.signal(signal.SIGUSR2, lambda number, frame: raised("keyboard"))
        os.kill(os.getpid(), signal.SIGUSR2)

    def do_fork(self, script: list[Any]) -> Any:
        if self._threads or not CAN_FORK:
            return None
        pid = os.fork()
        if not pid:
            status = 70
            try:
                # One that never ends is killed: faulthandler's watch and the parent's alarm are not the child's.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_PROF, CHILDS_SECONDS)
                if not self._staged:
                    signal.setitimer(signal.ITIMER_REAL, 0.2)
                self.trace.clear()
                self._actions = max(self._actions, MOST_ACTIONS - 100)
                self.play(script)
                status = 64 + len(self.trace) % 5
            finally:
                os._exit(status)
        return os.waitpid(pid, 0)[1]


class Records(logging.Handler):
    """Notes what is logged."""

    player: Player | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.player is not None:
            self.player.note("log", record.levelname, record.getMessage().partition("\n")[0])


def _on_alarm(number: int, frame: Any) -> None:
    raise Stuck


def play(program: dict[str, Any], records: Records) -> list[str]:
    """Play a program, and return its trace."""
    player = Player(program["stage"])
    if not program["stage"]:
        signal.signal(signal.SIGALRM, _on_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.5, 0.2)
    records.player = player
    gc.set_threshold(*program.get("gc", [0]))  # on the stage, only when an action says so
    try:
        for action in program["actions"]:
            try:
                player.play([action])
            except Stuck:
                player.note("stuck")
            except (SystemError, MemoryError):
                raise
            except BaseException as error:
                player.note("ended by", error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.set_threshold(0)
        player.end()
        records.player = None
    return player.trace


def main() -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda report: None
    records = Records()
    logging.getLogger().addHandler(records)
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        trace = play(json.loads(line), records)
        gc.collect()
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(trace), flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    main()
