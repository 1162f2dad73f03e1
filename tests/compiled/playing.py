"""One program while it is played: what it has made, and what its actions use (player.py has those)."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import socket
import threading
from typing import Any

from stage import ODD, TICK, Buffered, Noting, Source, Stuck, raised, shown

import hwloop
from hwloop.core.handles import Handle

MOST_ACTIONS = 1500
"""After this many, a program only ends what it has begun."""
DEEPEST = 12
"""Scripts within scripts. How deep calls may nest depends on the core."""


class Playing:
    """One program and what it has made so far. The actions are in the subclass."""

    def __init__(self, staged: bool) -> None:
        self.trace: list[str] = []
        self.transports: list[Any] = []
        self.closing: list[int] = []
        self._staged = staged
        self._actions = 0
        self._names = 0
        self._handles: list[Any] = []
        self._futures: list[Any] = []
        self._sources: list[Source] = []
        self._sockets: list[socket.socket] = []
        self._pipes: list[tuple[int, int]] = []
        self._kept: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._depth = 0
        self.loop: Any = None

    def note(self, *what: object) -> None:
        if self._staged:
            self.trace.append(shown(what))

    def play(self, script: list[Any]) -> None:
        """Play the actions of a callback. One that raises (`raise`) ends it."""
        if self._depth > DEEPEST:
            return
        self._depth += 1
        try:
            for name, *arguments in script:
                self._actions += 1
                if self._actions > MOST_ACTIONS:
                    return
                self._act(name, arguments)
        finally:
            self._depth -= 1

    def _act(self, name: str, arguments: list[Any]) -> None:
        if name == "raise":
            raised(*arguments)
        try:
            result = getattr(self, f"do_{name}")(*arguments)
        except Stuck:
            raise
        except BaseException as error:
            if isinstance(error, SystemError):
                raise
            self.note(name, "raised", error)
        else:
            self.note(name, result)

    def end(self) -> None:
        """Close everything."""
        for thread in self._threads:
            thread.join()
        for sig in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(sig, signal.SIG_IGN)
        for task in self._futures:
            if isinstance(task, asyncio.Task):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._actions = MOST_ACTIONS
        if not self.loop.is_running():
            self.loop.close()
        for each in self._sockets:
            each.close()
        for fd in {fd for pair in self._pipes for fd in pair}.union(self.closing):
            try:
                os.close(fd)
            except OSError:
                pass

    # Values for actions.

    def _callback(self, kind: str, script: list[Any]) -> Any:
        self._names += 1
        name = f"{kind}{self._names}"

        def called(*arguments: object) -> None:
            self.note(name, *arguments)
            self.play(script)

        class Callable:
            __call__ = staticmethod(called)

        match kind:
            case "partial":
                return functools.partial(called, 1)
            case "object":
                return Callable()
            case "class":
                return Callable
            case "c":
                return self._kept.append
            case "gc":
                return lambda *arguments: gc.collect(0)
            case "stop":
                return self.loop.stop
            case "clear":
                return self.loop._ready.clear
            case "again":
                return self.loop.run_forever
            case "close":
                return self.loop.close
            case "once" if not self._staged:  # the sources reach the recursion limit sooner
                return self.loop._run_once
            case "handle":
                return self._handle(len(script)).cancel
            case "run":
                return self._handle(len(script))._run
            case "coroutine":
                return self._steps
        if kind in ODD:
            return ODD[kind]
        return called

    def _handle(self, number: int) -> Any:
        return self._handles[number % len(self._handles)] if self._handles else Handle(print, (), self.loop, None)

    def _future(self, number: int) -> Any:
        return self._futures[number % len(self._futures)] if self._futures else self.loop.create_future()

    def _keep(self, handle: Any) -> Any:
        self._handles.append(handle)
        return handle

    def _time(self, delay: Any) -> Any:
        if isinstance(delay, str):
            return ODD[delay]
        return delay * (TICK if self._staged else 1e-5)

    def _fd(self, number: Any) -> Any:
        if isinstance(number, str):
            return ODD[number]
        fds = [fd for pair in self._pipes for fd in pair] + [each.fileno() for each in self._sockets]
        return fds[number % len(fds)] if fds else 10**6

    async def _steps(self, *steps: list[Any]) -> Any:
        for what, argument, script in steps:
            self.note("step")
            self.play(script)
            match what:
                case "sleep":
                    await asyncio.sleep(self._time(argument))
                case "future":
                    await self._future(argument)
                case "wait":
                    await asyncio.wait_for(asyncio.shield(self._future(argument)), 10 * self._time(argument))
                case "gather":
                    await asyncio.gather(self._future(argument), self._future(argument + 1), return_exceptions=True)
                case "checkpoint":
                    await hwloop.checkpoint()
                case "connect":
                    await self._connect(argument, script)
                case "receive" if self._sockets:
                    sock = self._sockets[argument % len(self._sockets)]
                    self.note(await asyncio.wait_for(self.loop.sock_recv(sock, 10), 1000 * self._time(1)))
                case "raise":
                    raised("value")
        return len(steps)

    async def _connect(self, number: int, script: list[Any]) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._sockets.append(theirs)
        self._names += 1
        kind = Buffered if number % 3 == 0 else Noting
        await self.loop.create_connection(lambda: kind(self, f"protocol{self._names}", script), sock=ours)
